"""Decodes and crops one image, without TensorFlow."""

import io

import numpy as np

from keras_umd.data.crops import is_at_least
from keras_umd.utils.optional import import_optional

MAX_ENLARGEMENT = 8  # more enlarged, an image shows nothing
MAX_PIXELS = 178_956_970  # half a gigabyte; Pillow's limit, too


class BadImage(ValueError):
    """An image that can't be used."""


def decode_and_crop(data, crop, draws):
    """One uint8 image `crop.image_shape`, from an encoded image of any kind or from an array.

    A JPEG is decoded at the smallest of 1/1, 1/2, 1/4, 1/8 of its size that leaves the crop at least as large as the
    result, which also smooths it; the rest is resized by areas if it shrinks to half or less, else bilinearly.

    Args:
        data: Bytes of an image file, whatever its name; or a uint8 array `(height, width, channels)`.
        crop: `Crop`.
        draws: Float array of shape `(NUM_DRAWS,)`.

    Returns:
        The image, and whether it had to be enlarged.

    Raises:
        BadImage: for data that are no image, truncated, too small, too large, or of pixels of other than 8 or 16 bits.
    """
    image = data if isinstance(data, np.ndarray) else _open(data)
    height, width = image.shape[:2] if image is data else image.size[::-1]
    if height * width > MAX_PIXELS:
        raise BadImage(f"{height}x{width} pixels are too many; {MAX_PIXELS} are allowed")
    if not is_at_least(height * MAX_ENLARGEMENT, width * MAX_ENLARGEMENT, crop.image_size):
        raise BadImage(f"{height}x{width} pixels are too few for image_size={crop.image_size}")
    box = top, left, crop_height, crop_width = [int(x) for x in crop.box(np, float(height), float(width), draws)]
    if image is not data:
        scale = 1
        while scale < 8 and is_at_least(crop_height, crop_width, crop.image_size, 2 * scale):
            scale *= 2
        image = _pixels(image, crop.channels, (width // scale, height // scale))
        if image.shape[1] != -(-width // scale):  # only a JPEG can be decoded smaller
            scale = 1
        top, left, crop_height, crop_width = (x // scale for x in box)
    image = _resize(image[top : top + crop_height, left : left + crop_width], crop.image_size)
    if crop.is_flipped(draws):  # by OpenCV: NumPy reverses pixels byte by byte, many times as slowly
        image = _import_cv2().flip(image, 1).reshape(image.shape)
    return image, not is_at_least(height, width, crop.image_size)


def _open(data):
    pillow = import_optional("PIL.Image", "Reading images needs Pillow: pip install 'keras_umd[data]'")
    if not data:
        raise BadImage("the file is empty")
    try:
        return pillow.open(io.BytesIO(data))
    except pillow.UnidentifiedImageError as error:
        raise BadImage(f"not an image; it begins with {bytes(data[:16])!r}") from error
    except pillow.DecompressionBombError as error:
        raise BadImage(f"too many pixels: {error}") from error
    except Exception as error:  # Pillow raises many kinds
        raise BadImage(f"damaged: {error}") from error


def _pixels(image, channels, size):
    """The first frame, 8 bits deep, transparent parts white."""
    from PIL import Image

    if image.mode == "F" or (image.mode == "I" and image.format != "PNG"):  # no known range
        raise BadImage(f"its pixels must have 8 or 16 bits, and have {image.mode!r}, 32")
    try:
        image.draft(None, size)  # of a JPEG: decodes it smaller
        if image.mode.startswith("I"):  # 16 bits
            image = Image.fromarray((np.asarray(image) >> 8).clip(0, 255).astype("uint8"))
        if image.has_transparency_data:
            image = image.convert("RGBA")
            image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
        pixels = np.asarray(image.convert("RGB" if channels == 3 else "L"))
    except Exception as error:
        raise BadImage(f"damaged: {error}") from error
    return pixels.reshape(*pixels.shape[:2], channels)


def _resize(image, image_size):
    if image.shape[:2] == image_size:
        return image
    cv2 = _import_cv2()
    interpolation = cv2.INTER_AREA if is_at_least(*image.shape[:2], image_size, 2) else cv2.INTER_LINEAR
    return cv2.resize(image, image_size[::-1], interpolation=interpolation).reshape(*image_size, image.shape[-1])


def _import_cv2():
    return import_optional("cv2", "Resizing and flipping images needs OpenCV: pip install 'keras_umd[data]'")
