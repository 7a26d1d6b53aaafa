"""The number of records in a TFRecord file, by their lengths: the whole file is looked through, and not decoded."""

import zlib

import numpy as np

from keras_umd.utils.checks import require


def count_records(tf, path, limits):
    """The compression of a TFRecord file as TensorFlow calls it, and its number of records.

    A record is its length, in 8 bytes, a checksum of that, the record, and a checksum of it, in 4 bytes each.
    """
    with tf.io.gfile.GFile(path, "rb") as file:
        head = file.read(12)
        file.seek(0)
        if len(head) < 12 or _length_of(head) is not None:
            return "", _count_in(_Plain(file, tf.io.gfile.stat(path).length), path, limits)
        compression = "GZIP" if head[:2] == b"\x1f\x8b" else "ZLIB"
        is_compressed = compression == "GZIP" or (head[0] & 15 == 8 and int.from_bytes(head[:2]) % 31 == 0)
        require(
            is_compressed,
            "A TFRecord file is damaged in record 0, or no TFRecord file.",
            f"{path}, which begins {head}",
        )
        try:
            return compression, _count_in(_Inflated(file), path, limits)
        except zlib.error as error:
            raise ValueError(f"A compressed TFRecord file is damaged. Received: {path}: {error}") from error


def _count_in(stream, path, limits):
    count = 0
    while header := stream.read(12):
        length = _length_of(header) if len(header) == 12 else 0
        require(length is not None, f"A TFRecord file is damaged in record {count}.", path)
        is_whole = len(header) == 12 and stream.skip(length, limits) and stream.skip(4, limits)
        require(is_whole, f"A TFRecord file is truncated in record {count}.", path)
        require(
            length <= limits.max_bytes,
            f"A record may have {limits.max_bytes} bytes; `limits=Limits(max_bytes=...)` allows more.",
            f"{path}: record {count} of {length} bytes",
        )
        count += 1
        limits.check_records(count, path)
    return count


class _Plain:
    """A file whose size is known."""

    def __init__(self, file, size):
        self.file, self.size, self.place = file, size, 0

    def read(self, count):
        self.file.seek(self.place)
        data = self.file.read(count)
        self.place += len(data)
        return data

    def skip(self, count, limits):
        """Whether there are so many bytes more."""
        self.place += count
        return self.place <= self.size


class _Inflated:
    """The content of a file compressed with gzip or zlib, a piece at a time."""

    PIECE = 2**16

    def __init__(self, file):
        self.file = file
        self._inflater = None
        self._waiting = b""  # compressed

    def read(self, count):
        data = b""
        while len(data) < count:
            if self._inflater is None or self._inflater.eof:
                self._waiting = self._waiting or self.file.read(self.PIECE)
                if not self._waiting:
                    break
                self._inflater = zlib.decompressobj(47)  # with the header of either
            compressed = self._waiting or self.file.read(self.PIECE)
            piece = self._inflater.decompress(compressed, count - len(data))
            self._waiting = self._inflater.unconsumed_tail or self._inflater.unused_data
            if not piece and not compressed:
                break
            data += piece
        return data

    def skip(self, count, limits):
        """Whether there are so many bytes more."""
        count = min(count, limits.max_bytes + 1)  # of one that is too long, no more is needed
        while count:
            piece = self.read(min(count, self.PIECE))
            if not piece:
                return False
            count -= len(piece)
        return True


def _length_of(header):
    """The length of a record, by its first 12 bytes; `None` if the checksum is another."""
    crc = 0xFFFFFFFF
    for byte in header[:8]:
        crc = CRC32C[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    crc ^= 0xFFFFFFFF
    masked = ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF
    return int.from_bytes(header[:8], "little") if masked == int.from_bytes(header[8:12], "little") else None


def _crc32c_table():
    table = np.arange(256, dtype="uint32")
    for _ in range(8):
        table = (table >> 1) ^ np.where(table & 1, np.uint32(0x82F63B78), np.uint32(0))
    return table.tolist()


CRC32C = _crc32c_table()
