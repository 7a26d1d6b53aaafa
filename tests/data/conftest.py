"""Small image files of every kind."""

import io
import struct
import zlib

import numpy as np
import pytest

from keras_umd.data.tf_loader import TFLoader

LOADERS = ("tensorflow", "python")


def photo(height=96, width=128, seed=0):
    """A smooth picture, so that JPEG keeps it."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    waves = [np.sin(x / rng.uniform(8, 30) + y / rng.uniform(8, 30) + rng.uniform(0, 6)) for _ in range(3)]
    return (127.5 + 100 * np.stack(waves, axis=-1)).astype("uint8")


def encoded(pixels, format="JPEG", **options):
    from PIL import Image

    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


def png_16_bits(pixels):
    """A 16-bit RGB PNG, which Pillow can't write."""
    height, width = pixels.shape[:2]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels.astype("uint16") * 257)

    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


_traced = {}  # how images are decoded, by what it depends on


@pytest.fixture(autouse=True)
def shared_traces(monkeypatch):
    """TensorFlow traces how images are decoded once for all data sets that decode alike: half a second for each."""
    init = TFLoader.__init__

    def with_shared_traces(self, *args, **kwargs):
        init(self, *args, **kwargs)
        self._functions = _traced.setdefault((self.crop, self.limits, self.read), self._functions)

    monkeypatch.setattr(TFLoader, "__init__", with_shared_traces)


@pytest.fixture
def make_folder(tmp_path):
    """Writes `{path: bytes}` into a folder, whose name it returns."""

    def make(files, name="images"):
        for path, data in files.items():
            target = tmp_path / name / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(data)
        return str(tmp_path / name)

    return make


@pytest.fixture
def photos(make_folder):
    """A folder of two classes with 10 JPEG files each; image i is of one grey, 10 * i."""
    grey = [encoded(np.full((40, 50, 3), 10 * i, "uint8")) for i in range(20)]
    return make_folder({f"{'ab'[i >= 10]}/{i:02}.jpg": data for i, data in enumerate(grey)})


def which(images):
    """The numbers of the `photos` in a batch."""
    return np.round(np.asarray(images).mean(axis=(1, 2, 3)) / 10).astype(int).tolist()
