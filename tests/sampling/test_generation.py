"""From noise to images: what is sampled, how it is guided, completed and reproduced."""

import dataclasses
import inspect
import os
import shutil
import subprocess
import sys

import keras
import numpy as np
import pytest
from keras import ops

from keras_umd import UMD, Corruption, guidance, recipes, samplers
from keras_umd.sampling import denoiser
from keras_umd.sampling.settings import Settings
from tests.conftest import QUICK_STEP, array, trained_like

SHAPE = (8, 8, 1)


@pytest.fixture
def latent_model(shared_model):
    """Without clipping and rounding, so that floats can be compared; both heads are trained on all patches."""
    return trained_like(shared_model(num_classes=3, value_range=None, corruption=Corruption.dit(schedule="linear")))


@pytest.fixture
def new_latent_model(small_model):
    """As `latent_model`, for a test that changes what its programs compute."""
    return trained_like(small_model(num_classes=3, value_range=None, corruption=Corruption.dit(schedule="linear")))


@pytest.fixture
def noise():
    return np.random.default_rng(0).normal(size=(4, *SHAPE)).astype("float32")


def ddim_by_hand(model, noise, labels, timesteps, scales, weak_model=None):
    """Deterministic DDIM on the noise head, a call at a time in NumPy; the weak model defaults to the null label."""
    alpha_bar = model.corruption.noise_schedule.alpha_bar
    null = None if weak_model else np.full(len(labels), model.num_classes)
    weak_model, weak_labels = (weak_model, labels) if weak_model else (model, null)

    def predict(network, x, timestep, labels):
        prediction = network.estimate(ops.convert_to_tensor(x), ops.full((1,), timestep), ops.convert_to_tensor(labels))
        return array(prediction["eps"])

    x = noise
    for timestep, after, scale in zip(timesteps, [*timesteps[1:], 0], scales, strict=True):
        weak, strong = predict(weak_model, x, timestep, weak_labels), predict(model, x, timestep, labels)
        predicted = weak + scale * (strong - weak)
        x0 = (x - np.sqrt(1 - alpha_bar[timestep]) * predicted) / np.sqrt(alpha_bar[timestep])
        x = np.sqrt(alpha_bar[after]) * x0 + np.sqrt(1 - alpha_bar[after]) * predicted
    return x


TIMESTEPS = [900, 600, 300, 50]


KINDS = ("none", "constant", "interval", "weak model")
# Tokens in another place, guided in the same way.
BY_TOKEN = [("constant", "token")]
BY_TOKEN += [pytest.param(kind, "token", marks=pytest.mark.backends("torch")) for kind in KINDS if kind != "constant"]


@pytest.mark.parametrize(("kind", "conditioning"), [*((kind, "adaln_zero") for kind in KINDS), *BY_TOKEN])
def test_the_compiled_loop_equals_the_network_called_by_hand(shared_model, noise, conditioning, kind):
    corruption = Corruption.dit(schedule="linear")
    model = trained_like(
        shared_model(num_classes=3, value_range=None, corruption=corruption, conditioning=conditioning)
    )
    weak_model = trained_like(shared_model(num_classes=3, value_range=None, corruption=corruption, hidden_dim=8))
    labels = np.array([2, 0, 2, 1], "int32")
    ratio = np.sqrt(1 / model.corruption.noise_schedule.alpha_bar[TIMESTEPS] - 1)
    chosen, scales = {
        "none": (None, [1, 1, 1, 1]),
        "constant": (guidance.Constant(3.0), [3, 3, 3, 3]),
        "interval": (guidance.Interval(3.0, ratio[2] * 0.9, ratio[1] * 1.1), [1, 3, 3, 1]),
        "weak model": (guidance.Constant(2.0, weak_model=weak_model), [2, 2, 2, 2]),
    }[kind]
    sample = model.generate(labels, initial_noise=noise, sampler=samplers.DDIM(0.0, TIMESTEPS), guidance=chosen)
    expected = ddim_by_hand(model, noise, labels, TIMESTEPS, scales, weak_model if kind == "weak model" else None)
    np.testing.assert_allclose(sample, expected, atol=2e-4 * np.abs(expected).max())


@pytest.mark.usefixtures("op_by_op")
def test_modulations_that_do_not_fit_are_computed_in_each_step(new_latent_model, noise, monkeypatch):
    arguments = {"labels": [0, 1, 2, 0], "initial_noise": noise, "num_steps": 4, "sampler": 0.0, "guidance": 2.0}
    expected = new_latent_model.generate(**arguments)
    monkeypatch.setattr("keras_umd.sampling.denoiser.MAX_MODULATIONS", 0)
    new_latent_model.programs.clear()
    np.testing.assert_allclose(new_latent_model.generate(**arguments), expected, atol=1e-4)


@pytest.mark.usefixtures("op_by_op")
def test_either_head_can_be_read_or_both(latent_model, noise):
    """One step returns x_0: predicted, implied by the predicted noise, which is the default, or by the v of both."""
    timesteps = ops.full((1,), 700)
    prediction = latent_model.estimate(ops.convert_to_tensor(noise), timesteps)
    alpha_bar = latent_model.corruption.noise_schedule.alpha_bar[700]
    implied = (noise - np.sqrt(1 - alpha_bar) * array(prediction["eps"])) / np.sqrt(alpha_bar)
    v = np.sqrt(alpha_bar) * array(prediction["eps"]) - np.sqrt(1 - alpha_bar) * array(prediction["x0"])
    of_both = np.sqrt(alpha_bar) * noise - np.sqrt(1 - alpha_bar) * v
    arguments = {"initial_noise": noise, "sampler": samplers.DDIM(0.0, [700])}
    heads = (("x0", array(prediction["x0"])), ("both", of_both), ("eps", implied), (None, implied))
    for head, expected in heads:
        sample = latent_model.generate(**arguments, **({"predict_from": head} if head else {}))
        np.testing.assert_allclose(sample, expected, atol=1e-3)


@pytest.mark.parametrize("name", ["ddim", "dpmpp_2m", "heun"])
def test_every_sampler_generates_uint8_images_that_follow_the_seed(shared_model, name):
    model = trained_like(shared_model(num_classes=3))
    arguments = {"labels": [0, 1, 2], "num_steps": 4, "sampler": name}
    first = model.generate(**arguments, seed=0)
    assert first.shape == (3, *SHAPE)
    assert first.dtype == np.uint8
    np.testing.assert_array_equal(first, model.generate(**arguments, seed=0))
    assert np.any(first != model.generate(**arguments, seed=1))
    assert np.any(first != model.generate(**{**arguments, "labels": [1, 1, 1]}, seed=0))
    if name == "ddim" or keras.backend.backend() == "torch":  # another program, in which the sampler is the same
        assert np.any(first != model.generate(**arguments, seed=0, guidance=3.0))


def test_an_image_is_the_same_in_a_batch_of_any_size(shared_model):
    """At most one grey level on a thousandth of the values, since matrix products round differently."""
    model = trained_like(shared_model(num_classes=3))
    labels = np.arange(12) % 3
    arguments = {"num_steps": 20, "guidance": 2.0, "seed": 0}
    together = model.generate(labels, **arguments).astype(int)
    for batch in (1, 4):
        parts = [np.arange(12)[i : i + batch] for i in range(0, 12, batch)]
        apart = np.concatenate([model.generate(labels[i], image_indices=i, **arguments) for i in parts])
        difference = np.abs(apart - together)
        assert difference.max() <= 1
        assert (difference > 0).mean() <= 1e-3


def test_calls_of_one_kind_share_one_program(small_model):
    model = trained_like(small_model(num_classes=3))
    model.track_average(0.5)
    for labels, scale, seed in (([0, 1], 2.0, 0), ([2, 2], 5.0, 1)):
        for weights in ("raw", "average"):
            model.generate(labels, num_steps=3, guidance=scale, seed=seed, weights=weights)
        for variable in model.trainable_variables:
            variable.assign(array(variable) * 0.9)
    assert len(model.programs) == 1
    model.generate([0, 1], num_steps=3)
    assert len(model.programs) == 2


class Damped(samplers.DDIM):
    """A user's own, whose `get_config` knows nothing of its setting."""

    def __init__(self, factor):
        super().__init__(0.0)
        self.factor = factor

    def get_config(self):
        return {"eta": self.eta, "timesteps": self.timesteps}

    def step(self, x_t, memory, x0, eps, fresh_noise, row):
        factor = self.factor if np.isscalar(self.factor) else self.factor["x0"]
        return super().step(x_t, memory, factor * x0, eps, fresh_noise, row)


@pytest.mark.host
@pytest.mark.parametrize("wrap", [lambda factor: factor, lambda factor: {"x0": factor}], ids=["number", "dictionary"])
def test_another_setting_of_an_own_sampler_is_another_program(latent_model, noise, wrap):
    latent_model.programs.clear()
    samples = [
        latent_model.generate(initial_noise=noise, num_steps=2, sampler=Damped(wrap(factor)))
        for factor in (1.0, 0.5, 1.0)
    ]
    assert np.abs(samples[0] - samples[1]).max() > 0.1
    np.testing.assert_array_equal(samples[0], samples[2])
    assert len(latent_model.programs) == (2 if np.isscalar(wrap(1.0)) else 3)


@pytest.mark.host
def test_batches_of_every_call_change_no_image_and_share_a_program(small_model, images):
    """The last batch is filled up. At most one grey level on a hundredth of the values, as of other batches."""
    model = trained_like(small_model(num_classes=3))
    labels, mask = np.arange(7) % 3, np.zeros((7, 8, 8, 1), bool)
    mask[:, 2:5] = True
    settings = {"num_steps": 3, "guidance": 2.0, "seed": 0}
    noise, moved = np.random.default_rng(0).normal(size=(7, *SHAPE)).astype("float32"), np.arange(7) + 3
    calls = [
        lambda **batched: model.generate(labels, **settings, **batched),
        lambda **batched: model.generate(labels, initial_noise=noise, image_indices=moved, **settings, **batched),
        lambda **batched: model.inpaint(images[:7], mask, labels, **settings, **batched),
        lambda **batched: model.inpaint(images[:7], mask[:1], labels, **settings, **batched),
        lambda **batched: model.denoise(noise, 500, labels, **settings, **batched),
        lambda **batched: model.trajectory(labels, num_frames=3, **settings, **batched),
    ]
    for call in calls:
        model.programs.clear()
        together = call().astype(int)
        apart = call(batch_size=3).astype(int)
        assert apart.shape == together.shape
        assert len(model.programs) == 2
        assert np.abs(apart - together).max() <= 1
        assert (apart != together).mean() <= 1e-2


def test_batches_change_no_image_and_share_a_program(small_model):
    """As every call above, on each backend."""
    model, labels = trained_like(small_model(num_classes=3)), np.arange(7) % 3
    together = model.generate(labels, num_steps=3, guidance=2.0, seed=0).astype(int)
    apart = model.generate(labels, num_steps=3, guidance=2.0, seed=0, batch_size=3).astype(int)
    assert len(model.programs) == 2
    assert np.abs(apart - together).max() <= 1
    assert (apart != together).mean() <= 1e-2


@pytest.mark.host
def test_batches_may_be_larger_than_the_number_of_images(small_model):
    model = trained_like(small_model())
    expected = model.generate(num_images=2, num_steps=2, seed=0)
    np.testing.assert_array_equal(model.generate(num_images=2, num_steps=2, seed=0, batch_size=64), expected)
    assert len(model.programs) == 1


@pytest.mark.host
@pytest.mark.parametrize("logging", [True, False])
def test_a_bar_shows_how_many_images_are_done(small_model, capsys, logging):
    model, arguments = small_model(), {"num_images": 5, "num_steps": 1, "batch_size": 2}
    model.generate(**arguments)
    assert "5/5" not in capsys.readouterr().out
    was_on = keras.config.is_interactive_logging_enabled()
    (keras.config.enable_interactive_logging if logging else keras.config.disable_interactive_logging)()
    model.generate(**arguments, verbose="auto")
    shown = capsys.readouterr().out
    keras.config.enable_interactive_logging() if was_on else keras.config.disable_interactive_logging()
    assert ("5/5" in shown) == logging  # Keras leaves out what comes too soon after the last


@pytest.mark.host
def test_floats_can_be_asked_for(shared_model):
    model = shared_model()
    arguments = {"num_images": 2, "num_steps": 3, "seed": 1}
    floats, images = model.generate(**arguments, dtype="float32"), model.generate(**arguments)
    assert floats.dtype == "float32" and images.dtype == "uint8"
    low, high = model.value_range
    levels = (floats - low) * 255 / (high - low)
    np.testing.assert_allclose(np.clip(levels, 0, 255), images, atol=0.51)
    assert np.abs(levels - np.round(levels)).max() > 0.1
    frames = model.trajectory(**arguments, num_frames=2, dtype="float32")
    np.testing.assert_allclose(frames[-1], floats, atol=1e-5)
    with pytest.raises(ValueError, match="`dtype` must be one of .*float16"):
        model.generate(**arguments, dtype="float16")
    with pytest.raises(ValueError, match="Files hold uint8 images"):
        model.generate_to("unused", num_images=2, dtype="float32")


@pytest.mark.host
def test_the_arguments_are_those_that_help_shows():
    shown = inspect.signature(UMD.generate).parameters
    assert list(shown) == ["model", "labels", "num_images", *(field.name for field in dataclasses.fields(Settings))]
    assert all(shown[name].kind is inspect.Parameter.KEYWORD_ONLY for name in list(shown)[3:])
    assert set(list(shown)[3:]) <= set(inspect.signature(UMD.inpaint).parameters)
    assert all(f" {name}: " in UMD.generate.__doc__ for name in list(shown)[1:])
    with pytest.raises(TypeError, match="eta"):
        UMD.generate(None, num_images=1, eta=0.0)


TWO_DEVICES = """
import sys
sys.modules["tensorflow"] = None  # Keras would import it, which takes seconds
import keras, numpy as np
from keras_umd import UMD
for distribution in (None, keras.distribution.DataParallel()):
    keras.distribution.set_distribution(distribution)
    keras.utils.set_random_seed(0)
    sizes = {"hidden_dim": 16, "num_heads": 2, "num_layers": 1, "decoder_layers": 1}
    model = UMD(image_shape=(8, 8, 1), patch_size=2, num_classes=3, **sizes)
    samples = model.generate([0, 1, 2, 1], num_steps=10, guidance=2.0, seed=0)
    np.save(f"{sys.argv[1]}/{distribution is not None}.npy", samples)
    print(len(model.encoder.cls_tokens.value.devices()), "devices")
"""


@pytest.mark.slow
@pytest.mark.devices
@pytest.mark.system
@pytest.mark.backends("jax")  # Keras distributes on JAX
def test_an_image_is_the_same_on_any_number_of_devices(tmp_path):
    environment = {**os.environ, "XLA_FLAGS": f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count=2"}
    command = [sys.executable, "-c", TWO_DEVICES, tmp_path]
    finished = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert finished.returncode == 0, finished.stderr
    assert finished.stdout.split() == ["1", "devices", "2", "devices"]
    difference = np.abs(np.load(tmp_path / "True.npy").astype(int) - np.load(tmp_path / "False.npy"))
    assert difference.max() <= 1
    assert (difference > 0).mean() <= 1e-3 + 1 / difference.size


@pytest.mark.slow
@pytest.mark.devices
@pytest.mark.backends("torch")
@pytest.mark.skipif(not shutil.which("g++"), reason="torch.compile, which needs a C++ compiler")
def test_torch_compile_changes_nothing(shared_model):
    model = trained_like(shared_model(num_classes=3))
    arguments = {"labels": [0, 1], "num_steps": 4, "guidance": 2.0, "seed": 0}
    difference = np.abs(model.generate(**arguments, jit_compile=True).astype(int) - model.generate(**arguments))
    assert difference.max() <= 1


@pytest.mark.backends("torch")  # elsewhere the network is only called to be traced
def test_steps_without_guidance_have_no_doubled_batch(new_latent_model, monkeypatch):
    sizes = []

    def counted(model, x, names, **condition):
        sizes.append(len(x))
        return denoiser.predict(model, x, names, **condition)

    monkeypatch.setattr("keras_umd.sampling.program.predict", counted)
    new_latent_model.generate([0, 1], num_steps=6, guidance=guidance.Interval(2.0, 0.3, 2.0))
    assert sizes[0] == sizes[-1] == 2
    assert sorted(set(sizes)) == [2, 4]


@pytest.mark.usefixtures("op_by_op")
def test_the_average_to_use_can_be_chosen(small_model):
    model = trained_like(small_model())
    arguments = {"num_images": 2, "num_steps": 2, "seed": 0}
    raw = model.generate(**arguments)
    model.track_average([0.5, 0.9])
    np.testing.assert_array_equal(model.generate(**arguments), raw)  # no update yet
    for factor in (0.5, 1.0):
        for average in model.averages:
            average.update()
        for variable in model.trainable_variables:
            variable.assign(array(variable) * factor)
    images = {decay: model.generate(**arguments, weights=decay) for decay in ("raw", 0.5, 0.9)}
    np.testing.assert_array_equal(model.generate(**arguments), images[0.5])
    assert np.any(images["raw"] != images[0.5])
    assert np.any(images[0.9] != images[0.5])
    with pytest.raises(ValueError, match=r"\[0.5, 0.9\].*weights=0.99"):
        model.generate(**arguments, weights=0.99)


@pytest.mark.usefixtures("op_by_op")
def test_inpaint_keeps_the_known_pixels(shared_model, images):
    model = trained_like(shared_model(num_classes=3))
    mask = np.zeros((1, 8, 8, 1), bool)
    mask[:, 2:5, 3:7] = True
    known = ~np.broadcast_to(mask, images.shape)
    result = model.inpaint(images, mask, num_steps=4, seed=0)
    assert (result.shape, result.dtype) == (images.shape, images.dtype)
    np.testing.assert_array_equal(result[known], images[known])
    assert np.any(result[~known] != images[~known])
    # What is under the mask isn't looked at; what is around it is.
    changed = np.where(mask, 255 - images, images)
    np.testing.assert_array_equal(model.inpaint(changed, mask, num_steps=4, seed=0)[~known], result[~known])
    changed = np.where(mask, images, 255 - images)
    assert np.any(model.inpaint(changed, mask, num_steps=4, seed=0)[~known] != result[~known])
    labels = np.zeros(24, "int32")
    assert np.any(model.inpaint(images, mask, labels, num_steps=4, seed=0, guidance=2.0) != result)
    floats = (images / 127.5 - 1).astype("float32")
    float_result = model.inpaint(floats, mask, num_steps=4, seed=0)
    np.testing.assert_array_equal(float_result[known], floats[known])
    np.testing.assert_allclose((float_result + 1) * 127.5, result, atol=0.51)


@pytest.mark.usefixtures("op_by_op")
def test_denoise_starts_at_its_timestep(latent_model, noise):
    """One step is the x_0 prediction; more visit smaller timesteps down to 1."""
    prediction = array(latent_model.estimate(ops.convert_to_tensor(noise), ops.full((1,), 400))["x0"])
    np.testing.assert_allclose(latent_model.denoise(noise, 400, predict_from="x0"), prediction, atol=1e-4)
    several = latent_model.denoise(noise, 400, num_steps=3, sampler=0.0)
    expected = ddim_by_hand(latent_model, noise, np.full(4, 3), [400, 200, 1], [1, 1, 1])
    np.testing.assert_allclose(several, expected, atol=1e-3)


@pytest.mark.usefixtures("op_by_op")
def test_explicit_timesteps_say_how_many_steps_there_are(latent_model, noise):
    expected = latent_model.denoise(noise, 400, num_steps=3, sampler=0.0)
    explicit = latent_model.denoise(noise.tolist(), 400, sampler=samplers.DDIM(0.0, [400, 200, 1]))
    np.testing.assert_allclose(explicit, expected, atol=1e-4 * np.abs(expected).max())


@pytest.mark.host
def test_a_model_of_few_timesteps_takes_them_all_by_default(shared_model):
    model = shared_model(corruption=Corruption(num_timesteps=5))
    assert model.generate(num_images=1).shape == (1, *SHAPE)


@pytest.mark.usefixtures("op_by_op")
def test_a_trajectory_ends_with_what_generate_returns(shared_model):
    model = trained_like(shared_model(num_classes=3))
    arguments = {"labels": [0, 1], "num_steps": 6, "seed": 0}
    frames = model.trajectory(num_frames=4, **arguments)
    assert frames.shape == (4, 2, *SHAPE)
    assert frames.dtype == np.uint8
    np.testing.assert_array_equal(frames[-1], model.generate(**arguments))


@pytest.mark.parametrize(
    "way",
    [
        pytest.param("joint", marks=pytest.mark.backends("jax", "torch")),  # which compile in a fourth of the time
        *(pytest.param(way, marks=pytest.mark.host) for way in ("two stages", "without labels")),
    ],
)
def test_trained_models_generate_their_data(small_model, way):
    """Dark images of class 0 and bright ones of class 1 are told apart after each way of training."""
    rng = np.random.default_rng(0)
    labels = np.arange(64) % 2
    images = (rng.integers(-10, 10, (64, *SHAPE)) + np.where(labels, 200, 55)[:, None, None, None]).astype("uint8")
    corruption = Corruption(clean_ratio=0.05, noisy_mask_ratio=0.0)

    def fit(model, *data):
        model.compile(recipes.AdamW(5e-3, global_clipnorm=1.0, ema_decay=0.98), jit_compile=QUICK_STEP["jit_compile"])
        model.fit(*data, batch_size=64, epochs=150, verbose=0)
        return model

    if way == "joint":
        model = fit(small_model(num_classes=2, corruption=corruption), images, labels)
    elif way == "two stages":
        model = fit(small_model().with_classes(2), images, labels)
    else:
        model = fit(small_model(corruption=corruption), images)
    if way == "without labels":
        means = model.generate(num_images=32, num_steps=20, seed=0).mean(axis=(1, 2, 3))
        assert 4 <= (means > 128).sum() <= 28
        assert np.mean((np.abs(means - 55) < 30) | (np.abs(means - 200) < 30)) > 0.7
        return
    means = model.generate([0, 1] * 8, num_steps=20, seed=0).mean(axis=(1, 2, 3))
    assert np.all(means[::2] < 100)
    assert np.all(means[1::2] > 155)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "must be given"),
        ({"num_images": 0}, "num_images=0"),
        ({"labels": np.zeros(0, "int32")}, "num_images=0"),
        ({"num_images": 2, "labels": [0]}, "agree"),
        ({"image_indices": [0]}, "must be given"),
        ({"num_images": 1, "image_indices": [0, 1]}, "agree"),
        ({"num_images": 1, "image_indices": [-1]}, r"image_indices=\[-1\]"),
        ({"num_images": 1, "image_indices": [0.5]}, r"image_indices=\[0.5\]"),
        ({"labels": [0], "guidance": "strong"}, "`guidance` must be a number.*guidance='strong'"),
        ({"num_images": 1, "num_steps": 0}, "num_steps=0"),
        ({"num_images": 1, "num_steps": 1001}, "num_steps=1001"),
        ({"num_images": 1, "sampler": 1.5}, "sampler=1.5"),
        ({"num_images": 1, "batch_size": 0}, "batch_size=0"),
        ({"num_images": 1, "verbose": 3}, "verbose=3"),
        ({"num_images": 1, "jit_compile": None}, "jit_compile=None"),
        ({"initial_noise": np.zeros((1, 8, 8, 1), "int32")}, "int32"),
        ({"num_images": 1, "seed": 2**40}, "seed=1099511627776"),
        ({"num_images": 1, "sampler": "euler"}, "sampler='euler'"),
        ({"num_images": 1, "predict_from": "v"}, "'x0', 'eps', 'both'.*predict_from='v'"),
        ({"num_images": 1, "weights": 0.9}, "weights=0.9"),
        ({"labels": [0], "guidance": -1.0}, "`guidance`.*guidance=-1.0"),
        ({"num_images": 1, "guidance": 2.0}, r"guidance=Constant\(scale=2.0\), labels=None"),
        ({"initial_noise": np.zeros((1, 4, 4, 1), "float32")}, r"\(1, 4, 4, 1\)"),
        ({"initial_noise": np.full((1, 8, 8, 1), np.nan, "float32")}, "finite"),
    ],
)
@pytest.mark.host
def test_generate_refuses(shared_model, arguments, message):
    with pytest.raises(ValueError, match=message):
        shared_model(num_classes=3).generate(**arguments)


@pytest.mark.host
def test_guidance_without_classes_is_refused(shared_model):
    with pytest.raises(ValueError, match="with_classes"):
        shared_model().generate(num_images=1, guidance=2.0)


@pytest.mark.host
def test_a_weak_model_of_other_images_is_refused(shared_model):
    weak_model = shared_model(num_classes=3, image_shape=(8, 8, 3))
    with pytest.raises(ValueError, match=r"(8, 8, 3).*beside.*(8, 8, 1)"):
        shared_model(num_classes=3).generate([0], guidance=guidance.Constant(2.0, weak_model=weak_model))


@pytest.mark.host
def test_a_model_of_clean_images_is_refused(shared_model):
    with pytest.raises(ValueError, match="clean images alone.*with_classes.*clean_x0_loss"):
        shared_model(corruption=Corruption.mae()).generate(num_images=1)


def test_only_what_was_trained_is_read(shared_model):
    model = shared_model(corruption=Corruption(noisy_losses=["x0"]))
    for other in ("eps", "both"):
        with pytest.raises(ValueError, match=rf"\['x0'\].*predict_from='{other}'"):
            model.generate(num_images=1, predict_from=other)
    arguments = {"num_images": 1, "num_steps": 2, "seed": 0}
    np.testing.assert_array_equal(model.generate(**arguments), model.generate(**arguments, predict_from="x0"))
    guided = {"num_images": 1, "guidance": guidance.Constant(2.0, weak_model=model)}
    with pytest.raises(ValueError, match=r"\['x0'\].*predict_from='eps'"):
        shared_model().generate(**guided, predict_from="eps")


@pytest.mark.parametrize(
    "mask", [np.zeros((8, 8), bool), np.zeros((2, 8, 8, 1), bool), np.zeros((1, 8, 8, 1)), np.zeros((1, 4, 4, 1), bool)]
)
@pytest.mark.host
def test_inpaint_refuses_masks_that_do_not_fit(shared_model, images, mask):
    with pytest.raises(ValueError, match=r"\(24 or 1, 8, 8, 1\)"):
        shared_model().inpaint(images, mask)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"timestep": 0}, "timestep=0"),
        ({"timestep": 1001}, "timestep=1001"),
        ({"timestep": [5, 6]}, r"timestep=\[5, 6\]"),
        ({"timestep": 10, "num_steps": 11}, "num_steps=11"),
        ({"timestep": 10, "images": np.zeros((1, *SHAPE), "uint8")}, "uint8"),
        ({"timestep": 3, "num_steps": 5, "sampler": "heun"}, "num_steps=5"),
    ],
)
@pytest.mark.host
def test_denoise_refuses(shared_model, noise, arguments, message):
    with pytest.raises(ValueError, match=message):
        shared_model().denoise(**{"images": noise, **arguments})
