import json

import keras
import numpy as np
import pytest

import keras_umd
from keras_umd.evaluation import (
    FIDInception,
    Reference,
    evaluate_generator,
    evaluate_images,
    frechet_distance,
    inception_score,
    kernel_distance,
    neighbourhood_scores,
    sweep_generation,
)
from tests.evaluation.test_inception import SMALL_NETWORK


@pytest.fixture(scope="module")
def network():
    """Features and logits of 8x8 images: a fixed random projection."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input((8, 8, 1))
    features = keras.layers.Dense(6, activation="tanh")(keras.layers.Flatten()(inputs / 255.0))
    return keras.Model(inputs, {"features": features, "logits": keras.layers.Dense(4)(features)}, name="projection")


@pytest.fixture(scope="module")
def real():
    return np.random.default_rng(5).integers(0, 200, (60, 8, 8, 1)).astype("uint8")


@pytest.fixture(scope="module")
def reference(network, real):
    return Reference.of(network, real, batch_size=16, verbose=False)


def test_every_score_is_that_of_the_features(network, real, reference, images):
    scores = evaluate_images(images, reference, network, batch_size=10, verbose=False)
    outputs, expected_outputs = (network.predict(x, verbose=0) for x in (images, real))
    x, y = outputs["features"], expected_outputs["features"]
    logits = outputs["logits"].astype("float64")
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    expected = {
        "frechet_distance": frechet_distance(x, y),
        "classifier_score": inception_score(probabilities[np.random.default_rng(0).permutation(24)])[0],
        "kernel_distance": kernel_distance(x, y, subset_size=24)[0],
        **neighbourhood_scores(x, y),
    }
    assert list(scores) == list(expected)
    for name, value in expected.items():
        np.testing.assert_allclose(scores[name].value, value, rtol=1e-4, atol=1e-6)
    assert scores["kernel_distance"].deviation > 0
    assert scores["kernel_distance"].protocol["settings"]["subset_size"] == 24


def test_a_model_is_judged_by_what_it_generates(network, reference, small_model, tmp_path):
    model = small_model(num_classes=3)
    options = {"num_images": 10, "num_steps": 2, "batch_size": 4, "seed": 3, "verbose": False}
    scores = evaluate_generator(model, reference, network, metrics=["frechet"], sampler="dpmpp_2m", **options)
    samples = model.generate(np.arange(10) % 3, num_steps=2, seed=3, sampler="dpmpp_2m")
    expected = evaluate_images(samples, reference, network, ["frechet"], verbose=False)
    result = scores["frechet_distance"]
    np.testing.assert_allclose(result.value, expected["frechet_distance"].value, rtol=1e-4)
    assert result.minus(expected["frechet_distance"]) == pytest.approx(0, abs=1e-4)
    assert result.subject["options"] == {"num_steps": 2, "sampler": {"class": "DPMSolverPP2M", "timesteps": "log_snr"}}
    assert (result.subject["seed"], result.subject["num_images"]) == (3, 10)

    path = keras_umd.generate_to(model, tmp_path / "samples", sampler="dpmpp_2m", **options)
    stored = evaluate_images(path, reference, network, ["frechet"], batch_size=3, verbose=False)["frechet_distance"]
    np.testing.assert_allclose(stored.value, result.value, rtol=1e-5)
    assert stored.subject["model"] == result.subject["model"]  # of the manifest beside the file


def test_the_order_of_classes_does_not_count():
    """A sure classifier of ten classes: sorted images, of one class in each split, would have a score of 1."""
    inputs = keras.Input((1, 1, 1))
    grey = keras.layers.Flatten()(inputs)
    logits = 1000.0 - 1000.0 * keras.ops.abs(grey - np.arange(10, dtype="float32"))
    classifier = keras.Model(inputs, {"features": grey, "logits": logits})
    images = np.repeat(np.arange(10), 100).astype("uint8").reshape(-1, 1, 1, 1)
    reference = Reference.of(classifier, images, verbose=False)
    score = evaluate_images(images, reference, classifier, ["inception_score"], verbose=False)["classifier_score"]
    assert score.value > 9.5


def test_the_same_images_have_no_distance(network, real, reference):
    scores = evaluate_images(real, reference, network, verbose=False)
    assert scores["frechet_distance"].value < 1e-8
    assert scores["precision"].value == scores["recall"].value == scores["coverage"].value == 1


def test_scores_of_other_networks_references_and_numbers_do_not_compare(network, real, reference, images):
    score = evaluate_images(images, reference, network, ["frechet"], verbose=False)["frechet_distance"]
    fewer = evaluate_images(images[:20], reference, network, ["frechet"], verbose=False)["frechet_distance"]
    with pytest.raises(ValueError, match="num_images: 24 and 20"):
        score.minus(fewer)
    other_reference = Reference.of(network, real[:50], verbose=False)
    other = evaluate_images(images, other_reference, network, ["frechet"], verbose=False)["frechet_distance"]
    with pytest.raises(ValueError, match="reference: .*num_reference: 60 and 50"):
        score.minus(other)
    json.dumps(score.card)


@pytest.mark.host
def test_only_fids_own_network_gives_a_fid(network, real, images):
    assert not FIDInception().is_fid  # of random weights; tests/evaluation/test_inception.py has the others
    fids_own = keras.Model(network.input, network.output)
    fids_own.is_fid = True
    reference = Reference.of(fids_own, real, verbose=False)
    scores = evaluate_images(images, reference, fids_own, ["frechet", "inception_score", "kernel"], verbose=False)
    assert list(scores) == ["fid", "inception_score", "kid"]


@pytest.mark.host
def test_progress_bars_of_data_that_tell_their_number_and_that_do_not(network, real, reference, tmp_path, capsys):
    np.savez(tmp_path / "images.npz", arr_0=real)
    for images in (real, [real[:30], real[30:]], tmp_path / "images.npz"):
        evaluate_images(images, reference, network, ["frechet"])
        output = capsys.readouterr().out
        assert "/image" in output and output.endswith("\n")


def test_references_survive_files(network, real, reference, tmp_path):
    reference.save(tmp_path / "reference.npz")
    loaded = Reference.load(tmp_path / "reference.npz")
    assert loaded.digest == reference.digest and loaded.network == reference.network
    assert loaded.num_images == 60
    np.testing.assert_array_equal(loaded.features, reference.features)
    expected = network.predict(real, verbose=0)["features"]
    np.testing.assert_allclose(loaded.mean, expected.mean(axis=0), atol=1e-6)
    np.testing.assert_allclose(loaded.covariance, np.cov(expected, rowvar=False), atol=1e-6)

    # As pytorch-fid and ADM's reference batches have it: nothing but the statistics that we need.
    np.savez(tmp_path / "adm.npz", mu=loaded.mean, sigma=loaded.covariance, mu_s=np.zeros(3), sigma_s=np.eye(3))
    foreign = Reference.load(tmp_path / "adm.npz")
    assert (foreign.num_images, foreign.features, foreign.network) == (None, None, None)
    assert foreign.digest == reference.digest
    scores = evaluate_images(real, foreign, network, verbose=False)
    assert set(scores) == {"frechet_distance", "classifier_score"}


@pytest.mark.host
def test_what_can_not_be_judged_is_named(network, real, reference, images, small_model, tmp_path, monkeypatch):
    keras.utils.set_random_seed(1)
    other = keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Flatten(), keras.layers.Dense(6)])
    statistics_alone = Reference.of(network, real, keep_features=False, verbose=False)
    np.savez(tmp_path / "wrong.npz", arr_0=images)
    latent = small_model(value_range=None)
    for use, message in (
        (lambda: evaluate_images(images, reference, other, verbose=False), "another network"),
        (lambda: evaluate_images(images, statistics_alone, network, ["kernel"]), "keep_features=True"),
        (lambda: evaluate_images(images, reference, network, ["fid"]), r"metrics=\['fid'\]"),
        (lambda: evaluate_images(images[:0], reference, network), "no images"),
        (lambda: evaluate_generator(latent, reference, network, 4), "autoencoder"),
        (lambda: Reference.load(tmp_path / "wrong.npz"), "`mu` and `sigma`.*arr_0"),
        (lambda: reference.save(tmp_path / "reference.json"), "npz"),
        (
            lambda: evaluate_images(images, Reference(np.zeros(3), np.eye(3)), network, ["frechet"], verbose=False),
            "of 3",
        ),
    ):
        with pytest.raises(ValueError, match=message):
            use()
    monkeypatch.setattr("keras_umd.evaluation.inception.NETWORK", SMALL_NETWORK)
    inception = FIDInception()
    for scaled in (images / 255.0, images / 127.5 - 1):
        with pytest.raises(ValueError, match="floats from 0 to 255"):
            Reference.of(inception, scaled.astype("float32"), verbose=False)
    logits_needed = Reference.of(other, real, verbose=False)
    with pytest.raises(ValueError, match="logits"):
        evaluate_images(images, logits_needed, other, ["inception_score"], verbose=False)
    assert "classifier_score" not in evaluate_images(images, logits_needed, other, verbose=False)


@pytest.mark.host
def test_a_sweep_judges_every_combination_and_the_best_is_found(network, reference, small_model):
    model = small_model(num_classes=3)
    model.track_average([0.5])
    settings = {"num_images": 8, "num_steps": (1, 2), "guidance": (1.0, 2.0), "weights": (0.5, "raw")}
    table = sweep_generation(model, reference, network, **settings, verbose=False)
    assert len(table) == 8
    assert table.columns == ["weights", "sampler", "num_steps", "guidance", "frechet_distance"]
    values = [row["frechet_distance"].value for row in table]
    assert table.best("frechet_distance", smallest=True)["frechet_distance"].value == min(values)
    row = table[3]
    alone = evaluate_generator(
        model, reference, network, 8, num_steps=2, guidance=2.0, weights=0.5, metrics=["frechet"], verbose=False
    )
    np.testing.assert_allclose(row["frechet_distance"].value, alone["frechet_distance"].value, rtol=1e-5)
    assert (row["num_steps"], row["guidance"]) == (2, 2.0)


@pytest.mark.host
def test_features_of_another_layer_are_another_network(small_model, images, real):
    model = small_model(num_layers=2)
    reference = Reference.of(model.feature_extractor(layer=1), real, verbose=False)
    with pytest.raises(ValueError, match="made with another network"):
        evaluate_images(images, reference, model.feature_extractor(), ["frechet"], verbose=False)
    assert evaluate_images(images, reference, model.feature_extractor(layer=1), ["frechet"], verbose=False)


@pytest.mark.host
def test_few_images_have_the_scores_that_they_can(network, reference, images):
    assert list(evaluate_images(images[:8], reference, network, verbose=False)) == [
        "frechet_distance",
        "kernel_distance",
        "precision",
        "recall",
        "density",
        "coverage",
    ]
    assert list(evaluate_images(images[:5], reference, network, verbose=False)) == [
        "frechet_distance",
        "kernel_distance",
    ]
    with pytest.raises(ValueError, match="splits=10"):
        evaluate_images(images[:8], reference, network, ["inception_score"], verbose=False)


def test_a_kernel_distance_of_two_whole_sets_has_no_deviation(network, images, real):
    reference = Reference.of(network, real[:24], verbose=False)
    assert evaluate_images(images, reference, network, ["kernel"], verbose=False)["kernel_distance"].deviation is None
