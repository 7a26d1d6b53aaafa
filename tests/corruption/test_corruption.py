import keras
import numpy as np
import pytest

from keras_umd import Corruption
from keras_umd.corruption.batch_split import BatchSplit
from tests.conftest import array

SHAPE = (8, 4, 6, 2)
PATCH = (1, 3)  # a grid of 4 x 2
IMAGES = np.random.default_rng(0).uniform(-1, 1, SHAPE).astype("float32")


def sizes_of_batches(*sizes):
    """The rule is NumPy's; two sizes show that each backend takes the rows that it says."""
    return [size if size in (8, 13) else pytest.param(size, marks=pytest.mark.backends("torch")) for size in sizes]


@pytest.mark.parametrize("clean_ratio", [0.0, 0.05, 0.25, 0.5, 0.7, 1.0])
@pytest.mark.parametrize("batch_size", sizes_of_batches(1, 2, 3, 8, 13, 100))
def test_the_split_follows_the_rule(batch_size, clean_ratio):
    expected = round(batch_size * clean_ratio)
    if 0 < clean_ratio < 1 and batch_size >= 2:
        expected = min(max(expected, 1), batch_size - 1)
    i = np.arange(batch_size)
    is_clean = (i + 1) * expected // batch_size > i * expected // batch_size
    split = BatchSplit(batch_size, [clean_ratio, 1 - clean_ratio] if 0 < clean_ratio < 1 else [1.0])
    members = [is_clean, ~is_clean] if 0 < clean_ratio < 1 else [np.ones(batch_size, bool)]
    for view, rows in enumerate(members):
        np.testing.assert_array_equal(split.is_member[view], rows)
        assert split.has(view) == rows.any()
        if rows.any():
            np.testing.assert_array_equal(array(split.take(i[:, None], view)), i[rows, None])


@pytest.mark.parametrize("shares", [(0.5, 0.25, 0.25), (0.1, 0.2, 0.7), (0.25, 0.25, 0.25, 0.25)])
@pytest.mark.parametrize("batch_size", sizes_of_batches(1, 4, 13, 100))
def test_any_number_of_views_divides_the_batch_in_its_shares(batch_size, shares):
    split = BatchSplit(batch_size, shares)
    np.testing.assert_array_equal(np.sum(split.is_member, axis=0), np.ones(batch_size))
    i = np.arange(batch_size)
    for view, share in enumerate(shares):
        assert split.counts[view] == split.is_member[view].sum()
        assert abs(split.counts[view] - batch_size * share) <= 1
        if split.has(view):
            np.testing.assert_array_equal(array(split.take(i[:, None], view)), i[split.is_member[view], None])
        if batch_size == 100:  # as even as it can be: in no window of 20 more than two too many or too few
            counts = np.convolve(split.is_member[view], np.ones(20), mode="valid")
            assert np.abs(counts - 20 * share).max() <= 2


@pytest.mark.backends("tensorflow")  # only TensorFlow traces batches of unknown size
@pytest.mark.parametrize("jit_compile", [False, True])
@pytest.mark.parametrize("shares", [(1.0,), (0.05, 0.95), (0.5, 0.5), (0.7, 0.3), (0.5, 0.2, 0.3)])
def test_a_batch_of_unknown_size_is_split_alike(shares, jit_compile):
    import tensorflow as tf

    @tf.function(input_signature=[tf.TensorSpec((None,), "int32")], jit_compile=jit_compile)
    def split(x):
        split = BatchSplit(tf.shape(x)[0], shares)
        return [split.take(x, view) for view in range(len(shares))], split.is_member

    for batch_size in (1, 2, 3, 8, 13, 100):
        static = BatchSplit(batch_size, shares)
        i = np.arange(batch_size, dtype="int32")
        rows, is_member = split(i)
        for view in range(len(shares)):
            np.testing.assert_array_equal(array(rows[view]), i[static.is_member[view]])
            np.testing.assert_array_equal(array(is_member[view]), static.is_member[view])


def test_draws_have_their_shapes_ranges_and_frequencies():
    corruption = Corruption(clean_ratio=0.25, num_timesteps=10)
    draws = {k: array(v) for k, v in corruption.draw((4000, 4, 4, 1), 1, seed=0, label_dropout=0.1).items()}
    is_clean = BatchSplit(4000, [0.25, 0.75]).is_member[0]
    assert np.all(draws["timesteps"][is_clean] == 0)
    counts = np.bincount(draws["timesteps"][~is_clean], minlength=11)
    assert counts[0] == 0
    np.testing.assert_allclose(counts[1:] / 3000, 0.1, atol=0.025)
    np.testing.assert_allclose([draws["noise"].mean(), draws["noise"].std()], [0, 1], atol=0.05)
    assert draws["mask_noise"].shape == (4000, 16)
    assert 0 <= draws["mask_noise"].min() < draws["mask_noise"].max() < 1
    assert 0.07 < draws["label_drop"].mean() < 0.13
    assert draws["label_drop"].dtype == bool


def test_draws_follow_the_seed():
    corruption = Corruption()
    first, second, other = (corruption.draw(SHAPE, 2, seed) for seed in (1, 1, 2))
    for name in first:
        np.testing.assert_array_equal(array(first[name]), array(second[name]))
    assert np.any(array(first["noise"]) != array(other["noise"]))
    generator = keras.random.SeedGenerator(1)
    in_sequence = [array(corruption.draw(SHAPE, 2, generator)["noise"]) for _ in range(2)]
    assert np.any(in_sequence[0] != in_sequence[1])


def test_views_hold_each_image_once_as_seen_and_as_predicted():
    corruption = Corruption(clean_ratio=0.25, clean_mask_ratio=0.5, noisy_mask_ratio=0.25)
    draws = corruption.draw(SHAPE, PATCH, seed=0, label_dropout=0.5)
    labels = np.arange(8)
    views = keras.tree.map_structure(array, corruption.corrupt(IMAGES, draws, PATCH, labels))
    clean, noisy = views["clean"], views["noisy"]
    rows = array(draws["timesteps"]) == 0
    np.testing.assert_array_equal(clean["images"], IMAGES[rows])
    np.testing.assert_array_equal(clean["x0"], IMAGES[rows])
    assert "labels" not in clean
    assert "noise" not in clean
    np.testing.assert_array_equal(noisy["x0"], IMAGES[~rows])
    np.testing.assert_array_equal(noisy["noise"], array(draws["noise"])[~rows])
    np.testing.assert_array_equal(noisy["labels"], labels[~rows])
    np.testing.assert_array_equal(noisy["label_drop"], array(draws["label_drop"])[~rows])
    alpha_bar = corruption.noise_schedule.alpha_bar[noisy["timesteps"]][:, None, None, None]
    x_t = np.sqrt(alpha_bar) * noisy["x0"] + np.sqrt(1 - alpha_bar) * noisy["noise"]
    np.testing.assert_allclose(noisy["images"], x_t, atol=1e-6)
    for view, visible in ((clean, 4), (noisy, 6)):
        assert view["visible"].shape[1] == visible
        order = np.concatenate([view["visible"], view["masked"]], axis=1)
        np.testing.assert_array_equal(np.sort(order, axis=1), np.tile(np.arange(8), (len(order), 1)))


def test_a_share_of_the_masked_patches_is_decoded():
    whole, part = (Corruption(clean_mask_ratio=0.75, decoded_ratio=ratio) for ratio in (1.0, 0.5))
    draws = whole.draw(SHAPE, PATCH, seed=0)
    expected, views = (c.corrupt(IMAGES, draws, PATCH) for c in (whole, part))
    for name, number in (("clean", 3), ("noisy", 2)):  # of 6 and of 3, rounded to even
        np.testing.assert_array_equal(array(views[name]["visible"]), array(expected[name]["visible"]))
        np.testing.assert_array_equal(array(views[name]["masked"]), array(expected[name]["masked"])[:, :number])


def test_corrupting_is_pure():
    corruption = Corruption()
    draws = corruption.draw(SHAPE, PATCH, seed=0)
    first, second = (corruption.corrupt(IMAGES, draws, PATCH) for _ in range(2))
    for a, b in zip(keras.tree.flatten(first), keras.tree.flatten(second), strict=True):
        np.testing.assert_array_equal(array(a), array(b))


@pytest.mark.host
def test_presets_are_the_methods_settings():
    settings = {name: getattr(Corruption, name)().get_config() for name in ("umd", "mae", "maskdit", "dit")}
    ratios = {
        name: tuple(config[key] for key in ("clean_ratio", "clean_mask_ratio", "noisy_mask_ratio"))
        for name, config in settings.items()
    }
    assert ratios == {
        "umd": (0.5, 0.75, 0.375),
        "mae": (1.0, 0.75, 0.375),
        "maskdit": (0.0, 0.75, 0.5),
        "dit": (0.0, 0.75, 0.0),
    }
    assert Corruption.dit(schedule="linear").get_config()["schedule"] == "linear"


@pytest.mark.host
def test_config_round_trip():
    corruption = Corruption(
        "linear", 500, clean_ratio=0.1, clean_mask_ratio=0.6, noisy_mask_ratio=0.2, decoded_ratio=0.5
    )
    config = keras.saving.serialize_keras_object(corruption)
    assert keras.saving.deserialize_keras_object(config).get_config() == corruption.get_config()
