"""Image files that are opened, checked before they take memory, and give their pixels."""

import functools
import io
import threading

import numpy as np

from keras_umd.data.damage import SEQUENTIAL, check_jpeg, check_png, is_whole, png_exif, read_jpeg
from keras_umd.data.limits import BadImage
from keras_umd.utils.optional import import_optional

DIM = 2  # a note of an image: of 16 bits, it uses 12 or fewer
# What Pillow may take a file for. Of its other kinds, one runs a program on what the file says.
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "JPEG2000", "AVIF")
NPY = b"\x93NUMPY"
ORIENTATION = 0x0112
LARGE = 2**24  # pixels; of images with more, one at a time is decoded
BAND = 2**22  # pixels that are converted together
_large_ones = threading.Lock()


def open_image(data, limits):
    """An `ImageFile`, or the `PixelArray` of a `.npy` file, from bytes.

    Raises:
        BadImage: for what is no image, or may not be decoded.
    """
    limits.check_bytes(len(data))
    if data[: len(NPY)] == NPY:
        return _open_array(data, limits)
    pillow = import_optional("PIL.Image", "Reading images needs Pillow: pip install 'keras_umd[data]'")
    if not data:
        raise BadImage("the file is empty")
    try:
        limits.check_pixels(*_webp_size(data))  # Pillow takes memory for all pixels when it opens one
        image = pillow.open(io.BytesIO(data), formats=_formats())
        limits.check_pixels(*image.size[::-1])
        if image.format == "TIFF":
            _check_tiles(image, limits)
        return ImageFile(image, data)
    except BadImage:
        raise
    except pillow.UnidentifiedImageError as error:
        raise BadImage(f"not an image; it begins with {bytes(data[:16])!r}") from error
    except pillow.DecompressionBombError as error:
        raise BadImage(f"too many pixels: {error}") from error
    except Exception as error:  # Pillow raises many kinds
        raise BadImage(f"damaged: {error}") from error


@functools.cache
def _formats():
    """Those that this Pillow was built with."""
    from PIL import Image

    Image.init()
    return [name for name in FORMATS if name in Image.OPEN]


def _webp_size(data):
    """Height and width of a WebP file, zeros of any other."""
    if data[:4] != b"RIFF" or data[8:12] != b"WEBP" or len(data) < 30:
        return 0, 0
    kind = data[12:16]
    if kind == b"VP8X":
        width, height = (1 + int.from_bytes(data[place : place + 3], "little") for place in (24, 27))
    elif kind == b"VP8L":
        bits = int.from_bytes(data[21:25], "little")
        width, height = 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    else:
        width, height = (int.from_bytes(data[place : place + 2], "little") & 0x3FFF for place in (26, 28))
    return height, width


def _open_array(data, limits):
    file = io.BytesIO(data)
    try:
        version = np.lib.format.read_magic(file)
        read_header = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
        shape, is_fortran, dtype = read_header[version](file)
    except Exception as error:  # it raises many kinds
        raise BadImage(f"damaged: {error}") from error
    if dtype.kind != "u" or dtype.itemsize > 2 or len(shape) not in (2, 3) or (len(shape) == 3 and shape[2] > 4):
        raise BadImage(
            f"an array must be uint8 or uint16 pixels (height, width) or (height, width, channels), and is {dtype} of "
            f"shape {shape}"
        )
    limits.check_pixels(*shape[:2])
    size = int(np.prod(shape, dtype="int64"))
    if 0 in shape or len(data) - file.tell() != size * dtype.itemsize:
        raise BadImage(f"damaged: {len(data) - file.tell()} bytes are no {dtype} array of shape {shape}")
    pixels = np.frombuffer(data, dtype, size, file.tell()).reshape(shape, order="F" if is_fortran else "C")
    return PixelArray(pixels if pixels.ndim == 3 else pixels[..., None])


def _check_tiles(image, limits):
    """A TIFF's tiles may be larger than the picture, and take memory first."""
    width, height = (image.tag_v2.get(tag, 0) for tag in (322, 323))
    if isinstance(width, int) and isinstance(height, int):
        limits.check_pixels(height, width)


class ImageFile:
    """An image file that Pillow has opened, not yet decoded.

    Attributes:
        size: Pair `(height, width)`, upright.

    Args:
        image: Pillow image.
        data: Bytes of the file.
    """

    def __init__(self, image, data):
        self.image, self.data = image, data
        self.jpeg = read_jpeg(data) if image.format in ("JPEG", "MPO") else None
        self.orientation = 1
        if image.format != "TIFF":  # which Pillow turns upright itself
            exif = png_exif(data) if image.format == "PNG" else image.info.get("exif", b"")
            self.orientation = orientation(exif)
        self.size = image.size[::-1] if self.orientation < 5 else image.size

    def pixels(self, channels, scale, stack):
        """The first frame as a uint8 array `(height, width, channels)`, upright, transparent parts white, and notes.

        Args:
            channels: 1, 3, or 4 to keep what is transparent.
            scale: 1, 2, 4 or 8, to which part a JPEG is decoded.
            stack: `ExitStack` in which the only large image is in memory.
        """
        image, has_16_bits = self.image, _has_16_bits(self.image, self.data)
        if image.mode == "F" or (image.mode == "I" and not has_16_bits):  # no known range
            raise BadImage(f"its pixels must have 8 or 16 bits, and have {image.mode!r}, 32")
        try:
            image.draft(None, tuple(length // scale for length in image.size))  # of a JPEG: decodes it smaller
            if image.size[0] * image.size[1] > LARGE:
                stack.enter_context(_large_ones)
            self._load_whole()
            pixels = self._converted({1: "L", 3: "RGB", 4: "RGBA"}[channels], channels)
        except BadImage:
            raise
        except Exception as error:  # Pillow raises many kinds
            raise BadImage(f"damaged: {error}") from error
        is_dim = has_16_bits and 0 < pixels[..., : min(3, channels)].max() < 16
        return turned(pixels, self.orientation), DIM if is_dim else 0

    def _load_whole(self):
        """Decode the image, and look for damage that decoders pass over."""
        image = self.image
        if image.format == "PNG":
            check_png(self.data)
        if self.jpeg is not None:
            check_jpeg(self.data, self.jpeg, decode_jpeg)
        image.load()
        is_sequential = self.jpeg is not None and self.jpeg.scans and self.jpeg.frame in SEQUENTIAL
        decode = functools.partial(decode_jpeg, scale=8)
        if is_sequential and _ends_grey(image) and not is_whole(self.data, self.jpeg, decode):
            raise BadImage("damaged: its data end before the picture does")

    def _converted(self, mode, channels):
        """uint8 pixels in a mode of Pillow; a band at a time, since each conversion takes a copy."""
        from PIL import Image

        image = self.image
        has_transparency = channels != 4 and image.has_transparency_data
        width, height = image.size
        pixels = np.empty((height, width, channels), "uint8")
        rows = max(1, BAND // width)
        for top in range(0, height, rows):
            bottom = min(top + rows, height)
            band = image if bottom - top == height else image.crop((0, top, width, bottom))
            if image.mode.startswith("I"):  # 16 bits, or as many as the file says
                shift = max(0, _bits(image) - 8)
                band = Image.fromarray((np.asarray(band) >> shift).clip(0, 255).astype("uint8"))
            elif has_transparency:
                band = band.convert("RGBA")
                band = Image.alpha_composite(Image.new("RGBA", band.size, "white"), band)
            pixels[top:bottom] = np.asarray(band.convert(mode)).reshape(bottom - top, width, channels)
        return pixels


class PixelArray:
    """The pixels of a `.npy` file, in the place of an `ImageFile`."""

    def __init__(self, pixels):
        self.array = pixels
        self.size = pixels.shape[:2]

    def pixels(self, channels, scale, stack):
        """As of `ImageFile`."""
        pixels, notes = self.array, 0
        if pixels.dtype != np.uint8:
            pixels = (pixels >> 8).astype("uint8")
            notes = DIM if 0 < pixels.max() < 16 else 0
        if pixels.shape[-1] == channels:
            return pixels, notes
        if pixels.shape[-1] == 1:
            pixels = np.repeat(pixels, min(channels, 3), axis=-1)
        elif pixels.shape[-1] == 3 and channels == 1:
            pixels = np.round(pixels @ np.float32([0.299, 0.587, 0.114]))[..., None].astype("uint8")
        if channels == 4 and pixels.shape[-1] == 3:
            pixels = np.concatenate([pixels, np.full_like(pixels[..., :1], 255)], axis=-1)
        if pixels.shape[-1] != channels:
            raise BadImage(f"an array of shape {self.array.shape} has no {channels} channels")
        return pixels, notes


def orientation(exif):
    """How a camera was turned, 1 to 8, by the EXIF data of an image; 1, upright, where they say nothing."""
    from PIL import Image

    if not exif:
        return 1
    found = Image.Exif()
    try:
        found.load(exif)
        value = found.get(ORIENTATION, 1)
    except Exception:  # damaged EXIF data damage no picture; Pillow raises many kinds
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def turned(pixels, orientation):
    """Pixels `(height, width, channels)` upright, a view."""
    if orientation >= 5:
        pixels = pixels.transpose(1, 0, 2)
    is_mirrored = {1: (), 2: (1,), 3: (0, 1), 4: (0,), 5: (), 6: (1,), 7: (0, 1), 8: (0,)}[orientation]
    return np.flip(pixels, is_mirrored) if is_mirrored else pixels


def _has_16_bits(image, data):
    if image.format == "PNG":
        return data[24:25] == b"\x10"
    return image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PPM") or _bits(image) == 16


def _bits(image):
    """Bits of each value, as a TIFF says; 16 of all others."""
    if image.format != "TIFF":
        return 16 if image.mode.startswith("I") else 8
    bits = image.tag_v2.get(258, 8)
    return max(bits) if isinstance(bits, tuple) else bits


def _ends_grey(image):
    """Whether the last pixel is what decoders of JPEG put in the place of what is missing."""
    last = image.getpixel((image.size[0] - 1, image.size[1] - 1))
    return all(value in (127, 128) for value in (last if isinstance(last, tuple) else (last,)))


def decode_jpeg(data, scale):
    """The pixels of a JPEG at 1/1 or 1/8 of its size."""
    from PIL import Image

    with Image.open(io.BytesIO(data), formats=("JPEG",)) as image:
        image.draft(None, tuple(-(-length // scale) for length in image.size))
        return np.asarray(image)
