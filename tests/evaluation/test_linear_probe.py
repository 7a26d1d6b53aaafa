import keras
import pytest

from keras_umd.evaluation import LinearProbe


@pytest.fixture(scope="module")
def digits():
    from sklearn.datasets import load_digits

    data = load_digits()
    return (data.data[:1200], data.target[:1200]), (data.data[1200:], data.target[1200:])


@pytest.mark.backends("jax", "torch")
def test_it_is_about_as_accurate_as_logistic_regression(digits):
    from sklearn.linear_model import LogisticRegression

    (x, y), (x_test, y_test) = digits
    mean, deviation = x.mean(0), x.std(0) + 1e-3
    oracle = LogisticRegression(C=0.1, max_iter=500).fit((x - mean) / deviation, y)
    expected = oracle.score((x_test - mean) / deviation, y_test)
    probe = LinearProbe(epochs=15, batch_size=64, num_runs=2)
    accuracies = probe.accuracies(*digits)
    assert all(abs(accuracy - expected) < 0.02 for accuracy in accuracies)
    # BatchNorm's whitening makes it blind to the features' scale.
    scaled = [(10 * x + 1000, y) for x, y in digits]
    assert abs(probe.accuracies(*scaled)[0] - accuracies[0]) < 0.02
    assert LinearProbe(epochs=15).accuracies(*scaled)[0] > expected - 0.05  # after 75 steps


def test_any_optimizer_and_runs_that_repeat(digits):
    train, test = [(x[:100], y[:100]) for x, y in digits]
    chosen = LinearProbe(epochs=2, batch_size=32, optimizer=lambda steps: keras.optimizers.Adam(1e-2), seed=3)
    assert chosen.accuracies(train, test) == chosen.accuracies(train, test)
    assert chosen.get_config()["optimizer_for_1000_steps"]["class"] == "Adam"
    assert LinearProbe().get_config()["optimizer_for_1000_steps"]["class"] == "SGD"
    assert LinearProbe().get_config() == LinearProbe().get_config()  # or two results couldn't be compared


def test_fewer_images_than_a_batch(digits):
    train, test = [(x[:20], y[:20]) for x, y in digits]
    assert 0 <= LinearProbe(epochs=1).accuracies(train, test)[0] <= 1


def test_the_global_precision_does_not_count(digits):
    """Features whose differences bfloat16 doesn't see."""
    (x, y), (x_test, y_test) = ((data[0] / 1000 + 10, data[1]) for data in digits)
    probe = LinearProbe(epochs=3, batch_size=64)
    expected = probe.accuracies((x, y), (x_test, y_test))
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        assert probe.accuracies((x, y), (x_test, y_test)) == pytest.approx(expected, abs=0.01)
    finally:
        keras.config.set_dtype_policy("float32")
