"""Weights that diverged give errors, not black images and scores."""

import numpy as np
import pytest

from keras_umd import evaluation, generate_to
from tests.conftest import QUICK

pytestmark = pytest.mark.usefixtures("op_by_op")


@pytest.fixture
def diverged(shared_model):
    model = shared_model({"optimizer": "sgd", **QUICK})
    tokens = model.encoder.cls_tokens
    tokens.assign(np.full(tokens.shape, np.nan))
    return model


USES = {
    "generate": lambda model, images, path: model.generate(num_images=2, num_steps=2, seed=0),
    "trajectory": lambda model, images, path: model.trajectory(num_images=2, num_steps=2, num_frames=2, seed=0),
    "generate_to": lambda model, images, path: generate_to(model, path, num_images=2, num_steps=2, verbose=False),
    "encode": lambda model, images, path: model.encode(images),
    "predict": lambda model, images, path: model.predict(images, verbose=0),
    "reconstruct": lambda model, images, path: model.reconstruct(images, seed=0),
    "inpaint": lambda model, images, path: model.inpaint(images, np.ones((1, 8, 8, 1), bool), num_steps=2),
    "extract": lambda model, images, path: evaluation.extract(model.feature_extractor(), images),
}
# The others look at what comes out of programs in the same way: as NumPy arrays, as "predict" does.
TENSORS_AND_ARRAYS = ("encode", "predict")


@pytest.mark.parametrize(
    "use",
    [
        pytest.param(use, id=name, marks=() if name in TENSORS_AND_ARRAYS else pytest.mark.host)
        for name, use in USES.items()
    ],
)
def test_what_is_not_finite_raises(diverged, images, tmp_path, use):
    with pytest.raises(ValueError, match="finite"):
        use(diverged, images[:4], tmp_path / "samples")
    assert not list(tmp_path.glob("samples/*.npz"))


@pytest.mark.host
def test_a_generator_of_nothing_gets_no_score(diverged, small_model, images):
    network = small_model().feature_extractor(pooling="mean")
    reference = evaluation.Reference.of(network, images, verbose=False)
    with pytest.raises(ValueError, match="samples of the model aren't finite"):
        evaluation.evaluate_generator(diverged, reference, network, num_images=4, num_steps=2, verbose=False)


@pytest.mark.host
@pytest.mark.parametrize("probe", [evaluation.FewShotProbe(2), evaluation.KNNProbe(3), evaluation.LinearProbe(1)])
@pytest.mark.parametrize("where", [0, 1])
def test_probes_refuse_features_that_are_not_finite(probe, where):
    rng = np.random.default_rng(0)
    sets = [(rng.normal(size=(20, 4)), np.arange(20) % 3) for _ in range(2)]
    sets[where][0][3, 1] = np.inf
    with pytest.raises(ValueError, match="Features must be finite.* 1 of 20"):
        probe.accuracies(*sets)
