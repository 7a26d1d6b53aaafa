import numpy as np
import pytest

from keras_umd.evaluation import FewShotProbe, RidgeClassifier

pytestmark = pytest.mark.host


@pytest.mark.parametrize("l2", [1024, 1])
@pytest.mark.parametrize("case", ["tall", "wide"])
def test_the_classifier_equals_the_authors(golden, case, l2):
    values = {key.removeprefix(f"{case}."): value for key, value in golden("fewshot").items() if key.startswith(case)}
    classifier = RidgeClassifier(l2).fit(values["x_train"], values["y_train"], num_classes=10)
    scores = classifier.scores(values["x_test"])
    for actual, name in ((classifier.weights, "weights"), (scores, "scores")):
        expected = values[f"l2_{l2}.{name}_f64"]
        assert np.abs(actual - expected).max() <= 1e-9 * np.abs(expected).max()
    np.testing.assert_array_equal(scores.argmax(axis=1), values[f"l2_{l2}.predictions"])
    accuracy = classifier.accuracy(values["x_test"], values["y_test"])
    assert accuracy == pytest.approx(float(values[f"l2_{l2}.accuracy"]), abs=1e-7)


def test_both_ways_to_solve_agree():
    """More features than images takes the small system; the solution is that of the large one."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(12, 30)), np.arange(12) % 3
    classifier = RidgeClassifier(2.0).fit(x, y)
    a = np.concatenate([(x - x.mean(0)) / (x.std(0) + 1e-5), np.full((12, 1), 100.0)], axis=1)
    expected = np.linalg.solve(a.T @ a + 2.0 * np.eye(31), a.T @ (2.0 * np.eye(3)[y] - 1))
    np.testing.assert_allclose(classifier.weights, expected, atol=1e-9)


def test_scikit_learns_ridge_agrees_on_the_digits():
    from sklearn.datasets import load_digits
    from sklearn.linear_model import Ridge

    digits = load_digits()
    x = digits.data.astype("float32")  # some pixels are 0 in all images: their deviation is, too
    train, test = slice(0, 1200), slice(1200, None)
    classifier = RidgeClassifier().fit(x[train], digits.target[train])

    def design(x_):
        whitened = (x_ - x[train].mean(0, dtype="float64")) / (x[train].std(0, dtype="float64") + 1e-5)
        return np.concatenate([whitened, np.full((len(x_), 1), 100.0)], axis=1)

    targets = 2.0 * np.eye(10)[digits.target[train]] - 1
    ridge = Ridge(alpha=1024.0, fit_intercept=False).fit(design(x[train]), targets)
    np.testing.assert_allclose(classifier.weights, ridge.coef_.T, rtol=1e-6, atol=1e-9)
    accuracy = np.mean(ridge.predict(design(x[test])).argmax(1) == digits.target[test])
    assert classifier.accuracy(x[test], digits.target[test]) == accuracy > 0.85


def test_more_images_than_a_block_holds(monkeypatch):
    rng = np.random.default_rng(0)
    x, y = rng.normal(5.0, 2.0, (50, 4)), np.arange(50) % 3
    whole = RidgeClassifier(3.0).fit(x, y)
    accuracy = whole.accuracy(x, y)
    monkeypatch.setattr("keras_umd.evaluation.probes.BLOCK", 7)
    by_blocks = RidgeClassifier(3.0).fit(x, y)
    np.testing.assert_allclose(by_blocks.weights, whole.weights, rtol=1e-10)
    assert by_blocks.accuracy(x, y) == accuracy


def test_shots_are_drawn_per_class_and_follow_the_seed():
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1, 2], [30, 40, 50])
    data = (np.eye(3)[labels] + 0.8 * rng.normal(size=(120, 3)), labels)
    accuracies = FewShotProbe(3, num_draws=6).accuracies(data, data)
    assert accuracies == FewShotProbe(3, num_draws=6).accuracies(data, data)
    assert accuracies[:2] == FewShotProbe(3, num_draws=2).accuracies(data, data)
    assert accuracies != FewShotProbe(3, num_draws=6, seed=1).accuracies(data, data)
    assert len(set(accuracies)) > 1 and np.mean(accuracies) > 1 / 3
    separable = (np.eye(3)[labels], labels)
    assert FewShotProbe(1, num_draws=2).accuracies(separable, separable) == [1.0, 1.0]


def test_all_shots_are_those_of_the_classifier():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(40, 4)), np.arange(40) % 4
    probe = FewShotProbe(shots=None)  # five draws would be five times the same
    assert probe.accuracies((x, y), (x, y)) == [RidgeClassifier().fit(x, y).accuracy(x, y)]
    assert probe.name == "ridge accuracy"


@pytest.mark.parametrize(
    ("use", "message"),
    [
        (lambda: RidgeClassifier(0.0), "l2=0.0"),
        (lambda: RidgeClassifier().fit(np.zeros((3, 2, 1)), np.zeros(3, int)), r"\(3, 2, 1\)"),
        (lambda: FewShotProbe(0), "shots=0"),
        (lambda: FewShotProbe(2).accuracies((np.zeros((3, 2)), [0, 0, 1]), (np.zeros((1, 2)), [0])), "Class 1 has 1"),
    ],
)
def test_wrong_arguments_are_named(use, message):
    with pytest.raises(ValueError, match=message):
        use()
