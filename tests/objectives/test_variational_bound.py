"""The variational bound, and noise levels that are drawn as often as the noise is hard to predict there."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_umd import UMD, Corruption, Objective, View
from keras_umd.corruption import levels, noise, schedules
from keras_umd.objectives import Reconstruction, VariationalBound
from keras_umd.objectives.targets import X0, Eps, Velocity
from keras_umd.sampling import samplers
from tests.conftest import QUICK, array

LAW = levels.Adaptive((-8.0, 8.0), num_bins=16)


def settings(law=LAW, target=None, **bound):
    """A diffusion transformer that predicts the noise and watches its bound."""
    target = Eps() if target is None else target
    terms = [Reconstruction("noisy", target, "all"), VariationalBound("noisy", law, target, **bound)]
    return {"corruption": Corruption.dit(levels=law), "objective": Objective(terms), "conditioning": "token"}


def tensor(x, dtype="float32"):
    return ops.convert_to_tensor(np.asarray(x), dtype)


@pytest.mark.parametrize("learned", [False, True])
def test_log_snrs_are_drawn_as_often_as_their_bins_probability(learned):
    rng = np.random.default_rng(0)
    probabilities = rng.uniform(size=16).astype("float32") if learned else np.ones(16, "float32")
    probabilities /= probabilities.sum()
    given = {"probabilities": tensor(probabilities)} if learned else {}
    drawn = array(LAW.draw_log_snr(1000, schedules.Cosine(), keras.random.SeedGenerator(3), **given))
    uniform = array(keras.random.uniform((1000,), dtype="float32", seed=keras.random.SeedGenerator(3)))
    # The inverse of the cumulative distribution, which is linear within a bin.
    expected = np.interp(uniform, np.append(0, np.cumsum(probabilities.astype("float64"))), np.linspace(-8, 8, 17))
    np.testing.assert_allclose(drawn, expected, atol=3e-4)  # where a bin is small, in float32
    np.testing.assert_array_equal(
        array(LAW.bins_of(tensor(drawn))), np.clip(np.floor((drawn + np.float32(8)) / np.float32(1)), 0, 15)
    )
    assert array(LAW.bins_of(tensor([-50.0, 50.0]))).tolist() == [0, 15]
    timesteps = array(LAW.draw(1000, schedules.Cosine(), keras.random.SeedGenerator(3), **given))
    np.testing.assert_allclose(schedules.Cosine().log_snr(timesteps.astype("float64")), drawn, atol=1e-3)


@pytest.mark.parametrize("path", [schedules.Cosine(), schedules.RectifiedFlow()], ids=["circle", "straight"])
@pytest.mark.parametrize("target", [Eps(), X0(), Velocity()], ids=lambda target: target.name)
def test_the_bound_is_half_the_error_of_the_noise_over_the_density(target, path):
    rng = np.random.default_rng(0)
    x0, eps, wrong = rng.normal(size=(3, 5, 4, 4, 1)).astype("float32")
    log_snr = np.array([-7.5, -2.0, 0.1, 3.0, 7.9])
    if isinstance(path, schedules.RectifiedFlow):
        signal = (1 / (1 + np.exp(-log_snr / 2)))[:, None, None, None]
        sigma, slopes = 1 - signal, (-np.ones((5, 1, 1, 1)), np.ones((5, 1, 1, 1)))
    else:
        signal, sigma = (np.sqrt(1 / (1 + np.exp(-sign * log_snr)))[:, None, None, None] for sign in (1, -1))
        slopes = -sigma, signal
    level = {"signal": signal, "sigma": sigma, "signal_slope": slopes[0], "sigma_slope": slopes[1]}
    view = {"x0": tensor(x0), "noise": tensor(eps), "level": {name: tensor(x) for name, x in level.items()}}
    term = VariationalBound("noisy", LAW, target)
    chances = rng.uniform(0.1, 1, 16).astype("float32")
    term.error_sums.assign(chances)
    term.image_counts.assign(np.ones(16))
    # A network whose x_0 is `wrong`, as an error of the noise: it follows from x_t.
    predicted_x0 = x0 + 0.1 * wrong
    predicted_eps = eps - signal * 0.1 * wrong / sigma
    predictions = {"x0": predicted_x0, "eps": predicted_eps, "v": slopes[1] * predicted_eps + slopes[0] * predicted_x0}
    outputs = {target.name: patches(predictions[target.name])}
    losses = array(term.image_losses(outputs, term.targets(view, (2, 2))))
    probabilities = 0.999 * chances / chances.sum() + 0.001 / 16
    density = probabilities[np.floor(log_snr + 8).astype(int)] / 1.0
    expected = 0.5 * np.mean((predicted_eps - eps) ** 2, axis=(1, 2, 3)) / density
    np.testing.assert_allclose(losses, expected, rtol=1e-3)


def patches(images):
    """`(n, 4, 4)` of images of 4 x 4 in patches of 2 x 2."""
    return tensor(images.reshape(-1, 2, 2, 2, 2).transpose(0, 1, 3, 2, 4).reshape(-1, 4, 4))


@pytest.mark.host
def test_on_gaussian_data_the_law_becomes_the_one_of_least_variance():
    """Of data N(0, s^2) the best prediction of the noise is wrong by 1 / (1 + s^2 e^-l) at the log-SNR -l."""
    law, s = levels.Adaptive((-9.0, 9.0), 64), 0.5
    term = VariationalBound("noisy", law, decay=0.995)
    rng, seed = np.random.default_rng(0), keras.random.SeedGenerator(0)
    for _ in range(1500):
        probabilities = term.probabilities
        log_snr = law.draw_log_snr(128, schedules.Cosine(), seed, probabilities)
        bins = law.bins_of(log_snr)
        of_noise = 1 / (1 + s**2 * np.exp(array(log_snr).astype("float64")))
        errors = of_noise * rng.chisquare(64, 128) / 64
        density = ops.take(probabilities, bins) / law.width
        losses = tensor(0.5 * errors) / density
        term.observe(losses, {"density": density, "bins": bins})
    edges = np.linspace(-9, 9, 65)
    integral = -np.log1p(np.exp(-edges) / s**2)  # of the error over the log-SNR
    best = (integral - integral[0]) / (integral[-1] - integral[0])
    shares = np.append(0, np.cumsum(array(term.probabilities)))
    assert np.abs(shares - best).max() < 0.01
    assert np.all(np.diff(shares) > 0)
    # The bound's terms, which are the same at all levels; under an even law they aren't.
    middles = (edges[1:] + edges[:-1]) / 2
    error, own = 1 / (1 + s**2 * np.exp(middles)), array(term.probabilities)
    terms = error / own
    deviation = np.sqrt(np.sum(own * terms**2) / np.sum(own * terms) ** 2 - 1)
    assert deviation < 0.1 < 0.5 < error.std() / error.mean()
    # And a sampler's steps have equal shares.
    times = term.timesteps(9, schedules.Cosine())
    assert np.all(np.diff(times) < 0)
    np.testing.assert_allclose(
        np.interp(schedules.Cosine().log_snr(np.array(times)), edges, shares), np.linspace(0, 1, 9), atol=1e-3
    )


def test_training_teaches_the_law_and_evaluation_does_not(plain_model, images):
    model = plain_model(**settings(weight=0.5, decay=0.9))
    model.compile("sgd", jit_compile=False if keras.backend.backend() == "tensorflow" else "auto")
    term = model.objective.terms[1]
    initial = array(term.image_counts).copy()
    logs = model.evaluate(images, batch_size=8, verbose=0, return_dict=True)
    assert np.isfinite(logs["noisy_variational_bound_loss"])
    np.testing.assert_array_equal(array(term.image_counts), initial)
    history = model.fit(images, batch_size=8, verbose=0).history
    # Three steps of 8 images each, and what was there before.
    expected = 16 * 0.1 * 0.9**3 + 0.1 * 8 * (1 + 0.9 + 0.81)
    assert array(term.image_counts).sum() == pytest.approx(expected, rel=1e-5)
    total = history["noisy_eps_loss"][0] + 0.5 * history["noisy_variational_bound_loss"][0]
    assert history["loss"][0] == pytest.approx(total, rel=1e-5)
    assert array(term.probabilities).sum() == pytest.approx(1, rel=1e-5)


@pytest.mark.host
def test_what_was_learned_is_saved_and_goes_on(plain_model, images, tmp_path):
    model = plain_model(**settings(decay=0.9))
    model.compile("sgd")
    model.fit(images, batch_size=8, verbose=0)
    term = model.objective.terms[1]
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(array(loaded.objective.terms[1].probabilities), array(term.probabilities))
    for trained in (model, loaded):
        trained.fit(images[:8], batch_size=8, shuffle=False, verbose=0)
    np.testing.assert_array_equal(array(loaded.objective.terms[1].error_sums), array(term.error_sums))


@keras.saving.register_keras_serializable("tests")
class Even(levels.LogSNRLevels):
    """The law of a linear log-SNR, of its own."""

    def draw_log_snr(self, batch_size, schedule, seed):
        return -8.0 + 16.0 * keras.random.uniform((batch_size,), dtype="float32", seed=seed)


@pytest.mark.host
def test_one_that_only_watches_and_learns_nothing_is_a_fixed_law(plain_model, images):
    """All bins alike are an even law, and a term of weight 0 is as if it was absent."""
    frozen = plain_model(**settings(weight=0.0, decay=1.0))
    alone = {**settings(), "corruption": Corruption.dit(levels=Even())}
    fixed = plain_model(**{**alone, "objective": Objective([Reconstruction("noisy", Eps(), "all")])})
    for variable, value in zip(fixed.trainable_variables, frozen.trainable_variables, strict=True):
        variable.assign(array(value))
    for model in (frozen, fixed):
        model.compile("sgd", **QUICK)
        model.fit(images, batch_size=8, shuffle=False, verbose=0)
    for ours, theirs in zip(frozen.trainable_variables, fixed.trainable_variables, strict=True):
        np.testing.assert_allclose(array(ours), array(theirs), atol=1e-6)


@pytest.mark.host
def test_a_step_on_nan_is_not_remembered():
    term = VariationalBound("noisy", LAW, decay=0.9)
    before = array(term.error_sums).sum() * 0.9
    term.observe(
        tensor([np.nan, np.inf, 1.0]), {"density": tensor([1.0, 1.0, 1.0]), "bins": tensor([0, 1, 2], "int32")}
    )
    assert array(term.error_sums).sum() == pytest.approx(before + 0.1 * 2.0, rel=1e-5)
    assert array(term.image_counts).sum() == pytest.approx(before + 0.1, rel=1e-5)


@pytest.mark.host
def test_a_model_generates_by_what_it_has_learned_and_is_fine_tuned(plain_model):
    model = plain_model(**settings(weight=0.0))
    steps = model.objective.terms[1].timesteps(4, model.corruption.noise_schedule)
    samples = model.generate(num_images=2, sampler=samplers.DDIM(0.0, steps), seed=0)
    assert samples.shape == (2, 8, 8, 1)
    again = UMD.from_config(model.get_config())
    assert again.get_config() == model.get_config()
    history = np.linspace(0.5, 1, 16)
    model.objective.terms[1].error_sums.assign(history)
    finetuned = model.with_classes(3)
    (term,) = (term for term in finetuned.objective.terms if isinstance(term, VariationalBound))
    np.testing.assert_allclose(array(term.error_sums), history, rtol=1e-6)
    assert (term.weight, term.target.name, term.where) == (0.0, "eps", "visible")


@pytest.mark.host
def test_what_does_not_fit_is_refused(plain_model):
    plain = Objective([Reconstruction("noisy", Eps(), "all")])
    with pytest.raises(ValueError, match=r"view 'noisy' need a term VariationalBound.*\['noisy_eps_loss'\]"):
        plain_model(corruption=Corruption.dit(levels=LAW), objective=plain)
    other = {**settings(), "corruption": Corruption.dit()}
    with pytest.raises(ValueError, match="`levels` must be those of the noisy view 'noisy'"):
        plain_model(**other)
    graded = Corruption(views=[View("noisy", noise=noise.Graded(levels=LAW))])
    with pytest.raises(ValueError, match="with one level for an image"):
        plain_model(**{**settings(), "corruption": graded})
    with pytest.raises(ValueError, match=r"schedule's range, \[-10.*9.*log_snr=\(-9.0, 12.0\)"):
        law = levels.Adaptive((-9.0, 12.0))
        plain_model(**{**settings(law), "corruption": Corruption.dit(schedule="linear", levels=law)})
    for wrong in ((1.0, 0.0), (0.0, 40.0), (0.0,), "all"):
        with pytest.raises(ValueError, match="`log_snr`"):
            levels.Adaptive(wrong)
    with pytest.raises(ValueError, match="isn't learned"):
        levels.Shifted(LAW, 2.0)
    with pytest.raises(ValueError, match="num_steps=1"):
        VariationalBound("noisy", LAW).timesteps(1, schedules.Cosine())
    with pytest.raises(ValueError, match="num_bins=5000"):
        levels.Adaptive(num_bins=5000)
    two = [*settings()["objective"].terms, VariationalBound("noisy", LAW, name="other")]
    with pytest.raises(ValueError, match="one VariationalBound.*two of the view 'noisy'"):
        plain_model(**{**settings(), "objective": Objective(two)})
    views = [View(name, noise=noise.Gaussian(LAW)) for name in ("a", "b")]
    terms = [VariationalBound(name, LAW) for name in ("a", "b")]
    with pytest.raises(ValueError, match=r"the same levels.*\['a', 'b'\]"):
        plain_model(corruption=Corruption(views=views), objective=Objective(terms))


@pytest.mark.host
def test_errors_of_what_nobody_trains_teach_nothing(plain_model):
    untrained = Objective([Reconstruction("noisy", X0(), "all"), VariationalBound("noisy", LAW, weight=0.0)])
    with pytest.raises(ValueError, match=r"another term must train 'eps'.*\['noisy_x0_loss'\]"):
        plain_model(**{**settings(), "objective": untrained})
    assert untrained.prediction(None, ["noisy"]).target.name == "x0"
    masked = Corruption(levels=LAW, noisy_losses=["x0"])
    with pytest.raises(ValueError, match="a loss of visible patches.*noisy_losses=.*x0"):
        Objective.denoising(masked)
    for corruption, target in (
        (Corruption(levels=LAW), "eps"),
        (Corruption(levels=LAW, noisy_losses=["x0"], noisy_patches="all"), "x0"),
        (Corruption.dit(levels=LAW, noisy_losses=["x0"]), "x0"),
    ):
        objective = plain_model(corruption=corruption).objective
        assert objective.terms[-1].target.name == target and objective.terms[-1].where == "visible"


@pytest.mark.host
def test_each_view_has_the_levels_that_its_own_term_has_learned(plain_model):
    views = [View(name, noise=noise.Gaussian(LAW), share=0.5) for name in ("a", "b")]
    corruption = Corruption(views=views)
    model = plain_model(corruption=corruption)
    terms = [term for term in model.objective.terms if term.learns_levels]
    for term, bins in zip(terms, (slice(0, 4), slice(12, 16)), strict=True):
        errors = np.full(16, 1e-6)
        errors[bins] = 1.0
        term.error_sums.assign(errors)
        term.image_counts.assign(np.ones(16))
    x, _ = model.make_views(np.zeros((64, 8, 8, 1), "uint8"), seed=0)
    timesteps = (array(x["views"][name]["timesteps"]).astype("float64") for name in "ab")
    low, high = map(corruption.noise_schedule.log_snr, timesteps)
    assert np.mean(low < -4) > 0.9 and np.mean(high > 4) > 0.9


@pytest.mark.host
def test_a_history_of_other_noise_levels_is_not_taken_over(plain_model):
    model = plain_model(**settings(weight=0.0))
    with pytest.warns(UserWarning, match="begin anew.*error_sums_from_-3_to_3"):
        model.with_classes(3, corruption=Corruption.dit(levels=levels.Adaptive((-3.0, 3.0), 16)))
