"""What a user adds from outside: masks, targets, terms, schedules, samplers, subclasses, models around it."""

import math

import keras
import numpy as np
import pytest
from keras import ops

from keras_umd import UMD, Corruption, NoiseSchedule, Objective, View, samplers
from keras_umd.corruption import masks
from keras_umd.corruption.noise import Gaussian
from keras_umd.layers import patchify
from keras_umd.objectives import Reconstruction, Term
from keras_umd.objectives.targets import Eps, Pixels, Target
from tests.conftest import QUICK, array

registered = keras.saving.register_keras_serializable("extensions")


@registered
class RightHalf(masks.Mask):
    """Hides what lies to the right."""

    def __init__(self, ratio=0.5, strictness=10.0):
        super().__init__(ratio)
        self.strictness = strictness

    def scores(self, draws, grid, hints=None):
        columns = np.arange(math.prod(grid)) % grid[-1]
        return draws + self.strictness * columns.astype("float32")


@registered
class Brightness(Target):
    """The mean of a patch."""

    name = "brightness"

    def num_values(self, patch_dim):
        return 1

    def __call__(self, view, patch_size, teacher=None):
        return ops.mean(patchify(view["x0"], patch_size), axis=-1, keepdims=True)


@registered
class MeanColor(Term):
    """Reads the mean of the whole image off the representation, by a linear map of its own."""

    def __init__(self, view, hidden_dim, weight=1.0, **kwargs):
        super().__init__(view, weight, **kwargs)
        self.hidden_dim = hidden_dim
        self.probe = keras.layers.Dense(1, name="probe", kernel_initializer="ones")
        self.probe.build((None, hidden_dim))
        self.built = True

    def targets(self, view, patch_size, teacher=None):
        return ops.mean(view["x0"], axis=(1, 2))

    def image_losses(self, outputs, target):
        guess = ops.cast(self.probe(outputs["representation"]), "float32")
        return ops.mean(ops.square(guess - target), axis=-1)

    def get_config(self):
        return {**super().get_config(), "hidden_dim": self.hidden_dim}


@registered
class Straight(NoiseSchedule):
    """x_t = (1 - t / T) x_0 + t / T noise, up to a rest of signal: not variance-preserving."""

    def __init__(self, num_timesteps=100, rest=0.01):
        super().__init__(num_timesteps)
        self.rest = rest

    def levels(self, timesteps):
        timesteps = np.asarray(timesteps, "float64")
        share = (1 - self.rest) * timesteps / self.num_timesteps
        return {"timestep": timesteps, "signal": 1 - share, "sigma": share}

    def signal_and_sigma(self, timesteps, rank=4):
        share = (1 - self.rest) * ops.cast(timesteps, "float32") / self.num_timesteps
        share = ops.reshape(share, (-1,) + (1,) * (rank - 1))
        return 1 - share, share

    def get_config(self):
        return {"num_timesteps": self.num_timesteps, "rest": self.rest}


@registered
class Churned(samplers.Sampler):
    """Euler's steps, with a share of the noise replaced by new one."""

    is_stochastic = True

    def __init__(self, churn=0.5, timesteps="uniform"):
        super().__init__(timesteps)
        self.churn = churn

    def columns(self, now, after):
        return {"signal_next": after["signal"], "sigma_next": after["sigma"]}

    def step(self, x_t, memory, x0, eps, fresh_noise, row):
        noise = math.sqrt(1 - self.churn**2) * eps + self.churn * fresh_noise
        return row["signal_next"] * x0 + row["sigma_next"] * noise, memory


def own_model(small_model, **overrides):
    corruption = Corruption(
        schedule=Straight(50),
        views=[View("seen", mask=RightHalf(0.5), share=0.5), View("noised", noise=Gaussian(), share=0.5)],
    )
    terms = [
        Reconstruction("seen", Brightness(), where="all"),
        Reconstruction("noised", Eps(), where="all"),
        MeanColor("seen", 16, weight=0.5),
    ]
    return small_model(corruption=corruption, objective=Objective(terms), **overrides)


def losses_of(model, images):
    return model.evaluate(images, batch_size=12, verbose=0, return_dict=True)


@pytest.mark.usefixtures("op_by_op")
def test_parts_of_ones_own_train_save_load_and_go_on(small_model, images, tmp_path):
    model = own_model(small_model)
    model.compile(keras.optimizers.Adam(1e-2), **QUICK)
    term = model.objective.terms[2]
    own = {"head": model.decoder.heads["brightness"].kernel, "probe": term.probe.kernel}
    before = {name: array(variable).copy() for name, variable in own.items()}
    assert own["head"].shape == (16, 1)
    network = {id(variable) for variable in model.network_weights}
    assert id(own["head"]) in network and id(own["probe"]) not in network
    history = model.fit(images, batch_size=12, epochs=2, shuffle=False, verbose=0).history
    names = {"seen_brightness_loss", "noised_eps_loss", "seen_mean_color_loss", "loss"}
    assert set(history) == names
    assert history["seen_mean_color_loss"][1] < history["seen_mean_color_loss"][0]
    for name, variable in own.items():
        assert np.abs(array(variable) - before[name]).max() > 1e-3

    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    corruption = loaded.corruption
    kinds = [type(loaded.objective.terms[2]), type(corruption.noise_schedule), type(corruption.views[0].mask)]
    assert kinds == [MeanColor, Straight, RightHalf]
    assert repr(loaded.corruption) == repr(model.corruption)
    sampler = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(Churned(0.25)))
    assert repr(sampler) == "Churned(churn=0.25, timesteps='uniform')"

    def uses(model, sampler):
        settings = {"num_images": 2, "num_steps": 3, "seed": 0, "sampler": sampler}
        return losses_of(model, images), model.predict(images, verbose=0), model.generate(**settings)

    (loss, features, samples), (loss_after, features_after, samples_after) = (
        uses(model, Churned(0.25)),
        uses(loaded, sampler),
    )
    assert set(loss) == names
    assert loss_after == pytest.approx(loss, rel=1e-6)
    np.testing.assert_array_equal(features_after, features)
    np.testing.assert_array_equal(samples_after, samples)
    assert np.any(samples != uses(model, Churned(0.75))[2])
    for m in (model, loaded):  # the same random numbers, optimizer and weights, those of the term too
        m.fit(images, batch_size=12, shuffle=False, verbose=0)
    for variable, other in zip(model.variables, loaded.variables, strict=True):
        np.testing.assert_allclose(array(other), array(variable), rtol=1e-6, atol=1e-7)


def test_parts_of_ones_own_have_no_place_in_the_papers_objective_which_is_said(small_model):
    model = own_model(small_model)
    with pytest.warns(UserWarning, match=r"(?s)no place.*brightness_head/bias.*probe/kernel"):
        conditional = model.with_classes(3)
    assert conditional.objective.loss_names == ["seen_x0_loss", "noised_x0_loss", "noised_eps_loss"]
    assert type(conditional.corruption.noise_schedule) is Straight
    assert type(conditional.corruption.views[0].mask) is RightHalf
    terms = [Reconstruction("seen", Brightness(), where="all"), Reconstruction("noised", Eps(), where="all")]
    with pytest.warns(UserWarning, match="no place") as raised:
        kept = model.with_classes(3, objective=Objective(terms))
    assert "brightness_head" not in str(raised[0].message)
    kernels = [array(m.decoder.heads["brightness"].kernel) for m in (kept, model)]
    np.testing.assert_array_equal(*kernels)


@pytest.mark.host
def test_a_structured_mask_and_normalised_pixels_make_a_masked_autoencoder(small_model, images, tmp_path):
    view = View("clean", mask=masks.ColorNoise("green", ratio=0.75))
    model = small_model(
        corruption=Corruption(views=[view]), objective=Objective([Reconstruction("clean", Pixels(normalize=True))])
    )
    model.compile(keras.optimizers.Adam(1e-2), **QUICK)
    history = model.fit(images[:8], batch_size=8, epochs=8, verbose=0).history
    assert set(history) == {"clean_pixels_loss", "loss"}
    assert history["loss"][-1] < history["loss"][0]
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert loaded.objective.terms[0].target.normalize and loaded.corruption.views[0].mask.color == "green"
    pictures = [m.reconstruct(images, seed=0) for m in (model, loaded)]
    np.testing.assert_array_equal(pictures[1]["reconstruction"], pictures[0]["reconstruction"])
    mask = np.broadcast_to(pictures[0]["mask"], images.shape)
    np.testing.assert_array_equal(pictures[0]["reconstruction"][~mask], images[~mask])
    assert losses_of(loaded, images) == pytest.approx(losses_of(model, images), rel=1e-6)
    with pytest.raises(ValueError, match="can't generate"):
        loaded.generate(num_images=1, num_steps=1)


@registered
class OwnCorruption(Corruption):
    """One with an argument of its own, and masks of its own."""

    def __init__(self, strictness=1.0, **kwargs):
        super().__init__(**kwargs)
        self.strictness = strictness
        for view in self.views:
            view.mask = view.mask and RightHalf(view.mask.ratio, strictness)

    def get_config(self):
        return {**super().get_config(), "strictness": self.strictness}


@registered
class OwnUMD(UMD):
    def __init__(self, *args, temperature=1.0, **kwargs):
        super().__init__(*args, **kwargs)
        self.temperature = temperature

    def get_config(self):
        return {**super().get_config(), "temperature": self.temperature}


@pytest.mark.host
def test_subclasses_keep_their_arguments_everywhere(tmp_path):
    corruption = OwnCorruption(strictness=3.0, schedule=Straight(40, rest=0.02))
    sizes = {"patch_size": 2, "hidden_dim": 16, "num_layers": 1, "num_heads": 2, "decoder_layers": 1}
    model = OwnUMD((8, 8, 1), **sizes, corruption=corruption, temperature=0.5, seed=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    for copy in (loaded, model.with_classes(3), loaded.with_classes(None)):
        assert type(copy) is OwnUMD and copy.temperature == 0.5
        assert type(copy.corruption) is OwnCorruption and copy.corruption.strictness == 3.0
        mask = copy.corruption.views[0].mask
        assert type(mask) is RightHalf and mask.strictness == 3.0
        schedule = copy.corruption.noise_schedule
        assert (type(schedule), schedule.num_timesteps, schedule.rest) == (Straight, 40, 0.02)
        extractor = copy.feature_extractor(timesteps=20)
        extractor.save(tmp_path / "extractor.keras")
        again = keras.models.load_model(tmp_path / "extractor.keras")
        for schedule in (extractor.noise_schedule, again.noise_schedule):
            assert (type(schedule), schedule.num_timesteps, schedule.rest) == (Straight, 40, 0.02)
    assert model.with_classes(3).corruption.get_config()["noisy_mask_ratio"] == 0
    betas = NoiseSchedule.from_betas(np.linspace(1e-3, 0.2, 30))
    extractor = OwnUMD((8, 8, 1), **sizes, corruption=Corruption(schedule=betas)).feature_extractor(timesteps=30)
    again = type(extractor).from_config(extractor.get_config())
    np.testing.assert_array_equal(again.noise_schedule.betas, betas.betas)


class Joined(keras.Model):
    """A classifier on UMD's representation, trained by UMD's loss too."""

    def __init__(self, umd):
        super().__init__()
        self.umd = umd
        self.top = keras.layers.Dense(3, kernel_initializer="zeros")

    def call(self, images, training=False):
        if training:
            self.add_loss(self.umd.loss_of(images))
        return self.top(self.umd(images))


def test_the_loss_inside_another_model_counts_and_reaches_the_encoder(small_model, images, labels):
    settings = {"dtype": "float32", "conditioning": "token"}
    joined = Joined(small_model(**settings))
    joined(images[:2])  # builds it
    compiled = {} if keras.backend.backend() != "tensorflow" else {"jit_compile": False}
    joined.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True), **compiled)
    before = [array(variable).copy() for variable in joined.umd.network_weights]
    twin = small_model(**settings)
    expected = float(array(twin.loss_of(images[:8])))
    alone = math.log(3)  # the classifier knows nothing yet, and passes no gradient on
    history = joined.fit(images[:8], labels[:8], batch_size=8, shuffle=False, verbose=0).history
    np.testing.assert_allclose(history["loss"], [alone + expected], rtol=1e-5)
    moved = [np.any(array(v) != old) for v, old in zip(joined.umd.network_weights, before, strict=True)]
    names = [variable.path for variable, has_moved in zip(joined.umd.network_weights, moved, strict=True) if has_moved]
    assert any("patch_embedding" in name for name in names) and any("head" in name for name in names)
    second = joined.fit(images[:8], labels[:8], batch_size=8, shuffle=False, verbose=0).history
    assert second["loss"] != history["loss"]  # other noise: the draws go on inside another model


def test_losses_of_layers_and_regularizers_count(small_model, images):
    models = [small_model(dtype="float32", conditioning="token") for _ in range(2)]
    kernels = [model.encoder.patch_embedding.projection.kernel for model in models]
    initial = array(kernels[0]).copy()
    kernels[1].regularizer = keras.regularizers.L2(0.1)
    models[1].encoder.norm.activity_regularizer = keras.regularizers.L2(0.1)
    for model in models:
        model.compile("sgd", **QUICK)
    plain, penalized = (model.fit(images, batch_size=24, shuffle=False, verbose=0).history for model in models)
    # An image has 4 of its 16 patches in one view and 10 in the other, with a class token, and a LayerNorm gives each
    # number the variance 1; Keras divides by the batch.
    of_tokens = 0.1 * (4 + 1 + 10 + 1) * 16
    added = penalized["loss"][0] - plain["loss"][0]
    np.testing.assert_allclose(added, of_tokens + 0.1 * np.square(initial).sum(), rtol=1e-3)
    for name in set(plain) - {"loss"}:
        np.testing.assert_allclose(penalized[name], plain[name], rtol=1e-5)
    moved = array(kernels[1]) - array(kernels[0])
    np.testing.assert_allclose(moved, -0.01 * 0.2 * initial, rtol=0.05, atol=1e-5)  # SGD's step
    losses = losses_of(models[1], images)
    own = losses["clean_x0_loss"] / 2 + (losses["noisy_x0_loss"] + losses["noisy_eps_loss"]) / 4
    of_norm = 0.1 * 16 * np.square(array(models[1].encoder.norm.gamma)).sum()
    np.testing.assert_allclose(losses["loss"] - own, of_norm + 0.1 * np.square(array(kernels[1])).sum(), rtol=0.03)


@pytest.mark.backends("jax", "tensorflow")  # a SavedModel is made by them
def test_a_model_exports_what_predict_does(small_model, images, tmp_path):
    tf = pytest.importorskip("tensorflow")
    model = small_model()
    model(images[:2])  # an extractor is exported without, in `test_feature_extractor.py`
    model.predict(images[:2], verbose=0)
    model.export(tmp_path / "exported", verbose=False)
    loaded = tf.saved_model.load(str(tmp_path / "exported"))  # kept, or its variables would be deleted
    served = loaded.serve(images.astype("float32") / 127.5 - 1)
    np.testing.assert_allclose(np.asarray(served), model.predict(images, verbose=0), atol=1e-5)


def test_the_shape_of_the_output_is_known(small_model, images):
    model = small_model()
    assert model.compute_output_shape(images.shape) == tuple(model(images).shape) == (24, 16)
    inputs = keras.Input((3, 8, 8, 1), dtype="uint8")
    video = keras.Model(inputs, keras.layers.TimeDistributed(model)(inputs))
    assert video.output.shape == (None, 3, 16)
    expected = array(model(images)).reshape(8, 3, 16)
    np.testing.assert_allclose(video.predict(images.reshape(8, 3, 8, 8, 1), verbose=0), expected, atol=1e-5)
