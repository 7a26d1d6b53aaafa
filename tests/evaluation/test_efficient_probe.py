"""Attention pooling against a sum in NumPy; tokens in files; what the probe finds that a mean does not."""

import keras
import numpy as np
import pytest

from keras_umd.evaluation import (
    AttentionPooling,
    EfficientProbe,
    FewShotProbe,
    KNNSweep,
    LinearProbe,
    evaluate_representation,
    extract,
    extract_tokens,
    load_tokens,
)
from keras_umd.utils.atomic import DamagedFileError
from tests.conftest import array, assert_close


def test_pooling_is_the_papers_formula():
    rng = np.random.default_rng(0)
    tokens = rng.normal(size=(3, 5, 8))
    layer = AttentionPooling(num_queries=4)
    layer.build(tokens.shape)
    layer.queries.assign(rng.normal(size=(4, 8)))
    queries, value = array(layer.queries).astype("float64"), array(layer.value).astype("float64")
    logits = np.einsum("md,bpd->bmp", queries, tokens) / np.sqrt(8)
    maps = np.exp(logits) / np.exp(logits).sum(axis=2, keepdims=True)
    parts = [np.einsum("bp,bpk->bk", maps[:, j], (tokens @ value)[..., 2 * j : 2 * j + 2]) for j in range(4)]
    inputs = keras.ops.convert_to_tensor(tokens.astype("float32"))
    assert_close(layer(inputs), np.concatenate(parts, axis=1), 1e-5)
    assert_close(layer.maps(inputs), maps, 1e-5)


@pytest.mark.host
def test_queries_that_do_not_divide_the_width_are_refused():
    with pytest.raises(ValueError, match="num_queries=3 and tokens of width 8"):
        AttentionPooling(3)(np.zeros((1, 2, 8), "float32"))


def planted(num_images, seed):
    """Tokens of noise, one of which, anywhere, is marked and tells the class by its sign in another direction."""
    rng = np.random.default_rng(seed)
    tokens = rng.normal(size=(num_images, 16, 8)).astype("float32")
    labels, place = rng.integers(0, 2, num_images), rng.integers(0, 16, num_images)
    tokens[np.arange(num_images), place, 0] = 8.0
    tokens[np.arange(num_images), place, 1] = 1.5 * (2 * labels - 1)
    return tokens, labels, place


@pytest.mark.host
def test_the_probe_finds_one_token_that_a_mean_washes_out():
    (tokens, labels, _), (others, other_labels, place) = planted(400, 0), planted(200, 1)
    probe = EfficientProbe(num_queries=4, epochs=15, batch_size=50, learning_rate=0.03)
    (found,) = probe.accuracies((tokens, labels), (others, other_labels))
    means = (tokens.mean(axis=1), labels), (others.mean(axis=1), other_labels)
    (washed_out,) = FewShotProbe(shots=None, l2=1.0).accuracies(*means)
    assert found > 0.93 and washed_out < 0.75
    maps = probe.attention_maps(others)
    np.testing.assert_allclose(maps.sum(axis=2), 1, rtol=1e-5)
    assert np.max(np.mean(maps.argmax(axis=2) == place[:, None], axis=0)) > 0.9  # one query looks there


@pytest.mark.host
def test_tokens_in_a_file_are_those_in_memory(small_model, images, labels, tmp_path):
    encoder = small_model().feature_extractor(pooling=None)
    memory = extract_tokens(encoder, (images, labels), batch_size=10)
    file = extract_tokens(encoder, (images, labels), tmp_path / "tokens", batch_size=7)
    assert isinstance(file.features, np.memmap) and file.features.dtype == np.float16
    assert file.features.shape == (24, 16, 16)
    np.testing.assert_allclose(file.features, encoder.predict(images, verbose=0), atol=2e-3)
    np.testing.assert_allclose(file.features, memory.features, atol=2e-3)
    np.testing.assert_array_equal(file.labels, labels)
    pooled = extract(small_model().feature_extractor(), (images, labels))
    assert file.digest == memory.digest == pooled.digest
    loaded = load_tokens(tmp_path / "tokens")
    np.testing.assert_array_equal(loaded.features, file.features)
    probe = EfficientProbe(4, epochs=2, batch_size=8)
    pairs = [(np.array(loaded.features), labels), (loaded.features, labels)]  # the same numbers, from both places
    assert probe.accuracies(pairs[0], pairs[0]) == probe.accuracies(pairs[1], pairs[1])
    with pytest.raises(ValueError, match="has tokens already"):
        extract_tokens(encoder, (images, labels), tmp_path / "tokens")
    path = tmp_path / "tokens" / "tokens.npy"
    values = bytearray(path.read_bytes())
    values[-1] ^= 1
    path.write_bytes(values)
    with pytest.raises(DamagedFileError, match="tokens.npy"):
        load_tokens(tmp_path / "tokens")


@pytest.mark.host
def test_tokens_without_labels_and_encoders_without_tokens(small_model, images, tmp_path):
    model = small_model()
    tokens = extract_tokens(model.feature_extractor(pooling=None), images, tmp_path / "tokens")
    assert tokens.labels is None and len(tokens) == 24
    with pytest.raises(ValueError, match="must return tokens"):
        extract_tokens(model.feature_extractor(), images, tmp_path / "none")
    assert not (tmp_path / "none" / "manifest.json").exists()
    with pytest.raises(ValueError, match="no images"):
        extract_tokens(model.feature_extractor(pooling=None), images[:0], tmp_path / "empty")


@pytest.mark.host
def test_one_call_gives_the_three_rows(small_model, images, labels, tmp_path):
    model = small_model()
    pair = (images[:16], labels[:16]), (images[16:], labels[16:])
    probes = {
        "neighbours": KNNSweep(ks=(1, 3), temperatures=(0.07,)),
        "linear": LinearProbe(epochs=1, batch_size=8),
        "efficient": EfficientProbe(4, epochs=1, batch_size=8),
    }
    table = evaluate_representation(model, {"random": pair}, directory=tmp_path, verbose=False, **probes)
    assert table.columns == ["data", "best k-NN accuracy", "linear accuracy", "efficient probe accuracy"]
    features = [extract(model.feature_extractor(), part) for part in pair]
    tokens = [load_tokens(tmp_path / "random" / name) for name in ("train", "test")]
    for probe, sets in zip(probes.values(), (features, features, tokens), strict=True):
        expected = probe.accuracies(*((x.features, x.labels) for x in sets))
        assert table[0][probe.name].value == pytest.approx(expected[0])
    card = table[0]["efficient probe accuracy"].card
    assert card["protocol"]["probe"]["num_queries"] == 4 and card["subject"]["pooling"] is None
