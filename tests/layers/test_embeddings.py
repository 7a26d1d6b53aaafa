import numpy as np
import pytest
from keras import ops

from keras_umd.backend.gradients import value_and_gradients
from keras_umd.layers import LabelEmbedding, PositionEmbedding, TimestepEmbedding
from tests.conftest import array


def test_timesteps_stay_distinct_in_bfloat16():
    layer = TimestepEmbedding(64, dtype="mixed_bfloat16")
    sinusoids = array(layer.sinusoid(np.arange(1001)))
    assert sinusoids.dtype == np.float32
    assert len(np.unique(sinusoids, axis=0)) == 1001


def test_sinusoid_reaches_from_frequency_one_to_one_in_ten_thousand():
    sinusoid = array(TimestepEmbedding(8).sinusoid(np.array([7])))[0]
    frequencies = np.array([1.0, 10_000 ** (-1 / 3), 10_000 ** (-2 / 3), 1e-4])
    np.testing.assert_allclose(sinusoid, [*np.sin(7 * frequencies), *np.cos(7 * frequencies)], atol=1e-6)


@pytest.mark.parametrize("layer", [PositionEmbedding((2, 2), dtype="mixed_bfloat16"), None])
def test_gradients_of_tables_count_all_images_in_bfloat16(layer):
    """In bfloat16 a sum of ones ends at 256."""
    rows = np.random.default_rng(0).integers(0, 4, (2000, 1))
    if layer is None:
        layer = LabelEmbedding(num_classes=4, hidden_dim=4, dtype="mixed_bfloat16")
        layer.build((None,))
        layer.project = lambda vectors: ops.cast(vectors, "bfloat16")  # what follows the table
        table, call = layer.table, lambda: layer(rows[:, 0])
    else:
        tokens = np.zeros((2000, 1, 4), "float32")
        layer.build(tokens.shape)
        table, call = layer.positions, lambda: layer(tokens, indices=rows)
    _, (gradient,) = value_and_gradients(lambda: ops.sum(ops.cast(call(), "float32")), [table])
    dense = array(ops.convert_to_tensor(gradient))[:4]
    np.testing.assert_array_equal(dense, np.bincount(rows[:, 0])[:, None] * np.ones(4))


def test_dropped_labels_are_the_null_label():
    layer = LabelEmbedding(num_classes=4, hidden_dim=8)
    labels = np.array([0, 1, 2])
    dropped = array(layer(labels, drop=np.array([True, False, True])))
    null = array(layer(np.array([4])))[0]
    np.testing.assert_allclose(dropped[[0, 2]], [null, null], atol=1e-6)
    np.testing.assert_allclose(dropped[1], array(layer(labels))[1], atol=1e-6)


def test_labels_are_dropped_at_random_in_training_only():
    layer = LabelEmbedding(num_classes=4, hidden_dim=8, dropout=0.25, seed=0)
    labels = np.zeros(2000, "int32")
    plain, null = array(layer(labels))[0], array(layer(np.array([4])))[0]
    np.testing.assert_allclose(array(layer(labels)), np.tile(plain, (2000, 1)), atol=1e-6)
    trained = array(layer(labels, training=True))
    is_null = np.abs(trained - null).max(axis=1) < 1e-6
    assert 0.2 < is_null.mean() < 0.3
    np.testing.assert_allclose(trained[~is_null], np.broadcast_to(plain, trained[~is_null].shape), atol=1e-6)


def test_positions_are_added_where_each_token_is_from():
    layer = PositionEmbedding(grid=(2, 3))
    tokens = np.random.default_rng(0).normal(size=(2, 6, 4)).astype("float32")
    all_tokens = array(layer(tokens))
    indices = np.array([[5, 0], [2, 3]])
    some = array(layer(np.take_along_axis(tokens, indices[:, :, None], axis=1), indices=indices))
    np.testing.assert_allclose(some, np.take_along_axis(all_tokens, indices[:, :, None], axis=1), atol=1e-6)


@pytest.mark.host
@pytest.mark.parametrize(("grid", "dim"), [((2, 3), 8), ((5,), 6), ((2, 1, 3), 12)])
def test_fixed_positions_are_sines_and_cosines_of_the_place_along_each_axis(grid, dim):
    """The last axis first, as MAE and DiT have it: columns, then rows."""
    layer = PositionEmbedding(grid, "sincos")
    layer.build((None, None, dim))
    assert not layer.trainable_variables
    number, expected = dim // (2 * len(grid)), []
    for place in np.ndindex(*grid):
        angles = [[k / 10_000 ** (i / number) for i in range(number)] for k in reversed(place)]
        expected.append(np.concatenate([[*np.sin(of_axis), *np.cos(of_axis)] for of_axis in angles]))
    np.testing.assert_allclose(array(layer.positions), expected, atol=1e-6)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: TimestepEmbedding(7), "hidden_dim=7"),
        (lambda: PositionEmbedding((2, 3), "fixed"), "`kind` must be one of .* Received: kind='fixed'"),
        (lambda: PositionEmbedding((2, 3), "sincos")(np.zeros((1, 6, 6))), "a multiple of 4, twice the space axes"),
        (lambda: LabelEmbedding(0, 8), "num_classes=0"),
        (lambda: LabelEmbedding(3, 8, dropout=1.0), "dropout=1.0"),
    ],
)
def test_wrong_arguments_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()
