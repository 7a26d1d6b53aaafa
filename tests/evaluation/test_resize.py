import keras
import numpy as np
import pytest

from keras_umd.evaluation.resize import RESIZE_MODES, resize_images, resize_matrix
from tests.conftest import array

SIZES = [(64, 299), (256, 299), (299, 299), (512, 299), (5, 3), (3, 7), (1, 4)]


@pytest.fixture
def images():
    return np.random.default_rng(0).integers(0, 256, (2, 12, 17, 3)).astype("uint8")


def linear(line, new_size, offset):
    """Between the two nearest pixels, one new pixel after the other."""
    step, result = len(line) / new_size, []
    for i in range(new_size):
        position = min(max((i + offset) * step - offset, 0), len(line) - 1)
        left = int(position)
        right = min(left + 1, len(line) - 1)
        result.append(line[left] + (line[right] - line[left]) * (position - left))
    return result


@pytest.mark.host
@pytest.mark.parametrize(("size", "new_size"), SIZES)
@pytest.mark.parametrize(("mode", "offset"), [("tf1", 0), ("half_pixel", 0.5)])
def test_the_linear_modes_are_those_of_a_loop(size, new_size, mode, offset):
    line = np.random.default_rng(0).uniform(0, 255, size)
    np.testing.assert_allclose(resize_matrix(size, new_size, mode) @ line, linear(line, new_size, offset), atol=1e-9)


@pytest.mark.host
@pytest.mark.parametrize(("size", "new_size"), SIZES)
def test_clean_is_pillows_bicubic(size, new_size):
    image_module = pytest.importorskip("PIL.Image")
    line = np.random.default_rng(0).uniform(0, 255, (1, size)).astype("float32")
    expected = np.asarray(image_module.fromarray(line).resize((new_size, 1), image_module.Resampling.BICUBIC))
    np.testing.assert_allclose(resize_matrix(size, new_size, "clean") @ line[0], expected[0], atol=1e-4)


def test_clean_is_clipped_to_the_range_of_images():
    edge = np.repeat([[0.0, 255.0]], 4, axis=0)[None, :, :, None]
    assert (resize_matrix(2, 8, "clean") @ [0, 255]).max() > 256
    resized = array(resize_images(edge, 8, "clean"))
    assert (resized.min(), resized.max()) == (0, 255)


def test_half_pixel_is_pytorchs_interpolate(images):
    torch = pytest.importorskip("torch")
    channels_first = torch.from_numpy(images).permute(0, 3, 1, 2).float()
    expected = torch.nn.functional.interpolate(channels_first, (29, 29), mode="bilinear", align_corners=False)
    resized = array(resize_images(keras.ops.convert_to_tensor(images), 29, "half_pixel"))
    np.testing.assert_allclose(resized, expected.permute(0, 2, 3, 1).numpy(), atol=1e-3)


def test_tf1_is_tensorflow_1s_resize(images):
    tf = pytest.importorskip("tensorflow")
    expected = tf.compat.v1.image.resize_bilinear(images, (29, 29), align_corners=False, half_pixel_centers=False)
    resized = array(resize_images(keras.ops.convert_to_tensor(images), 29, "tf1"))
    np.testing.assert_allclose(resized, expected.numpy(), atol=1e-3)


@pytest.mark.host
@pytest.mark.parametrize("mode", RESIZE_MODES)
def test_an_image_of_the_new_size_stays_as_it_is(mode):
    np.testing.assert_array_equal(resize_matrix(299, 299, mode), np.eye(299))


@pytest.mark.host
@pytest.mark.parametrize("mode", RESIZE_MODES)
def test_every_row_adds_up_to_one(mode):
    for size, new_size in SIZES:
        np.testing.assert_allclose(resize_matrix(size, new_size, mode).sum(axis=1), 1)


@pytest.mark.host
def test_an_unknown_mode_is_refused():
    with pytest.raises(ValueError, match="Received: mode='lanczos'"):
        resize_matrix(2, 3, "lanczos")


def test_an_unknown_size_is_refused():
    with pytest.raises(ValueError, match=r"must be static shapes.*Received.*\(None, None, 4, 3\)"):
        resize_images(keras.KerasTensor((None, None, 4, 3)), 3, "tf1")
