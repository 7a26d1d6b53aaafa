"""Targets against scikit-image and against formulas in NumPy."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_umd.objectives import Objective, Reconstruction
from keras_umd.objectives.targets import HOG, BandRatios, Cells, Fourier, Pixels
from tests.conftest import array

RNG = np.random.default_rng(0)


def images(*shape):
    return RNG.uniform(-1, 1, shape).astype("float32")


def cut(x, rows, columns):
    """Patches `(n, number, rows, columns, channels)` by slices."""
    starts = [(r, c) for r in range(0, x.shape[1], rows) for c in range(0, x.shape[2], columns)]
    return np.stack([x[:, r : r + rows, c : c + columns] for r, c in starts], axis=1)


def test_histograms_of_gradients_are_those_of_scikit_image(golden):
    recorded = golden("hog")
    target = HOG(cell=4, operator="central")
    values = array(target({"x0": ops.convert_to_tensor(recorded["images"])}, (8, 4)))
    assert values.shape == (2, 3, 2 * 1 * 3 * 9) == (2, 3, target.num_values(8 * 4 * 3))
    cells = recorded["histograms"].transpose(0, 2, 3, 1, 4)  # (n, rows, columns, channels, bins)
    np.testing.assert_allclose(values, cut(cells.reshape(2, 2, 3, 27), 2, 1).reshape(2, 3, -1), atol=2e-6)


def test_histograms_of_sobels_gradients():
    x = images(2, 4, 6, 1).astype("float64")
    padded = np.pad(x[..., 0], [(0, 0), (1, 1), (1, 1)], mode="reflect")
    kernel = np.outer([1, 2, 1], [-1, 0, 1])
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(1, 2))
    along_columns, along_rows = (np.sum(windows * k, axis=(-2, -1)) for k in (kernel, kernel.T))
    angle = np.rad2deg(np.arctan2(along_rows, along_columns)) % 180
    expected = np.zeros((2, 2, 3, 6))
    for index in np.ndindex(2, 4, 6):
        n, row, column = index
        expected[n, row // 2, column // 2, int(angle[index] // 30)] += np.hypot(along_rows, along_columns)[index] / 4
    expected /= np.sqrt((expected**2).sum(-1, keepdims=True) + 1e-10)
    values = array(HOG(bins=6, cell=2)({"x0": ops.convert_to_tensor(x.astype("float32"))}, (2, 2)))
    np.testing.assert_allclose(values, expected.reshape(2, 6, 6), atol=1e-5)


def test_only_the_run_of_edges_counts():
    x = images(1, 8, 8, 3)
    target = HOG(cell=4)
    values = array(target({"x0": ops.convert_to_tensor(x)}, (8, 8)))
    other = array(target({"x0": ops.convert_to_tensor(3 * x + 1)}, (8, 8)))
    np.testing.assert_allclose(other, values, atol=1e-4)
    ramp = np.broadcast_to(np.arange(8.0)[:, None], (8, 8)).astype("float32")[None, ..., None]
    inner = array(HOG(cell=2)({"x0": ops.convert_to_tensor(ramp)}, (2, 2))).reshape(4, 4, 9)[1:3]
    np.testing.assert_allclose(inner, np.broadcast_to(np.eye(9)[4], (2, 4, 9)), atol=1e-4)  # at 90 degrees
    flat = array(HOG(cell=2)({"x0": ops.zeros((1, 4, 4, 1))}, (4, 4)))
    assert np.all(flat == 0)


@pytest.mark.parametrize(("shape", "patch"), [((2, 4, 6, 3), (2, 3)), ((1, 2, 4, 2, 1), (2, 2, 1))], ids=str)
def test_fourier_coefficients_are_numpys(shape, patch):
    x = images(*shape)
    target = Fourier()
    values = array(target({"x0": ops.convert_to_tensor(x)}, patch))
    blocks = x.reshape(
        shape[0], *(n for size, p in zip(shape[1:], patch, strict=False) for n in (size // p, p)), shape[-1]
    )
    axes = len(patch)
    blocks = blocks.transpose(0, *range(1, 2 * axes, 2), *range(2, 2 * axes + 1, 2), 2 * axes + 1)
    spectrum = np.fft.fftn(blocks, axes=tuple(range(1 + axes, 1 + 2 * axes)), norm="ortho")
    expected = spectrum.reshape(*values.shape[:2], -1)
    np.testing.assert_allclose(values, np.concatenate([expected.real, expected.imag], axis=-1), atol=1e-5)


def test_errors_of_a_spectrum():
    x, y = images(2, 4, 4, 2), images(2, 4, 4, 2)
    a, b = (array(Fourier()({"x0": ops.convert_to_tensor(image)}, (2, 4))).astype("float64") for image in (x, y))
    half = a.shape[-1] // 2
    distance = np.hypot(a[..., :half] - b[..., :half], a[..., half:] - b[..., half:])
    a, b = a.astype("float32"), b.astype("float32")
    np.testing.assert_allclose(array(Fourier().errors(a, b)), distance.mean(-1), rtol=1e-4)
    weights = np.log1p(distance) / np.log1p(distance).max(-1, keepdims=True)
    np.testing.assert_allclose(array(Fourier(2.0, True).errors(a, b)), (weights * distance**2).mean(-1), rtol=1e-4)
    of_pixels = (cut(x - y, 2, 4) ** 2).mean(axis=(2, 3, 4))  # Parseval
    np.testing.assert_allclose(array(Fourier(2.0).errors(a, b)), of_pixels, rtol=1e-4)
    np.testing.assert_allclose(array(Fourier(2.0, True).errors(a, a)), 0, atol=1e-6)


def test_ratios_of_bands():
    x = images(2, 4, 6, 13)
    target = BandRatios(((7, 3), (2, 7), (11, 7)), channels=13)
    light = x.astype("float64") + 1
    expected = [(light[..., a] - light[..., b]) / (light[..., a] + light[..., b] + 1e-5) for a, b in target.pairs]
    values = array(target({"x0": ops.convert_to_tensor(x)}, (2, 3)))
    assert values.shape[-1] == target.num_values(2 * 3 * 13) == 18
    np.testing.assert_allclose(values, cut(np.stack(expected, -1), 2, 3).reshape(2, 4, -1), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_pixels_normalised_by_channel(channels):
    x = images(2, 4, 6, channels)
    target = Pixels(channels=channels)
    patches = cut(x, 2, 3)
    mean, variance = patches.mean((2, 3), keepdims=True), patches.var((2, 3), keepdims=True)
    expected = ((patches - mean) / np.sqrt(variance + 1e-6)).reshape(2, 4, -1)
    values = target({"x0": ops.convert_to_tensor(x)}, (2, 3))
    np.testing.assert_allclose(array(values), expected, atol=1e-4)
    back = target.as_pixels(values, ops.convert_to_tensor(patches.reshape(2, 4, -1)))
    np.testing.assert_allclose(array(back), patches.reshape(2, 4, -1), atol=1e-5)
    tinted = array(target({"x0": ops.convert_to_tensor(x * 2 + np.arange(channels, dtype="float32"))}, (2, 3)))
    np.testing.assert_allclose(tinted, expected, atol=1e-3)
    if channels == 1:
        np.testing.assert_allclose(array(Pixels()({"x0": ops.convert_to_tensor(x)}, (2, 3))), expected, atol=1e-4)


@pytest.mark.host
def test_a_config_says_it_all():
    terms = [Reconstruction("clean", target) for target in (HOG(6, 4), Fourier(2.0), BandRatios(((0, 1),), 3))]
    objective = Objective([*terms, Reconstruction("clean", Pixels(channels=3))])
    config = keras.saving.serialize_keras_object(objective)
    assert keras.saving.serialize_keras_object(keras.saving.deserialize_keras_object(config)) == config
    assert Pixels().get_config() == {"normalize": True, "epsilon": 1e-6}


@pytest.mark.host
@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: HOG(operator="roberts"), "operator='roberts'"),
        (lambda: HOG(cell=8)({"x0": np.zeros((1, 8, 8, 1))}, (4, 4)), "cell=8 for patches"),
        (lambda: HOG()({"x0": np.zeros((1, 8, 1))}, (8,)), "two space axes"),
        (lambda: HOG(cell=1)({"x0": np.zeros((1, 1, 4, 1))}, (1, 1)), "two pixels or more"),
        (lambda: Cells(HOG(cell=6), "a", 3)({"x0": np.zeros((1, 8, 8, 1))}, (2, 2)), r"unit=3 for a grid of \(4, 4\)"),
        (lambda: Fourier(gamma=0.0), "gamma=0.0"),
        (lambda: BandRatios(((0, 3),), channels=3), "pairs="),
        (lambda: Pixels(normalize=False, channels=3), "channels=3"),
        (lambda: Pixels(channels=5)({"x0": ops.zeros((1, 4, 4, 3))}, (2, 2)), "channels=5"),
    ],
)
def test_wrong_settings_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.host
@pytest.mark.parametrize("channels", [None, 3])
def test_pixels_of_standardised_images_with_the_variance_of_a_sample(channels):
    """MAE's target for images that were standardised by channel, from the images as they are."""
    x, means, deviations = images(2, 4, 4, 3), [0.1, -0.2, 0.3], [0.5, 0.6, 0.7]
    target = Pixels(unbiased=True, standardized=(means, deviations), channels=channels)
    patches = cut(((x - means) / deviations).astype("float64"), 2, 2)  # (n, patches, rows, columns, channels)
    axes = (2, 3, 4) if channels is None else (2, 3)
    mean, variance = patches.mean(axes, keepdims=True), patches.var(axes, keepdims=True, ddof=1)
    expected = ((patches - mean) / np.sqrt(variance + 1e-6)).reshape(2, 4, 12)
    values = target({"x0": ops.convert_to_tensor(x)}, (2, 2))
    np.testing.assert_allclose(array(values), expected, atol=1e-5)
    restored = array(target.as_pixels(values, ops.convert_to_tensor(cut(x, 2, 2).reshape(2, 4, 12))))
    np.testing.assert_allclose(restored, cut(x, 2, 2).reshape(2, 4, 12), atol=1e-5)
    revived = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(target))
    np.testing.assert_array_equal(array(revived({"x0": ops.convert_to_tensor(x)}, (2, 2))), array(values))
    plain = Pixels(normalize=False, standardized=(means, deviations))
    np.testing.assert_allclose(
        array(plain({"x0": ops.convert_to_tensor(x)}, (2, 2))), patches.reshape(2, 4, 12), atol=1e-5
    )


@pytest.mark.host
@pytest.mark.parametrize("wrong", [(1, 2), ([0.0], [0.0]), ([0.0, 1.0], [1.0]), ([], []), "imagenet"])
def test_moments_of_channels_are_checked(wrong):
    with pytest.raises(ValueError, match="`standardized` must be a pair of lists"):
        Pixels(standardized=wrong)
