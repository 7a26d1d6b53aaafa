"""Samplers on a path that ends in noise alone, where the factor of the image is 0."""

import types

import numpy as np
import pytest
from keras import ops

from keras_umd import Corruption, Objective
from keras_umd.sampling.samplers import DDIM, DPMSolverPP2M, Heun
from keras_umd.sampling.settings import Settings
from tests.conftest import array

MEAN, DEVIATION = 0.4, 0.3
SAMPLERS = [DDIM(0.0), DDIM(1.0), DPMSolverPP2M("uniform"), Heun("uniform")]
NAMES = ["ddim0", "ddim1", "dpmpp_2m", "heun"]


class StraightPath:
    """x_t = (1 - t) x_0 + t noise, with t up to 1: another variance on the way, and no signal at its end."""

    num_timesteps = 1000

    def levels(self, timesteps):
        t = np.asarray(timesteps, "float64") / self.num_timesteps
        return {"timestep": t * self.num_timesteps, "signal": 1 - t, "sigma": t}


def ideal_denoiser(x, timestep):
    """The best prediction for data from N(MEAN, DEVIATION^2)."""
    sigma = timestep / StraightPath.num_timesteps
    signal = 1 - sigma
    centred = (x - signal * MEAN) / (signal**2 * DEVIATION**2 + sigma**2)
    return MEAN + signal * DEVIATION**2 * centred, sigma * centred


@pytest.mark.parametrize("sampler", SAMPLERS, ids=NAMES)
@pytest.mark.parametrize("num_steps", [2, *(pytest.param(n, marks=pytest.mark.host) for n in (1, 3, 10))])
def test_all_rows_are_finite_and_a_known_image_is_reached(sampler, num_steps):
    schedule, image = StraightPath(), np.array([[0.5, -0.25]], "float32")

    def denoise(x, timestep):
        sigma = timestep / schedule.num_timesteps
        return ops.convert_to_tensor(image), (x - (1 - sigma) * image) / sigma

    rows = sampler.rows(num_steps, schedule)
    assert rows["signal"][0] == 0
    assert all(np.all(np.isfinite(column)) for column in rows.values())
    sample = sampler.sample(denoise, np.array([[1.0, -2.0]], "float32"), schedule, num_steps, seed=0)
    np.testing.assert_allclose(array(sample), image, atol=1e-5)


@pytest.mark.host
@pytest.mark.parametrize(
    ("sampler", "order"),
    [(lambda timesteps: DDIM(0.0, timesteps), 1), (DPMSolverPP2M, 2), (Heun, 2)],
    ids=["ddim", "dpmpp_2m", "heun"],
)
def test_order_of_convergence_from_no_signal_on(sampler, order):
    """Where a Gaussian's points go is known: x keeps its place in units of the deviation. The last step is left out."""
    schedule, last = StraightPath(), 200.0

    def error(num_times):
        walk = sampler(np.linspace(1000, last, num_times))
        rows = {name: ops.convert_to_tensor(column) for name, column in walk.rows(None, schedule).items()}
        frames = walk.loop(
            lambda x, row, i: ideal_denoiser(x, ops.reshape(row["timestep"], (1,))),
            None,
            ops.ones((1, 1)),
            rows,
            num_frames=rows["timestep"].shape[0] + 1,
        )
        signal, sigma = 1 - last / 1000, last / 1000
        expected = signal * MEAN + np.sqrt(signal**2 * DEVIATION**2 + sigma**2)
        return abs(array(frames)[-2, 0, 0] - expected)

    errors = np.array([error(n) for n in (17, 33, 65)])
    np.testing.assert_allclose(np.log2(errors[:-1] / errors[1:]), order, atol=0.35)


@pytest.mark.host
@pytest.mark.parametrize("sampler", SAMPLERS, ids=NAMES)
def test_gaussian_data_is_sampled_with_its_mean_and_variance(sampler):
    x_T = np.random.default_rng(0).normal(size=(4000, 2)).astype("float32")
    samples = array(sampler.sample(ideal_denoiser, x_T, StraightPath(), num_steps=100, seed=0))
    np.testing.assert_allclose(samples.mean(), MEAN, atol=0.02)
    np.testing.assert_allclose(samples.std(), DEVIATION, rtol=0.05)
    np.testing.assert_allclose(np.corrcoef(samples.T)[0, 1], 0, atol=0.06)


def test_clipping_needs_no_signal():
    for sampler in SAMPLERS:
        x_T = np.random.default_rng(0).normal(size=(50, 2)).astype("float32")
        sample = array(sampler.sample(lambda x, t: (3 * x, x), x_T, StraightPath(), 5, seed=0, clip_range=(-1.0, 0.5)))
        np.testing.assert_allclose((sample.min(), sample.max()), (-1.0, 0.5), atol=1e-5)


def test_the_noise_alone_is_refused_where_no_signal_is_left():
    objective = Objective.denoising(Corruption.dit())
    by_noise = objective.prediction("eps", ["noisy"]).needs_signal
    with pytest.raises(ValueError, match="timestep 1000 .*no signal.*predict_from='eps'"):
        Settings(num_steps=5, predict_from="eps").rows(StraightPath(), needs_signal=by_noise)
    lower = Settings(num_steps=5, sampler=DDIM(timesteps=[999, 500, 90, 5, 1]))
    assert len(lower.rows(StraightPath(), needs_signal=by_noise)["signal"]) == 5
    for other in ("x0", "both"):
        needs_signal = objective.prediction(other, ["noisy"]).needs_signal
        assert Settings(num_steps=5).rows(StraightPath(), needs_signal=needs_signal)["signal"][0] == 0


ON_EACH_BACKEND = {("guided", "x0"), ("known pixels", "both")}  # with all that the others have
WAYS = [(kind, head) for kind in ("plain", "guided", "known pixels") for head in ("x0", "both")]


@pytest.mark.usefixtures("op_by_op")
@pytest.mark.parametrize(
    ("kind", "predict_from"),
    [way if way in ON_EACH_BACKEND else pytest.param(*way, marks=pytest.mark.backends("torch")) for way in WAYS],
)
def test_a_model_samples_from_no_signal_on(small_model, monkeypatch, predict_from, kind):
    """With a network that always predicts one image, whatever the noise, that image comes out."""
    model = small_model(num_classes=3, value_range=None, corruption=Corruption.dit())
    model.corruption.noise_schedule = types.SimpleNamespace(num_timesteps=1000, levels=StraightPath().levels)

    def constant(model, x, names, **condition):
        return {"x0": 0.0 * x + 0.25, "eps": x}

    monkeypatch.setattr("keras_umd.sampling.program.predict", constant)
    settings = {"num_steps": 4, "sampler": "ddim", "seed": 0, "predict_from": predict_from}
    if kind == "known pixels":
        mask = np.arange(8).reshape(1, 1, 8, 1) < np.full((1, 8, 1, 1), 5)
        images = np.full((2, 8, 8, 1), -0.5, "float32")
        sample = model.inpaint(images, mask, **settings)
        assert np.all(sample[:, :, 5:] == -0.5)
        sample = sample[:, :, :5]
    else:
        guided = {"labels": [0, 1], "guidance": 3.0} if kind == "guided" else {"num_images": 2}
        sample = model.generate(**guided, **settings)
    assert np.all(np.isfinite(sample))
    if predict_from == "x0":
        np.testing.assert_allclose(sample, 0.25, atol=1e-5)
