import keras
import numpy as np
import pytest

from keras_umd.evaluation import FewShotProbe, KNNProbe, evaluate_features, extract, sweep_features
from tests.evaluation.test_features import mean_model


@pytest.fixture
def grey():
    """Noisy images of three grey levels, which `mean_model` separates; train and test."""
    rng = np.random.default_rng(0)
    labels = np.arange(60) % 3
    images = np.clip(60 + 70 * labels[:, None, None, None] + rng.normal(0, 20, (60, 8, 8, 1)), 0, 255).astype("uint8")
    return (images[:30], labels[:30]), (images[30:], labels[30:])


def test_one_encoder_on_many_data_sets(grey):
    train, test = grey
    shuffled = np.random.default_rng(0).permutation(30)
    opened = []

    def another():
        opened.append("another")
        return train, (test[0], test[1][shuffled])

    probes = [FewShotProbe(shots=3, num_draws=2), KNNProbe(3)]
    table = evaluate_features(mean_model(), {"grey": (train, test), "another": another}, probes, verbose=False)
    assert table.columns == ["data", "3-shot accuracy", "3-NN accuracy"] and opened == ["another"]
    assert table[0]["3-shot accuracy"].value > 0.6 and table[0]["3-NN accuracy"].value > 0.9
    assert table[1]["3-NN accuracy"].value < 0.7
    assert table[0]["3-NN accuracy"].deviation is None
    with pytest.raises(ValueError, match="test: "):  # another test set
        table[0]["3-NN accuracy"].minus(table[1]["3-NN accuracy"])
    card = table[0]["3-shot accuracy"].card
    assert card["protocol"]["probe"] == {"shots": 3, "num_draws": 2, "l2": 1024.0, "seed": 0}
    assert (card["protocol"]["num_train"], card["protocol"]["num_test"]) == (30, 30)


def test_cards_tell_encoders_apart_and_results_of_them_compare(grey, small_model):
    train, test = grey
    model = small_model()
    extractors = [model, model.feature_extractor(), model.feature_extractor(pooling="mean", timesteps=50, seed=0)]
    results = [
        evaluate_features(encoder, {"grey": (train, test)}, [KNNProbe(3)], verbose=False)[0]["3-NN accuracy"]
        for encoder in extractors
    ]
    assert results[0].value == results[1].value
    assert results[1].subject["pooling"] == "cls" and results[2].subject["timesteps"] == 50
    assert results[1].minus(results[2]) == results[1].value - results[2].value


def test_a_sweep_finds_the_same_as_each_extractor_alone(grey, small_model):
    train, test = grey
    model = small_model(num_layers=2)
    table = sweep_features(model, grey, KNNProbe(3), timesteps=(0, 300), seed=4, verbose=False)
    assert len(table) == 2 * 3 * 2
    for row in (table[4], table[9]):
        chosen = {name: row[name] for name in ("layer", "pooling", "timesteps")}
        extractor = model.feature_extractor(**chosen, seed=4)
        a, b = (extract(extractor, x) for x in (train, test))
        expected = KNNProbe(3).accuracies((a.features, a.labels), (b.features, b.labels))
        assert row["3-NN accuracy"].value == expected[0]
        assert chosen.items() <= row["3-NN accuracy"].subject.items()
    best = table.best("3-NN accuracy")
    assert best["3-NN accuracy"].value == max(row["3-NN accuracy"].value for row in table)
    both = sweep_features(model, grey, [FewShotProbe(3), KNNProbe(3)], timesteps=(300,), seed=4, verbose=False)
    assert [row["3-NN accuracy"].value for row in both] == [row["3-NN accuracy"].value for row in table[6:]]
    assert all(row["3-shot accuracy"].metric == "3-shot accuracy" for row in both)
    with pytest.raises(ValueError, match="max"):
        sweep_features(model, grey, poolings=["max"])


def test_one_pair_needs_no_name_and_several_have_a_column_for_it(grey, small_model):
    model, options = small_model(), {"poolings": ["cls"], "timesteps": [0], "verbose": False}
    alone, named = (sweep_features(model, data, KNNProbe(3), **options) for data in (grey, {"grey": grey}))
    assert named == [{"data": "grey", **alone[0]}]
    table = evaluate_features(model, grey, KNNProbe(3), verbose=False)
    assert table.columns == ["3-NN accuracy"]
    assert table[0]["3-NN accuracy"].value == alone[0]["3-NN accuracy"].value
    with pytest.raises(ValueError, match="`data` must be a pair .*Received: grey of type int"):
        evaluate_features(model, {"grey": 3}, verbose=False)


def test_progress_bars_end_before_the_next_line(grey, capsys):
    print(evaluate_features(mean_model(), {"grey": ((b for b in [grey[0]]), grey[1])}, KNNProbe(3)))
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "grey" and lines[-3].startswith("| data")
    assert any("30/Unknown" in line for line in lines) and any("30/30" in line for line in lines)


def test_labels_are_needed(grey):
    train, test = grey
    with pytest.raises(ValueError, match="without labels"):
        evaluate_features(mean_model(), {"grey": (train[0], test[0])}, verbose=False)


def test_any_keras_model_may_have_a_layer_attribute(grey):
    class Odd(keras.Model):
        layer = "not a number"

        def call(self, images):
            return keras.ops.mean(keras.ops.cast(images, "float32"), axis=(1, 2))

    table = evaluate_features(Odd(), {"grey": grey}, [KNNProbe(1)], verbose=False)
    assert table[0]["1-NN accuracy"].subject["model"] == "Odd"
