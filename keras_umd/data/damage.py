"""Damage that decoders pass over in silence: JPEG and PNG files whose middle or end isn't what was written.

A decoder for JPEG fills what is missing with grey, and one for PNG may not look at checksums. WebP, GIF, BMP, TIFF and
PPM have nothing to compare with: of them only what can't be decoded is found.
"""

import dataclasses
import functools
import itertools
import re
import zlib

import numpy as np

from keras_umd.data.limits import BadImage

# Zeros that no encoder writes: a block of zero bits would have 63 equal coefficients. Disks lose blocks of 512 bytes.
ZEROS = bytes(64)
MARKER = re.compile(rb"\xff+([^\x00\xff\xd0-\xd7])")  # within a scan, 0xff 0x00 is data, and 0xd0 to 0xd7 are restarts
RESTART = re.compile(rb"\xff([\xd0-\xd7])")
NOISE = np.random.default_rng(0).integers(0, 255, 1024, "uint8").tobytes()  # no 0xff: data of a scan, whatever it is
SCAN, END, TABLES, INTERVAL, EXIF = 0xDA, 0xD9, 0xC4, 0xDD, 0xE1
SEQUENTIAL, PROGRESSIVE = (0xC0, 0xC1), 0xC2
MAX_WHOLE = 2**20
_whole: set[tuple] = set()  # progressive files whose last scan is known to be whole


@dataclasses.dataclass
class Jpeg:
    """What the segments of a JPEG file say.

    Attributes:
        frame: Integer, the marker of its frame, or 0.
        size: Pair `(height, width)`, or `None`.
        components: Dictionary from numbers to pairs of sampling factors.
        exif: Bytes, the content of its EXIF segment.
        interval: Integer, MCUs between two restarts, or 0.
        has_zero_blocks: Bool. Whether zero bits may be the blocks of an even surface.
        scans: List of tuples: components, first and last coefficient, bits that are left for a later one,
            begin and end.
    """

    frame: int = 0
    size: tuple | None = None
    components: dict = dataclasses.field(default_factory=dict)
    exif: bytes = b""
    interval: int = 0
    has_zero_blocks: bool = False
    scans: list = dataclasses.field(default_factory=list)


def read_jpeg(data):
    """The `Jpeg` of a file's bytes, as far as its segments can be read."""
    jpeg, place = Jpeg(), 2
    while place + 4 <= len(data):
        if data[place] != 0xFF:
            break
        marker = data[place + 1]
        if marker == 0xFF:  # a fill byte
            place += 1
            continue
        if marker == END:
            break
        end = place + 2 + int.from_bytes(data[place + 2 : place + 4])
        content, place = data[place + 4 : end], end
        if marker != SCAN:
            _read_segment(jpeg, marker, content)
            continue
        found = MARKER.search(data, end)
        place = len(data) if found is None else found.start()
        if not content or len(content) != 4 + 2 * content[0]:
            break
        first, last, bits = content[-3:]
        jpeg.scans.append((tuple(content[1:-3:2]), first, last, bits & 15, end, place))
    return jpeg


def _read_segment(jpeg, marker, content):
    if (marker in SEQUENTIAL or marker == PROGRESSIVE) and len(content) >= 6 + 3 * content[5]:
        jpeg.frame = marker
        jpeg.size = int.from_bytes(content[1:3]), int.from_bytes(content[3:5])
        parts = (content[6 + 3 * i : 9 + 3 * i] for i in range(content[5]))
        jpeg.components = {number: (factors >> 4, factors & 15) for number, factors, _ in parts}
    elif marker == TABLES:
        while len(content) > 17:
            count = sum(content[1:17])
            # The code of zeros alone is the first: of AC coefficients, 0 stands for the end of the block.
            jpeg.has_zero_blocks |= content[0] >> 4 == 1 and count > 0 and content[17:18] == b"\0"
            content = content[17 + count :]
    elif marker == INTERVAL and len(content) == 2:
        jpeg.interval = int.from_bytes(content)
    elif marker == EXIF and content.startswith(b"Exif\0\0"):
        jpeg.exif = jpeg.exif or content


def check_jpeg(data, jpeg, decode):
    """Raise a `BadImage` for a JPEG file with zeros in its middle, without a part of its scans or of its intervals.

    Of a sequential JPEG whose end is missing, the last pixel is grey; the caller looks at it.

    Args:
        data: Bytes.
        jpeg: Its `Jpeg`.
        decode: Function from bytes and a denominator, 1 or 8, to an array of pixels at that part of the size.
    """
    if jpeg.frame == PROGRESSIVE and jpeg.scans:
        _check_progressive(data, jpeg, functools.partial(decode, scale=1))
    if jpeg.frame not in SEQUENTIAL or not jpeg.scans:
        return
    components, *_, begin, end = jpeg.scans[0]
    if jpeg.interval and len(components) == len(jpeg.components):
        _check_restarts(data[begin:end], jpeg)
    has_zeros = any(data.find(ZEROS, *scan[-2:]) >= 0 for scan in jpeg.scans)
    if has_zeros and not (jpeg.has_zero_blocks and is_whole(data, jpeg, functools.partial(decode, scale=8))):
        raise BadImage("damaged: there are zeros in its middle")


def _check_progressive(data, jpeg, decode):
    missing = {(component, coefficient) for component in jpeg.components for coefficient in range(64)}
    for components, first, last, bits_left, begin, end in jpeg.scans:
        if not bits_left:
            missing -= set(itertools.product(components, range(first, last + 1)))
        if first and data.find(ZEROS, begin, end) >= 0:  # of the means of blocks, zeros may be an even surface
            raise BadImage("damaged: there are zeros in its middle")
    if missing:
        raise BadImage("damaged: it ends before all its scans")
    # Three times as slow as reading it, so done once: files are told apart by their size, begin and end.
    key = len(data), zlib.crc32(data[:2048] + data[-8192:])
    if key in _whole:
        return
    if not is_whole(data, jpeg, decode):
        raise BadImage("damaged: its last scan is cut off")
    if len(_whole) >= MAX_WHOLE:
        _whole.clear()
    _whole.add(key)


def _check_restarts(scan, jpeg):
    tallest, widest = (max(factors[axis] for factors in jpeg.components.values()) for axis in (1, 0))
    tallest, widest = (tallest, widest) if len(jpeg.components) > 1 else (1, 1)
    if not tallest or not widest:
        return
    num_mcus = -(-jpeg.size[0] // (8 * tallest)) * -(-jpeg.size[1] // (8 * widest))
    expected = -(-num_mcus // jpeg.interval) - 1
    found = [marker[0] & 7 for marker in RESTART.findall(scan)]
    if found != [number % 8 for number in range(expected)]:
        raise BadImage(f"damaged: it has {len(found)} restarts in place of {expected}, or in another order")


def is_whole(data, jpeg, decode):
    """Whether the last scan of a JPEG file is as long as the picture: what follows it must not show, its end must.

    Args:
        data: Bytes.
        jpeg: Its `Jpeg`, with scans.
        decode: Function from bytes to an array of pixels, perhaps of fewer than the image has.
    """
    begin, end = jpeg.scans[-1][-2:]
    whole = decode(data)
    if not np.array_equal(whole, decode(data[:end] + NOISE + data[end:])):
        return False
    if jpeg.frame == PROGRESSIVE:
        return True  # where one of many scans ends may not show
    without_end = decode(data[: max(begin, end - 32)] + NOISE + data[end:])
    # Of an even surface, whose codes may be of nothing else, no noise shows.
    return not np.array_equal(whole, without_end) or np.array_equal(whole, decode(data[:begin] + NOISE + data[end:]))


def check_png(data):
    """Raise a `BadImage` for a PNG file of which a part that shows has another checksum than it says."""
    for name, begin, end in png_chunks(data):
        is_critical = not name[0] & 32
        if is_critical and zlib.crc32(memoryview(data)[begin - 4 : end]) != int.from_bytes(data[end : end + 4]):
            raise BadImage(f"damaged: the checksum of {name!r} at byte {begin - 8} is wrong")


def png_exif(data):
    """The EXIF data of a PNG file, which may stand before or behind its pixels."""
    return next((data[begin:end] for name, begin, end in png_chunks(data) if name == b"eXIf"), b"")


def png_chunks(data):
    """The whole chunks of a PNG file: name, begin and end of the content."""
    begin = 16
    while begin <= len(data) - 4:
        end = begin + int.from_bytes(data[begin - 8 : begin - 4])
        if end + 4 > len(data):
            return
        yield data[begin - 4 : begin], begin, end
        begin = end + 12
