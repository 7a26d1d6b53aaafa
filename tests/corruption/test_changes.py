"""Changes of values against NumPy, and the limits at which a view is as if nothing were changed."""

import itertools

import keras
import numpy as np
import pytest
from keras import ops

from keras_umd import Corruption, View
from keras_umd.corruption import changes, masks
from tests.conftest import array

RNG = np.random.default_rng(0)


def images(*shape):
    return RNG.uniform(-1, 1, shape).astype("float32")


def changed(change, x, patch_size, draws=None, noise=None):
    """What a view with this change makes of images, as NumPy arrays."""
    view = View("clean", change=change)
    grid = tuple(size // patch for size, patch in zip(x.shape[1:-1], patch_size, strict=True))
    draws = RNG.uniform(size=(len(x), view.num_draws(grid))).astype("float32") if draws is None else draws
    noise = np.zeros_like(x) if noise is None else noise
    return {
        name: array(value)
        for name, value in view.changed(
            *map(ops.convert_to_tensor, (x, draws)), patch_size, ops.convert_to_tensor(noise)
        ).items()
    }


@pytest.mark.parametrize(("shape", "patch"), [((3, 6, 8, 2), (2, 4)), ((3, 4, 2, 6, 1), (2, 1, 3)), ((3, 12, 2), (4,))])
def test_frequencies_are_removed_as_by_numpy(shape, patch):
    x, draws = images(*shape), np.array([[0.2], [0.6], [0.4]], "float32")  # low, high, low
    found = changed(changes.Frequency(1.5, low_pass=0.5), x, patch, draws)
    space = tuple(range(1, len(shape) - 1))
    mesh = np.meshgrid(*[np.fft.fftfreq(n) * n for n in shape[1:-1]], indexing="ij")
    disc = sum(axis**2 for axis in mesh) < 1.5**2
    kept = np.stack([disc, ~disc, disc])
    expected = np.fft.ifftn(np.fft.fftn(x, axes=space) * kept[..., None], axes=space).real
    np.testing.assert_allclose(found["images"], expected, atol=1e-5)
    np.testing.assert_array_equal(found["removed"], ~kept)


@pytest.mark.host
def test_the_parts_of_an_image_add_up_to_it_and_a_disc_of_everything_is_the_image():
    x = images(2, 4, 6, 3)
    low, high = (changed(changes.Frequency(1.2, share), x, (2, 2))["images"] for share in (1.0, 0.0))
    np.testing.assert_allclose(low + high, x, atol=1e-5)
    whole = changed(changes.Frequency(100.0, 1.0), x, (2, 2))
    np.testing.assert_allclose(whole["images"], x, atol=1e-5)
    assert not whole["removed"].any()


@pytest.mark.parametrize("fill", ["mean", "zero", "noise", "other", {"noise": 0.5, "other": 0.5}], ids=str)
def test_masked_patches_are_filled_and_others_stay_bit_for_bit(fill):
    x, noise, mask = images(3, 4, 6, 2), images(3, 4, 6, 2), masks.Random(0.5)
    grid, draws = (2, 2), RNG.uniform(size=(3, 8)).astype("float32")
    found = changed(changes.Fill(mask, fill), x, (2, 3), draws, noise)
    for row, patch in itertools.product(range(3), range(4)):
        is_changed = np.argsort(draws[row, :4]).tolist().index(patch) >= 2
        assert found["changed"][row, patch] == is_changed
        r, c = 2 * (patch // grid[1]), 3 * (patch % grid[1])
        part = np.s_[r : r + 2, c : c + 3]
        kind = ("noise" if draws[row, 4 + patch] < 0.5 else "other") if isinstance(fill, dict) else fill
        filled = {
            "mean": np.broadcast_to(x[row].mean(axis=(0, 1)), (2, 3, 2)),
            "zero": np.zeros((2, 3, 2)),
            "noise": noise[row][part],
            "other": x[row - 1][part],
        }
        expected = filled[kind] if is_changed else x[row][part]
        np.testing.assert_allclose(found["images"][row][part], expected, atol=1e-6 * is_changed)


@pytest.mark.parametrize(("hidden", "basis"), [((1,), None), ((0, 3), None), ((0,), "opponent"), ((1, 2), "opponent")])
def test_hidden_channels_are_gone_and_the_others_stay(hidden, basis):
    channels = 3 if basis else 4
    x = images(2, 4, 4, channels)
    found = changed(changes.HideChannels(hidden, basis), x, (2, 2))["images"]
    rows = np.eye(channels)
    if basis:
        rows = np.array([[1, 1, 1], [1, -1, 0], [1, 1, -2]]) / np.sqrt([[3], [2], [6]])
    seen, true = found @ rows.T, x @ rows.T
    others = [i for i in range(channels) if i not in hidden]
    np.testing.assert_allclose(seen[..., list(hidden)], 0, atol=1e-6)
    np.testing.assert_allclose(seen[..., others], true[..., others], atol=1e-6)
    np.testing.assert_allclose(
        array(changes.channels.components(ops.convert_to_tensor(x), hidden, basis)), true[..., list(hidden)], atol=1e-6
    )


def test_colours_are_those_of_another_image_and_are_what_is_predicted():
    x, draws = images(3, 4, 6, 2), np.array([[0.2], [0.7], [0.4]], "float32")
    found = changed(changes.ColorAdapt(0.5), x, (2, 2), draws)
    for row, other in ((0, 2), (2, 0)):
        mean, deviation = (found["images"][row].mean((0, 1)), found["images"][row].std((0, 1)))
        np.testing.assert_allclose(mean, x[other].mean((0, 1)), atol=1e-5)
        np.testing.assert_allclose(deviation, x[other].std((0, 1)), atol=1e-5)
        scaled = [(image - image.mean((0, 1))) / image.std((0, 1)) for image in (x[row], found["images"][row])]
        np.testing.assert_allclose(*scaled, atol=1e-4)
    np.testing.assert_array_equal(found["images"][1], x[1])
    np.testing.assert_array_equal(found["x0"], found["images"])
    np.testing.assert_array_equal(changed(changes.ColorAdapt(0.0), x, (2, 2))["images"], x)


@pytest.mark.host
def test_a_corruption_gives_what_a_change_says_beside_the_true_image():
    change = changes.Fill(masks.Random(0.5), "zero")
    corruption = Corruption(views=[View("clean", mask=masks.Random(0.25), change=change, gives_class=True)])
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(corruption))
    assert repr(again) == repr(corruption)
    x, labels = ops.convert_to_tensor(images(4, 4, 4, 1)), ops.convert_to_tensor(np.arange(4))
    draws = corruption.draw(x.shape, 2, seed=0)
    assert draws["mask_noise"].shape == (4, 8)  # the mask and the change have numbers of their own
    view = again.corrupt(x, draws, 2, labels)["clean"]
    np.testing.assert_array_equal(array(view["x0"]), array(x))
    np.testing.assert_array_equal(array(view["class"]), np.arange(4))
    assert array(view["changed"]).sum() == 8 and view["visible"].shape == (4, 3)
    assert "class" not in corruption.corrupt(x, draws, 2)["clean"]
    (clean, noisy) = corruption.for_finetuning().views
    assert clean.change is not None and noisy.change is None


@pytest.mark.host
def test_views_of_before_are_described_as_before():
    assert set(View("clean").get_config()) == {"name", "noise", "mask", "share", "decoded_ratio"}


@pytest.mark.host
@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: changes.Frequency(-1), "`radius` must"),
        (lambda: changes.Frequency(low_pass=2), "`low_pass` must"),
        (lambda: changes.Fill(fill="black"), "`fill` must be one of"),
        (lambda: changes.Fill(fill={"noise": 0.5}), "shares of `fill`"),
        (lambda: changes.ColorAdapt(2), "`probability` must"),
        (lambda: changes.Fill(masks.InPlace()), "`mask` must choose patches.*InPlace"),
        (lambda: changes.Fill("random"), "`mask` must be a Mask"),
        (lambda: changes.HideChannels(()), "`hidden` must be a tuple"),
        (lambda: changes.HideChannels((1, 1)), "different integers"),
        (lambda: changes.HideChannels((3,), "opponent"), "needs images with three"),
        (lambda: changed(changes.HideChannels((0,)), images(1, 2, 2, 1), (1, 1)), "must leave a channel"),
        (lambda: View("noisy", noise=Corruption.dit().views[0].noise, change=changes.Frequency()), "for clean views"),
    ],
)
def test_what_cannot_be_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_a_crop_lies_in_a_crop_and_both_are_bilinear():
    x, change = images(3, 6, 8, 2), changes.CropInCrop((0.2, 0.7))
    draws = RNG.uniform(size=(3, 8)).astype("float32")
    outer, inner = ([tuple(map(array, side)) for side in box] for box in change.boxes(ops.convert_to_tensor(draws)))
    for (start, length), (start_within, length_within) in zip(outer, inner, strict=True):
        assert (start >= 0).all() and (start + length <= 1 + 1e-6).all() and (length_within < length).all()
        assert (start_within >= start).all() and (start_within + length_within <= start + length + 1e-6).all()
    areas = [box[0][1] * box[1][1] for box in (outer, inner)]
    np.testing.assert_allclose(areas[0], 0.2 + 0.5 * draws[:, 0], rtol=1e-5)
    np.testing.assert_allclose(areas[1], areas[0] * (0.2 + 0.5 * draws[:, 4]), rtol=1e-5)
    ratio = outer[1][1] / outer[0][1]
    assert (ratio > 0.75 - 1e-5).all() and (ratio < 4 / 3 + 1e-5).all()

    found = changed(change, x, (2, 2), draws)
    np.testing.assert_array_equal(found["x0"], found["images"])
    for name, box in (("other", outer), ("images", inner)):
        for row in range(3):
            weights = []
            for (start, length), size in zip(box, x.shape[1:3], strict=True):
                at = start[row] * size + (np.arange(size) + 0.5) * length[row] - 0.5
                at = np.clip(at, 0, size - 1)[:, None]
                weights.append(np.maximum(1 - np.abs(np.arange(size) - at), 0))
            expected = np.einsum("ph,qw,hwc->pqc", *weights, x[row])
            np.testing.assert_allclose(found[name][row], expected, atol=1e-4)


@pytest.mark.host
def test_crops_of_everything_are_the_image_bit_for_bit():
    x = images(2, 6, 8, 3)
    found = changed(changes.CropInCrop(area=(1, 1)), x, (2, 2))
    for name in ("images", "x0", "other"):
        np.testing.assert_array_equal(found[name], x)
    with pytest.raises(ValueError, match="for images with two space axes"):
        changed(changes.CropInCrop(), images(2, 8, 1), (2,))
    with pytest.raises(ValueError, match=r"`area` must be a pair .* in \(0, 1\]"):
        changes.CropInCrop(area=(0.5, 1.5))
