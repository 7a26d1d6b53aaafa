"""Models on other paths, with other predictions, levels and weightings than the paper's."""

import keras
import numpy as np
import pytest

from keras_umd import Corruption, guidance, samplers
from keras_umd.corruption import levels, schedules, weightings
from tests.conftest import QUICK, array

pytestmark = pytest.mark.usefixtures("op_by_op")

SETTINGS = {
    "x0 by the loss of v": {
        "schedule": schedules.RectifiedFlow(),
        "noisy_losses": ["x0"],
        "noisy_patches": "all",
        "weighting": weightings.V(max_weight=400),
        "levels": levels.LogitNormal(0.8, 0.8),
    },
    "edm": {
        "schedule": schedules.EDM(),
        "noisy_losses": ["v"],
        "levels": levels.LogNormal(),
        "clean_ratio": 0.0,
        "noisy_mask_ratio": 0.0,
    },
    "v beside x0": {
        "schedule": schedules.Trigonometric(),
        "noisy_losses": ["x0", "v"],
        "levels": levels.Shifted(levels.ContinuousUniform(), 2.0),
    },
    "min-SNR": {"levels": levels.LogSNRNormal(), "weighting": weightings.MinSNR()},
}
IMAGES = np.full((24, 8, 8, 1), 255, "uint8")


@pytest.mark.parametrize("name", ["x0 by the loss of v", "edm", "v beside x0"])
def test_every_path_and_prediction_is_trained(small_model, name):
    model = small_model(num_classes=3, corruption=Corruption(**SETTINGS[name]))
    model.compile(keras.optimizers.Adam(2e-2), **QUICK)
    losses = model.fit(IMAGES, np.arange(24) % 3, batch_size=24, epochs=5, verbose=0).history["loss"]
    assert np.isfinite(losses).all()
    assert losses[-1] < 0.8 * losses[0]


@pytest.mark.host
@pytest.mark.parametrize("name", SETTINGS)
def test_a_saved_model_generates_completes_and_is_fine_tuned_as_before(small_model, tmp_path, name):
    model = small_model(num_classes=3, corruption=Corruption(**SETTINGS[name]))
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    assert again.objective.get_config() == model.objective.get_config()
    settings = {"num_steps": 4, "seed": 0, "sampler": "dpmpp_2m", "guidance": guidance.Interval(2.0, 0.1, 9.0)}
    samples = model.generate([0, 1], **settings)
    np.testing.assert_array_equal(again.generate([0, 1], **settings), samples)
    images = np.random.default_rng(0).integers(0, 256, (2, 8, 8, 1)).astype("uint8")
    mask = np.arange(8).reshape(1, 1, 8, 1) < np.full((1, 8, 1, 1), 4)
    completed = model.inpaint(images, mask, num_steps=4, seed=0, sampler=samplers.Heun())
    np.testing.assert_array_equal(completed[:, :, 4:], images[:, :, 4:])
    if model.corruption.clean_ratio:
        assert model.reconstruct(images, seed=0)["reconstruction"].shape == images.shape
    finetuned = model.with_classes(4)
    assert finetuned.decoder.pixel_predictions == model.decoder.pixel_predictions
    for own, other in zip(finetuned.decoder.weights, model.decoder.weights, strict=True):
        np.testing.assert_array_equal(array(own), array(other))


@pytest.mark.host
def test_one_head_is_half_as_wide_and_other_grids_need_no_other_program(small_model):
    model = small_model(corruption=Corruption(**SETTINGS["x0 by the loss of v"]))
    widths = [m.decoder.head.projection.units for m in (model, small_model())]
    assert widths[1] == 2 * widths[0] == 2 * 4
    for grid in ("uniform", "karras", samplers.ShiftedGrid(2.0), samplers.ShiftedGrid(0.5)):
        model.generate(num_images=2, num_steps=4, seed=0, sampler=samplers.Euler(grid))
    assert len(model.programs) == 1


@pytest.mark.host
def test_the_noise_alone_cannot_start_a_flow(small_model):
    model = small_model(corruption=Corruption.dit(schedule=schedules.RectifiedFlow(), noisy_losses=["eps"]))
    with pytest.raises(ValueError, match="leaves no signal.*read another prediction.*'karras'"):
        model.generate(num_images=1, num_steps=2)
    assert model.generate(num_images=1, num_steps=2, sampler=samplers.Euler("karras"), seed=0).shape == (1, 8, 8, 1)
