import numpy as np
import pytest

from keras_umd.evaluation import FewShotProbe, few_shot_accuracy


@pytest.mark.parametrize("l2", [1024, 1])
@pytest.mark.parametrize("case", ["tall", "wide"])
def test_the_probe_equals_the_authors(golden, case, l2):
    values = {key.removeprefix(f"{case}."): value for key, value in golden("fewshot").items() if key.startswith(case)}
    probe = FewShotProbe(l2).fit(values["x_train"], values["y_train"], num_classes=10)
    scores = probe.scores(values["x_test"])
    for actual, name in ((probe.weights, "weights"), (scores, "scores")):
        expected = values[f"l2_{l2}.{name}_f64"]
        assert np.abs(actual - expected).max() <= 1e-9 * np.abs(expected).max()
    np.testing.assert_array_equal(scores.argmax(axis=1), values[f"l2_{l2}.predictions"])
    accuracy = probe.accuracy(values["x_test"], values["y_test"])
    assert accuracy == pytest.approx(float(values[f"l2_{l2}.accuracy"]), abs=1e-7)


def test_both_ways_to_solve_agree():
    """More features than images takes the small system; the solution is that of the large one."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(12, 30)), np.arange(12) % 3
    probe = FewShotProbe(2.0).fit(x, y)
    a = np.concatenate([(x - x.mean(0)) / (x.std(0) + 1e-5), np.full((12, 1), 100.0)], axis=1)
    expected = np.linalg.solve(a.T @ a + 2.0 * np.eye(31), a.T @ (2.0 * np.eye(3)[y] - 1))
    np.testing.assert_allclose(probe.weights, expected, atol=1e-9)


def test_shots_are_drawn_per_class_and_follow_the_seed():
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1, 2], [30, 40, 50])
    features = np.eye(3)[labels] + 0.8 * rng.normal(size=(120, 3))
    arguments = (features, labels, features, labels)
    accuracies = [few_shot_accuracy(*arguments, shots=3, seed=seed) for seed in (0, 0, 1, 2)]
    assert accuracies[0] == accuracies[1]
    assert len(set(accuracies)) > 1
    assert all(accuracy > 1 / 3 for accuracy in accuracies)
    separable = np.eye(3)[labels]
    assert few_shot_accuracy(separable, labels, separable, labels, shots=1) == 1.0


@pytest.mark.parametrize(
    ("use", "message"),
    [
        (lambda: FewShotProbe(0.0), "l2=0.0"),
        (lambda: FewShotProbe().fit(np.zeros((3, 2, 1)), np.zeros(3, int)), r"\(3, 2, 1\)"),
        (lambda: few_shot_accuracy(np.zeros((3, 2)), [0, 0, 1], np.zeros((1, 2)), [0], shots=2), "Class 1 has 1"),
    ],
)
def test_wrong_arguments_are_named(use, message):
    with pytest.raises(ValueError, match=message):
        use()
