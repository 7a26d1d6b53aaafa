"""Decodes and crops one image, without TensorFlow."""

import contextlib

import numpy as np

from keras_umd.data.crops import is_at_least
from keras_umd.data.damage import check_jpeg, read_jpeg
from keras_umd.data.limits import DEFAULT_LIMITS, BadImage
from keras_umd.data.opening import decode_jpeg, open_image, orientation
from keras_umd.utils.optional import import_optional

MAX_ENLARGEMENT = 8  # more enlarged, an image shows nothing
SMALL = 1  # a note of an image: it was enlarged


def decode_and_crop(data, crop, draws, limits=DEFAULT_LIMITS):
    """One uint8 image `crop.image_shape`, from an encoded image of any kind or from an array.

    A JPEG is decoded at the smallest of 1/1, 1/2, 1/4, 1/8 of its size that leaves the crop at least as large as the
    result, which also smooths it; the rest is resized by areas if it shrinks to half or less, else bilinearly.
    An image whose EXIF data say that the camera was turned is turned upright, whatever its kind. Of 16 bits, the upper
    8 are taken. A `.npy` file holds uint8 or uint16 pixels `(height, width)` or `(height, width, channels)`.

    Args:
        data: Bytes of an image file, whatever its name; or a uint8 array `(height, width, channels)`.
        crop: `Crop`.
        draws: Float array of shape `(NUM_DRAWS,)`.
        limits: `Limits`.

    Returns:
        The image, and notes: `SMALL` if it had to be enlarged, plus `DIM` if it has 16 bits and uses 12 or fewer.

    Raises:
        BadImage: for data that are no image, truncated, damaged, too small, too large, or of pixels of other than 8 or
            16 bits.
    """
    file = data if isinstance(data, np.ndarray) else open_image(data, limits)
    height, width = file.shape[:2] if isinstance(file, np.ndarray) else file.size
    limits.check_pixels(height, width)
    if not is_at_least(height * MAX_ENLARGEMENT, width * MAX_ENLARGEMENT, crop.image_size):
        raise BadImage(f"{height}x{width} pixels are too few for image_size={crop.image_size}")
    box = top, left, crop_height, crop_width = [int(x) for x in crop.box(np, float(height), float(width), draws)]
    image, notes = file, 0
    with contextlib.ExitStack() as stack:
        if not isinstance(file, np.ndarray):
            scale = 1
            while scale < 8 and is_at_least(crop_height, crop_width, crop.image_size, 2 * scale):
                scale *= 2
            image, notes = file.pixels(crop.channels, scale, stack)
            if image.shape[1] != -(-width // scale):  # only a JPEG can be decoded smaller
                scale = 1
            top, left, crop_height, crop_width = (x // scale for x in box)
        image = _resize(image[top : top + crop_height, left : left + crop_width], crop.image_size)
    if crop.is_flipped(draws):  # by OpenCV: NumPy reverses pixels byte by byte, many times as slowly
        image = _import_cv2().flip(image, 1).reshape(image.shape)
    return image, notes | (0 if is_at_least(height, width, crop.image_size) else SMALL)


def is_simple(data, limits):
    """Whether TensorFlow reads these bytes, a JPEG or plain PNG, as `decode_and_crop` does, as far as that is known.

    Raises:
        BadImage: for an image that must not be decoded.
    """
    if data.startswith(b"\xff\xd8"):
        jpeg = read_jpeg(data)
        check_jpeg(data, jpeg, decode_jpeg)
        return orientation(jpeg.exif) == 1
    return b"eXIf" not in data


def _resize(image, image_size):
    if image.shape[:2] == image_size:
        return np.ascontiguousarray(image)
    cv2 = _import_cv2()
    interpolation = cv2.INTER_AREA if is_at_least(*image.shape[:2], image_size, 2) else cv2.INTER_LINEAR
    return cv2.resize(image, image_size[::-1], interpolation=interpolation).reshape(*image_size, image.shape[-1])


def _import_cv2():
    return import_optional("cv2", "Resizing and flipping images needs OpenCV: pip install 'keras_umd[data]'")
