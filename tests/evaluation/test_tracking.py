"""The evaluations for Monitor, inside a training."""

import json

import keras
import numpy as np
import pytest

from keras_umd import callbacks
from keras_umd.evaluation import (
    DrawReconstructions,
    DrawSamples,
    FewShotProbe,
    KNNProbe,
    Reference,
    TrackGeneration,
    TrackProbe,
    TrackRank,
    evaluate_features,
    evaluate_generator,
    extract,
    rank_me,
)
from tests.conftest import QUICK


@pytest.fixture
def network():
    keras.utils.set_random_seed(3)
    return keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Flatten(), keras.layers.Dense(5)])


@pytest.mark.backends("jax", "torch")
def test_features_are_probed_as_the_model_is_now(small_model, images, labels):
    model = small_model()
    model.track_average(0.5)
    probe = KNNProbe(3)
    pair = (images[:12], labels[:12]), (images[12:], labels[12:])
    track, rank = TrackProbe(pair, probe), TrackRank(images)

    def expected():
        extractor = model.feature_extractor()
        accuracy = evaluate_features(extractor, pair, [probe], verbose=False)[0][probe.name].value
        return accuracy, rank_me(extract(extractor, images).features)

    ranks = []
    for _ in range(2):
        accuracy, expected_rank = expected()
        assert track(model)[probe.name].value == accuracy
        assert TrackProbe({"x": pair}, [probe])(model)[f"x/{probe.name}"].value == accuracy
        ranks.append(rank(model)["RankMe"])
        np.testing.assert_allclose(ranks[-1], expected_rank, rtol=1e-5)
        model.compile(keras.optimizers.Adam(1e-2), **QUICK)
        model.fit(images, batch_size=8, epochs=2, verbose=0)
    assert ranks[0] != ranks[1]


@pytest.mark.host
def test_generation_and_pictures_are_those_of_the_model(small_model, images, network):
    model = small_model(num_classes=3)
    reference = Reference.of(network, images, verbose=False)
    track = TrackGeneration(reference, network, num_images=8, num_steps=2)
    expected = evaluate_generator(
        model, reference, network, 8, metrics=["frechet"], num_steps=2, sampler="dpmpp_2m", seed=0, verbose=False
    )
    np.testing.assert_allclose(track(model)["frechet_distance"].value, expected["frechet_distance"].value, rtol=1e-6)
    assert DrawSamples(6, columns=3, num_steps=2)(model)["samples"].shape == (2 * 9 + 1, 3 * 9 + 1, 3)
    picture = DrawReconstructions(images[:4], mask_ratio=0.5)(model)["reconstructions"]
    assert picture.shape == (3 * 9 + 1, 4 * 9 + 1, 3)
    np.testing.assert_array_equal(picture, DrawReconstructions(images[:4], mask_ratio=0.5)(model)["reconstructions"])


@pytest.mark.host
def test_all_of_it_in_one_picture_of_a_training(small_model, images, labels, network, tmp_path):
    model = small_model()
    model.compile("adamw")
    evaluations = [
        TrackProbe(((images[:12], labels[:12]), (images[12:], labels[12:])), FewShotProbe(1, num_draws=2)),
        TrackRank(images),
        TrackGeneration(Reference.of(network, images, verbose=False), network, num_images=8, num_steps=2),
        DrawSamples(4, num_steps=2),
        DrawReconstructions(images[:4]),
    ]
    model.fit(
        images, batch_size=8, epochs=2, verbose=0, callbacks=[callbacks.Monitor(tmp_path, evaluations, every_epochs=1)]
    )
    lines = [json.loads(line) for line in (tmp_path / "evaluations.jsonl").read_text().splitlines()]
    evaluated = [line for line in lines if line["kind"] == "evaluation"]
    assert [line["step"] for line in evaluated] == [3, 6]
    for line in evaluated:
        assert set(line["values"]) == {"1-shot accuracy", "RankMe", "frechet_distance"}
        assert set(line["pictures"]) == {"samples", "reconstructions"}
        assert line["cards"]["frechet_distance"]["subject"]["options"]["num_steps"] == 2
    assert evaluated[0]["cards"]["1-shot accuracy"]["subject"] != evaluated[1]["cards"]["1-shot accuracy"]["subject"]
    assert (tmp_path / "progress.png").stat().st_size > 10_000
