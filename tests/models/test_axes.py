"""Models of signals, volumes and clips: one, three and four numbers where an image has height and width."""

import keras
import numpy as np
import pytest

from keras_umd import UMD
from tests.conftest import QUICK, array, assert_close, trained_like

on_torch = pytest.mark.backends("torch")
SIZES = {"hidden_dim": 16, "num_layers": 1, "num_heads": 2, "decoder_layers": 1, "dtype": "float32", "seed": 0}
JIT = False if keras.backend.backend() == "tensorflow" else "auto"  # XLA would take long to compile there


def pair_of(kind):
    """A model of images, one of the same with another number of axes, and a function between their images."""
    if kind == "a frame":
        shapes, patches = ((8, 12, 2), (1, 8, 12, 2)), (2, (1, 2, 2))
    else:
        shapes, patches = ((32, 1, 2), (32, 2)), ((4, 1), 4)
    models = [UMD(shape, patch, **SIZES, value_range=None) for shape, patch in zip(shapes, patches, strict=True)]
    trained_like(models[0])
    models[1].set_weights(models[0].get_weights())
    return models, lambda images: images.reshape(len(images), *shapes[1])


def loss_and_gradients(model, x, y):
    import torch

    value = model.compute_loss(x, y, model(x))
    return [array(value), *map(array, torch.autograd.grad(value, [v.value for v in model.trainable_variables]))]


@on_torch  # which runs as tests can look at it; compiled programs, below, round in other places
@pytest.mark.parametrize("kind", ["a frame", "a signal"])
def test_an_axis_of_size_one_changes_no_bit_of_features_losses_and_gradients(kind):
    models, other = pair_of(kind)
    images = np.random.default_rng(0).normal(size=(4, *models[0].image_shape)).astype("float32")
    draws = models[0].corruption.draw(images.shape, models[0].patch_size, seed=0)
    results = []
    for model, x in zip(models, (images, other(images)), strict=True):
        noise = draws["noise"] if model is models[0] else other(array(draws["noise"]))
        views, targets = model.make_views(x, draws={**draws, "noise": noise})
        outputs = keras.tree.map_structure(array, keras.tree.flatten(model(views)))
        results.append([array(model.encode(x)), *outputs, *loss_and_gradients(model, views, targets)])
    assert len(results[0]) > 20
    for ours, theirs in zip(*results, strict=True):
        np.testing.assert_array_equal(theirs.reshape(ours.shape), ours)


@pytest.mark.parametrize("kind", ["a frame", pytest.param("a signal", marks=on_torch)])
def test_an_axis_of_size_one_changes_nothing_in_compiled_programs(kind):
    models, other = pair_of(kind)
    images = np.random.default_rng(0).normal(size=(4, *models[0].image_shape)).astype("float32")
    settings = {"num_images": 2, "num_steps": 3, "seed": 0}
    samples = [model.generate(**settings) for model in models]
    np.testing.assert_allclose(samples[1], other(samples[0]), rtol=1e-5, atol=1e-5)
    for model, x in zip(models, (images, other(images)), strict=True):
        model.compile(keras.optimizers.SGD(1.0), jit_compile=JIT)
        model.initial = model.predict(x, verbose=0)
        # With the same seed, and so the same noise and masks.
        model.logs = model.fit(x, batch_size=4, shuffle=False, verbose=0).history
    np.testing.assert_allclose(models[1].initial, models[0].initial, rtol=1e-6, atol=1e-6)
    for name, loss in models[0].logs.items():
        np.testing.assert_allclose(models[1].logs[name], loss, rtol=1e-6)
    for variable, expected in zip(models[1].network_weights, models[0].network_weights, strict=True):
        assert_close(variable, array(expected).reshape(variable.shape), 1e-6)  # the step is the gradient


KINDS = {
    "a volume": ((4, 4, 6, 2), 2),
    "a clip": ((3, 8, 8, 3), (1, 4, 4)),
    "a signal": ((16, 2), 4),
    "four axes": ((2, 2, 4, 4, 1), (1, 1, 2, 2)),
}


@pytest.mark.parametrize(
    "value_range", [pytest.param(None, id="floats"), pytest.param((-1.0, 1.0), id="uint8", marks=on_torch)]
)
@pytest.mark.parametrize(
    "kind", ["a signal", *(pytest.param(kind, marks=on_torch) for kind in KINDS if kind != "a signal")]
)
def test_volumes_and_clips_are_trained_on_encoded_completed_and_generated(kind, value_range):
    shape, patch_size = KINDS[kind]
    rng = np.random.default_rng(0)
    data = rng.normal(size=(4, *shape)).astype("float32")
    if value_range is not None:
        data = rng.integers(0, 256, data.shape).astype("uint8")
    model = UMD(shape, patch_size, **SIZES, value_range=value_range)
    model.compile("sgd", **QUICK)
    assert np.isfinite(model.fit(data, batch_size=4, verbose=0).history["loss"][0])
    assert tuple(model.encode(data).shape) == (4, 16) == model.predict(data, verbose=0).shape
    assert tuple(model.feature_extractor()(data).shape) == (4, 16)
    result = model.reconstruct(data, mask_ratio=0.5, seed=0)
    mask = np.broadcast_to(result["mask"], data.shape)
    assert result["mask"].shape == (4, *shape[:-1], 1) and mask.mean() == 0.5
    np.testing.assert_array_equal(result["reconstruction"][~mask], data[~mask])
    samples = model.generate(num_images=2, num_steps=2, seed=0)
    assert (samples.shape, samples.dtype) == ((2, *shape), data.dtype)
    assert np.all(np.isfinite(samples)) and np.any(samples[0] != samples[1])
    assert model.trajectory(num_images=2, num_steps=2, num_frames=3).shape == (3, 2, *shape)
    hidden = np.zeros((1, *shape[:-1], 1), bool)
    hidden[:, : shape[0] // 2] = True
    completed = model.inpaint(data, hidden, num_steps=2, seed=0)
    kept = ~np.broadcast_to(hidden, data.shape)
    np.testing.assert_array_equal(completed[kept], data[kept])
    assert np.any(completed != data)


@pytest.mark.host
def test_wrong_shapes_are_named_by_their_axes():
    with pytest.raises(ValueError, match=r"rank 3, \(batch, length, channels\)"):
        UMD((16, 2), 4, **SIZES).encode(np.zeros((16, 2), "float32"))
    clips = UMD((3, 8, 8, 1), (1, 4, 4), **{**SIZES, "hidden_dim": 32})
    with pytest.raises(ValueError, match=r"rank 5, \(batch, 3 space axes, channels\)"):
        clips.encode(np.zeros((3, 8, 8, 1), "float32"))
    with pytest.raises(ValueError, match=r"\(batch, 3, 8, 8, 1\).*\(2, 8, 3, 8, 1\)"):
        clips.encode(np.zeros((2, 8, 3, 8, 1), "float32"))
    with pytest.raises(ValueError, match=r"\(2 or 1, 3, 8, 8, 1\).*\(1, 8, 8, 1\)"):
        clips.inpaint(np.zeros((2, 3, 8, 8, 1), "uint8"), np.ones((1, 8, 8, 1), bool), num_steps=1)
