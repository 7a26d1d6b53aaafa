import numpy as np
import pytest

from keras_umd.evaluation import TRANSFER, FewShotProbe, evaluate_features, transfer_datasets
from tests.evaluation.test_features import mean_model

pytestmark = pytest.mark.host


@pytest.fixture
def prepared(tmp_path):
    """CIFAR-100 in TFDS' own format, with images of two classes that the mean tells apart."""
    tfds = pytest.importorskip("tensorflow_datasets")
    builder = tfds.builder("cifar100", data_dir=str(tmp_path))

    def generate(count):
        for i in range(count):
            image = np.full((32, 32, 3), 50 + 100 * (i % 2) + i, "uint8")
            yield str(i), {"image": image, "label": i % 2, "coarse_label": 0, "id": str(i)}

    builder._split_generators = lambda *_: {"train": generate(24), "test": generate(6)}
    builder.download_and_prepare(download_config=tfds.download.DownloadConfig(verify_ssl=False))
    return str(tmp_path)


def test_the_papers_data_sets_through_tfds(prepared):
    assert len(TRANSFER) == 8
    datasets = transfer_datasets(8, batch_size=5, names=["CIFAR-100"], data_dir=prepared)
    table = evaluate_features(mean_model((8, 8, 3)), datasets, [FewShotProbe(shots=10, num_draws=1)], verbose=False)
    assert table[0]["data"] == "CIFAR-100" and table[0]["10-shot accuracy"].value == 1.0
    assert table[0]["10-shot accuracy"].protocol["num_test"] == 6


def test_what_is_not_there_is_named(tmp_path):
    pytest.importorskip("tensorflow_datasets")
    with pytest.raises(ValueError, match="MNIST"):
        transfer_datasets(8, names=["MNIST"])
    datasets = transfer_datasets(8, names=["DTD"], data_dir=str(tmp_path))  # opened when it is its turn
    with pytest.raises(ValueError, match="prepared first.*'dtd'"):
        evaluate_features(mean_model((8, 8, 3)), datasets, verbose=False)
