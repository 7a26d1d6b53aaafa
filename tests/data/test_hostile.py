"""Files that lie, never end, or cost more than they look: bounded, counted and named, by both loaders."""

import io
import json
import os
import pathlib
import signal
import struct
import subprocess
import sys
import tarfile
import zlib

import numpy as np
import pytest

from keras_umd import data
from tests.data.conftest import LOADERS, encoded, photo, which

Image = pytest.importorskip("PIL.Image")
pytestmark = pytest.mark.host

ROOT = pathlib.Path(__file__).parents[2]
PICTURE = photo()
GOOD = encoded(PICTURE, quality=95)


@pytest.fixture(autouse=True)
def nothing_hangs():
    def too_long(*_):
        raise TimeoutError("it hangs")

    before = signal.signal(signal.SIGALRM, too_long)
    signal.alarm(120)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def read(folder, loader, **options):
    options = {"image_size": 48, "batch_size": 4, "training": False, "labels": False, "max_bad_share": 0.5, **options}
    dataset = data.from_folder(folder, loader=loader, **options)
    return list(dataset), dataset


# What is no regular file


@pytest.mark.parametrize("loader", LOADERS)
def test_pipes_and_devices_are_left_out_counted_and_named(loader, make_folder):
    folder = make_folder({f"{i}.png": encoded(PICTURE, "PNG") for i in range(4)})
    os.mkfifo(os.path.join(folder, "b.png"))
    os.symlink("/dev/zero", os.path.join(folder, "c.png"))
    os.symlink(os.path.join(folder, "b.png"), os.path.join(folder, "d.png"))
    with pytest.warns(UserWarning, match=r"3 pipes, devices or the like .*b\.png, .*c\.png, .*d\.png"):
        batches, dataset = read(folder, loader)
    assert len(batches[0]) == dataset.num_images == 4
    (names,) = dataset.not_read.values()
    assert [os.path.basename(name) for name in names] == ["b.png", "c.png", "d.png"]
    with pytest.raises(ValueError, match=r"max_bad_share=0.4 .* 3 of 7 images.*b\.png"), pytest.warns(UserWarning):
        read(folder, loader, max_bad_share=0.4)
    with pytest.raises(ValueError, match=r"on_error='skip' would leave them out.*b\.png"), pytest.warns(UserWarning):
        read(folder, loader, on_error="raise")


@pytest.mark.parametrize("loader", LOADERS)
def test_a_pipe_in_the_place_of_a_file_is_a_bad_image(loader, make_folder):
    folder = make_folder({f"{i}.jpg": GOOD for i in range(4)})
    dataset = data.from_folder(
        folder, image_size=48, batch_size=4, training=False, labels=False, loader=loader, max_bad_share=0.5
    )
    os.remove(os.path.join(folder, "2.jpg"))
    os.mkfifo(os.path.join(folder, "2.jpg"))
    with pytest.warns(UserWarning, match=r"2\.jpg \(not a regular file\)"):
        ((images),) = list(dataset)
    assert len(images) == 3


@pytest.mark.parametrize("reader", ["from_tfrecords", "from_webdataset"])
def test_a_pipe_is_no_file_of_records(reader, tmp_path):
    os.mkfifo(tmp_path / "records")
    options = {"image_size": 16, "batch_size": 1, "labels": False}
    with pytest.raises(ValueError, match="`paths` must name regular files. Received: .*records"):
        getattr(data, reader)(tmp_path / "records", **options)


# Costs: what is measured in a process of its own

COSTS = """
import json, os, resource, sys, time, warnings
warnings.simplefilter("ignore")
import tests.lean
import numpy as np
import tensorflow as tf
from keras_umd import data

folder = sys.argv[1]
read = {"image_size": 32, "batch_size": 2, "training": False, "labels": False, "max_bad_share": 0.9}
records = {"image_size": 32, "batch_size": 1, "labels": False}
found = {}


def measure(name, call):
    before, began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.time()
    try:
        outcome = call()
    except ValueError as error:
        outcome = str(error)
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    found[name] = {"megabytes": used / 1024, "seconds": time.time() - began, "outcome": outcome}


def read_folder(name, loader):
    dataset = data.from_folder(os.path.join(folder, name), loader=loader, **read)
    return sum(len(batch) for batch in dataset), list(dataset.bad_images.values())


for loader in ("python", "tensorflow"):
    read_folder("good", loader)  # what TensorFlow and the threads take anyway
    for name in ("pixels", "bytes"):
        measure(f"{name} {loader}", lambda: read_folder(name, loader))
measure("tfrecord of 2 TB", lambda: data.from_tfrecords(os.path.join(folder, "length"), **records))
measure("sparse tfrecord", lambda: data.from_tfrecords(os.path.join(folder, "sparse"), **records))
measure("sparse tar", lambda: data.from_webdataset(os.path.join(folder, "sparse.tar"), **records))
measure("long name", lambda: data.from_webdataset(os.path.join(folder, "name.tar"), **records))
labels = np.array([0, 1, 20_000_000, 0])
measure("label of 20 million", lambda: data.from_arrays(np.zeros((4, 8, 8, 3), "uint8"), labels, batch_size=2))
print(json.dumps(found))
"""


def png_of(width, height, rows=None):
    """A black PNG, made in little memory, perhaps with fewer rows than its header says."""
    packer, row = zlib.compressobj(1), bytes(1 + width)
    packed = b"".join(packer.compress(row) for _ in range(rows or height)) + packer.flush()

    def chunk(name, content):
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", packed) + chunk(b"IEND", b"")


def grown(path, size):
    """Makes a file of a size that takes no place on the disk."""
    with open(path, "ab") as file:
        file.truncate(size)


@pytest.fixture(scope="module")
def costs(tmp_path_factory):
    pytest.importorskip("tensorflow")
    folder = tmp_path_factory.mktemp("costs")
    for name in ("good", "pixels", "bytes"):
        (folder / name).mkdir()
        (folder / name / "good.jpg").write_bytes(GOOD)
    (folder / "pixels" / "bomb.png").write_bytes(png_of(13000, 13000))
    (folder / "pixels" / "wide.png").write_bytes(png_of(22000, 22000, rows=9))
    grown(folder / "bytes" / "sparse.jpg", 2**40)
    grown(folder / "sparse", 2**40)
    (folder / "length").write_bytes(struct.pack("<Q", 2**41) + struct.pack("<I", masked_crc32c(2**41)) + b"\xff" * 99)
    with tarfile.open(folder / "sparse.tar", "w") as archive:
        archive.addfile(member("0.png", 3), io.BytesIO(b"bad"))
        archive.fileobj.write(member("1.cls", 2**40 - 2**20).tobuf(tarfile.GNU_FORMAT))
        archive.offset = archive.fileobj.tell()
    grown(folder / "sparse.tar", 2**40)
    name = member("longname", 2**39)
    name.type = tarfile.GNUTYPE_LONGNAME
    (folder / "name.tar").write_bytes(name.tobuf(tarfile.GNU_FORMAT))
    grown(folder / "name.tar", 2**40)
    run = subprocess.run(
        [sys.executable, "-c", COSTS, str(folder)],
        check=True,
        capture_output=True,
        text=True,
        timeout=300,
        cwd=ROOT,
        env={**os.environ, "KERAS_BACKEND": "tensorflow"},  # which is imported anyway
    )
    return json.loads(run.stdout.splitlines()[-1])


def member(name, size):
    info = tarfile.TarInfo(name)
    info.size = size
    return info


def masked_crc32c(number):
    """Bit by bit, as the definition has it."""
    crc = 0xFFFFFFFF
    for byte in struct.pack("<Q", number):
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ 0x82F63B78 * (crc & 1)
    crc ^= 0xFFFFFFFF
    return (crc >> 15 | (crc & 0x7FFF) << 17) + 0xA282EAD8 & 0xFFFFFFFF


@pytest.mark.slow
@pytest.mark.parametrize("loader", LOADERS)
def test_what_is_too_large_is_refused_before_it_takes_memory(loader, costs):
    for name, reasons in {"pixels": ["13000x13000", "484000000"], "bytes": [f"{2**40} bytes are too many"]}.items():
        cost = costs[f"{name} {loader}"]
        count, why = cost["outcome"]
        assert count == 1 and len(why) == len(reasons)
        assert all(any(reason in text for text in why) for reason in reasons)
        assert cost["megabytes"] < 60 and cost["seconds"] < 30


@pytest.mark.slow
@pytest.mark.parametrize(
    "name, message",
    {
        "tfrecord of 2 TB": "truncated in record 0",
        "sparse tfrecord": "damaged in record 0, or no TFRecord",
        "sparse tar": "More than max_bad_share",
        "long name": "a header says that it has 549755813888 bytes",
        "label of 20 million": "below 1048576.*Received: 20000000",
    }.items(),
)
def test_a_size_that_lies_takes_neither_memory_nor_time(name, message, costs):
    with pytest.raises(ValueError, match=message):
        raise ValueError(costs[name]["outcome"])
    assert costs[name]["megabytes"] < 60 and costs[name]["seconds"] < 30


def test_of_large_images_one_at_a_time_is_decoded(make_folder, monkeypatch):
    from keras_umd.data import opening

    monkeypatch.setattr(opening, "LARGE", 96 * 128 - 1)
    running, most = [], []
    load = opening.ImageFile._load_whole

    def counted(file):
        running.append(file)
        most.append(len(running))
        load(file)
        running.remove(file)

    monkeypatch.setattr(opening.ImageFile, "_load_whole", counted)
    folder = make_folder({f"{i}.png": encoded(PICTURE, "PNG") for i in range(64)})
    read(folder, "python", batch_size=64, workers=8)
    assert len(most) == 64 and max(most) == 1


@pytest.mark.parametrize("limits, message", [(3, "limits=3"), ({"max_pixels": 3}, "`limits` must be")])
def test_limits_are_an_object(limits, message, photos):
    with pytest.raises(ValueError, match=message):
        data.from_folder(photos, image_size=16, batch_size=4, limits=limits)


@pytest.mark.parametrize("name", ["max_pixels", "max_bytes", "max_records", "max_classes"])
@pytest.mark.parametrize("value", [0, -1, 1.5, True, "many"])
def test_a_wrong_limit_is_named(name, value):
    with pytest.raises(ValueError, match=f"{name}={value!r}"):
        data.Limits(**{name: value})


@pytest.mark.parametrize("loader", LOADERS)
def test_limits_hold(loader, make_folder):
    folder = make_folder({"large.jpg": GOOD, "small.jpg": encoded(PICTURE, quality=20)})
    with pytest.warns(UserWarning, match=r"large\.jpg \(\d+ bytes are too many"):
        batches, _ = read(folder, loader, limits=data.Limits(max_bytes=len(GOOD) - 1))
    assert len(batches[0]) == 1
    with pytest.raises(ValueError, match="There may be 1 records"):
        read(folder, loader, limits=data.Limits(max_records=1))
    images = np.zeros((3, 8, 8, 3), "uint8")
    with pytest.raises(ValueError, match="below 2;.*Received: 2 in the labels"):
        data.from_arrays(images, np.arange(3), limits=data.Limits(max_classes=2))
    assert data.from_arrays(images, np.arange(3), class_names=list("abc"), batch_size=1).num_images == 3


def test_a_label_is_not_cut_to_32_bits():
    images = np.zeros((4, 8, 8, 3), "uint8")
    for label in (2**32 + 1, 2**63 - 1, -1, 2**31):
        with pytest.raises(ValueError, match=f"from 0 to 2.*from .*{label}|from {label}"):
            data.from_arrays(images, np.array([0, 1, label, 0]), batch_size=2)


# Pictures that take more than they show


def tiff_with_tiles_of(size):
    """A grey picture of 64x64 pixels in one tile that says that it is larger."""
    packed = zlib.compress(bytes(64 * 64))
    tags = {256: 64, 257: 64, 258: 8, 259: 8, 262: 1, 277: 1, 322: size, 323: size, 324: 8, 325: len(packed)}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    directory = struct.pack("<H", len(tags)) + entries + bytes(4)
    return b"II*\0" + struct.pack("<I", 8 + len(packed)) + packed + directory


def webp_of(kind, size):
    content = bytearray(encoded(PICTURE, "WEBP", lossless=True, save_all=kind == "animated", append_images=[]))
    if kind == "extended":
        alpha = np.dstack([PICTURE, PICTURE[..., 0]])
        content = bytearray(encoded(alpha, "WEBP", exif=b"Exif\0\0"))
        content[24:30] = (size - 1).to_bytes(3, "little") * 2
    elif kind == "lossless":
        content[21:25] = ((size - 1) | (size - 1) << 14).to_bytes(4, "little")
    else:
        content = bytearray(encoded(PICTURE, "WEBP"))
        content[26:30] = size.to_bytes(2, "little") * 2
    return bytes(content)


def npy_of(shape, dtype="uint8", content=None):
    file = io.BytesIO()
    header = {"descr": np.lib.format.dtype_to_descr(np.dtype(dtype)), "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, header)
    return file.getvalue() + (bytes(int(np.prod(shape)) * np.dtype(dtype).itemsize) if content is None else content)


TOO_MUCH = {
    "a TIFF with tiles of 60000": (tiff_with_tiles_of(60000), "60000x60000 pixels are too many"),
    "an extended WebP": (webp_of("extended", 16384), "16384x16384 pixels are too many"),
    "a lossless WebP": (webp_of("lossless", 16384), "16384x16384 pixels are too many"),
    "a lossy WebP": (webp_of("lossy", 16383), "16383x16383 pixels are too many"),
    "an array with a shape that lies": (npy_of((60000, 60000, 3), content=b"few"), "60000x60000 pixels are too many"),
    "an array with too few bytes": (npy_of((60, 60, 3), content=b"few"), "3 bytes are no uint8 array"),
    "an array of nothing": (npy_of((60, 0, 3)), "damaged|too few"),
    "an array of objects": (npy_of((60, 60), "O", b"pickle"), "must be uint8 or uint16"),
    "an array of floats": (npy_of((60, 60), "float32"), "must be uint8 or uint16"),
    "an array of many axes": (npy_of((60, 6, 6, 1)), "must be uint8 or uint16"),
    "a damaged array": (b"\x93NUMPY\x01\x00\xff\xff{", "damaged"),
    "what would run a program": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not an image"),
}


@pytest.mark.parametrize("loader", LOADERS)
@pytest.mark.parametrize("kind", TOO_MUCH)
def test_a_picture_that_takes_more_than_it_shows_is_bad(kind, loader, make_folder):
    content, reason = TOO_MUCH[kind]
    folder = make_folder({"0.jpg": GOOD, "1.jpg": content, "2.jpg": GOOD})
    with pytest.warns(UserWarning, match=r"1 images can't be used .*1\.jpg"):
        batches, dataset = read(folder, loader)
    assert sum(map(len, batches)) == 2
    ((_, why),) = dataset.bad_images.items()
    with pytest.raises(ValueError, match=reason):
        raise ValueError(why)


# Damage that decoders pass over


def zeroed(content, share=0.5, count=600):
    place = int(len(content) * share)
    return content[:place] + bytes(count) + content[place + count :]


def halved(content):
    return content[: len(content) // 2] + b"\xff\xd9"


NOISY = np.random.default_rng(0).integers(0, 255, (256, 256, 3), "uint8")
TEXTURED = np.clip(photo(256, 256) + np.random.default_rng(1).normal(0, 20, (256, 256, 3)), 0, 255).astype("uint8")
KINDS_OF_JPEG = {
    "sequential": {},
    "optimized": {"optimize": True},
    "progressive": {"progressive": True},
    "full colour": {"subsampling": 0, "quality": 95},
    "with restarts": {"restart_marker_blocks": 7},
}


@pytest.mark.parametrize("loader", LOADERS)
@pytest.mark.parametrize("kind", KINDS_OF_JPEG)
def test_half_a_jpeg_with_an_end_is_bad_and_so_is_one_with_zeros_inside(kind, loader, make_folder):
    files = {}
    for name, pixels in {"noisy": NOISY, "textured": TEXTURED, "grey": TEXTURED[..., 0]}.items():
        whole = encoded(pixels, **KINDS_OF_JPEG[kind])
        files |= {f"{name}-good.jpg": whole, f"{name}-half.jpg": halved(whole), f"{name}-zeros.jpg": zeroed(whole)}
        files[f"{name}-cut.jpg"] = whole[: len(whole) // 3] + whole[len(whole) // 2 :]
        files[f"{name}-late.jpg"] = whole[: int(0.9 * len(whole))] + b"\xff\xd9"
    if kind != "sequential":  # a piece that is missing from the middle may not show in how much follows
        files = {name: content for name, content in files.items() if "cut" not in name}
    folder = make_folder(files)
    with pytest.warns(UserWarning, match="damaged"):
        batches, dataset = read(folder, loader, max_bad_share=0.9)
    bad = {os.path.basename(name) for name in dataset.bad_images}
    assert bad == {name for name in files if "good" not in name}
    assert sum(map(len, batches)) == 3


WHOLE = {
    "grey all over": np.full((96, 96, 3), 128, "uint8"),
    "a grey border": np.pad(PICTURE, ((0, 32), (0, 0), (0, 0)), constant_values=128),
    "black": np.zeros((200, 200, 3), "uint8"),
    "an even surface": np.full((400, 300, 3), (10, 200, 90), "uint8"),
    "half even": np.concatenate([TEXTURED, np.full_like(TEXTURED, 255)]),
    "half black": np.concatenate([np.zeros_like(TEXTURED), TEXTURED]),
}


@pytest.mark.parametrize("kind", KINDS_OF_JPEG)
def test_a_whole_jpeg_is_good_whatever_it_shows(kind, make_folder):
    options = KINDS_OF_JPEG[kind]
    files = {f"{name}.jpg": encoded(pixels, **options) for name, pixels in WHOLE.items()}
    files |= {f"{name} 1.jpg": encoded(pixels[..., 0], **options) for name, pixels in WHOLE.items()}
    padded = Image.Exif()
    padded[0x010E] = "\0" * 2000  # a camera's empty fields
    files["exif.jpg"] = encoded(PICTURE, exif=padded, **options)
    rng = np.random.default_rng(0)
    for i in range(20):
        height, width = rng.integers(30, 200, 2)
        files[f"{i}.jpg"] = encoded(photo(height, width, seed=i), **options)
    for loader in LOADERS:
        batches, dataset = read(make_folder(files, kind), loader, image_size=16, on_error="raise")
        assert sum(map(len, batches)) == len(files) and not dataset.bad_images


@pytest.mark.parametrize("loader", LOADERS)
def test_a_png_with_another_checksum_is_bad(loader, make_folder):
    good = encoded(TEXTURED, "PNG")
    place = good.index(b"IDAT") + 5000
    flipped = good[:place] + bytes([good[place] ^ 1]) + good[place + 1 :]
    header = good[:29] + b"\0" + good[30:]
    files = {"good.png": good, "flipped.png": flipped, "zeros.png": zeroed(good), "header.png": header}
    with pytest.warns(UserWarning, match="3 images can't be used"):
        batches, dataset = read(make_folder(files), loader, max_bad_share=0.9)
    assert len(batches[0]) == 1 and "checksum" in next(iter(dataset.bad_images.values()))


# The camera was turned

TRANSPOSED = {1: None, 2: 0, 3: 3, 4: 1, 5: 5, 6: 4, 7: 6, 8: 2}  # Pillow's names, by number


@pytest.mark.parametrize("loader", LOADERS)
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_images_are_turned_upright_whatever_their_kind(kind, loader, make_folder):
    pixels = np.zeros((64, 96, 3), "uint8")
    pixels[:32, :, 0] = 250
    pixels[:, :32, 1] = 250  # red above, green on the left
    files, expected = {}, []
    for value, method in TRANSPOSED.items():
        exif = Image.Exif()
        exif[0x0112] = value
        options = {"quality": 95} if kind == "JPEG" else {"lossless": True} if kind == "WEBP" else {}
        files[f"{value}.jpg"] = encoded(pixels, kind, exif=exif, **options)
        picture = Image.fromarray(pixels)
        picture = picture if method is None else picture.transpose(Image.Transpose(method))
        side = min(picture.size)
        left, top = (picture.size[0] - side) // 2, (picture.size[1] - side) // 2
        expected.append(np.asarray(picture.crop((left, top, left + side, top + side)).resize((16, 16), Image.BOX)))
    batches, dataset = read(make_folder(files), loader, image_size=16, batch_size=8)
    assert not dataset.bad_images
    difference = np.abs(batches[0].astype(int) - np.stack(expected)).mean(axis=(1, 2, 3))
    assert difference.max() < 6, difference


@pytest.mark.parametrize("loader", LOADERS)
def test_damaged_words_of_a_camera_damage_no_picture(loader, make_folder):
    exif = Image.Exif()
    exif[0x0112] = 3
    good = encoded(PICTURE, quality=95, exif=exif)
    place = good.index(b"Exif\0\0") + 6
    rng = np.random.default_rng(0)
    files = {"0.jpg": GOOD}
    for i in range(1, 20):
        damaged = bytearray(good)
        for _ in range(3):
            damaged[place + rng.integers(0, 26)] = rng.integers(0, 256)
        files[f"{i:02}.jpg"] = bytes(damaged)
    batches, dataset = read(make_folder(files), loader, batch_size=20, on_error="raise")
    assert len(batches[0]) == 20
    upright, turned = batches[0][0].astype(int), batches[0][0][::-1, ::-1].astype(int)
    for image in batches[0]:  # some still say that they are turned, in one way or another
        assert image.std() > 20
    assert any(np.abs(image - upright).mean() < 3 or np.abs(image - turned).mean() < 3 for image in batches[0][1:])


# 16 bits, arrays, transparency


def grey_16_bits(pixels, kind):
    return encoded(Image.fromarray(pixels.astype("uint16")), kind)


@pytest.mark.parametrize("loader", LOADERS)
@pytest.mark.parametrize("kind", ["PNG", "TIFF", "PPM", "npy"])
def test_of_16_bits_the_upper_are_taken_and_12_are_said_to_be_dark(kind, loader, make_folder):
    values = np.linspace(0, 65535, 64 * 64).reshape(64, 64).astype("uint16")

    def write(pixels):
        if kind == "npy":
            file = io.BytesIO()
            np.save(file, pixels)
            return file.getvalue()
        return grey_16_bits(pixels, kind)

    name = "npy" if kind == "npy" else "png"
    folder = make_folder({f"bright.{name}": write(values), f"dark.{name}": write(values >> 4)})
    with pytest.warns(UserWarning, match=r"1 images of 16 bits use only the lower 12 .*multiply.*dark"):
        batches, _ = read(folder, loader, image_size=64, channels=1)
    np.testing.assert_array_equal(batches[0][0][..., 0], values >> 8)
    np.testing.assert_array_equal(batches[0][1][..., 0], values >> 12)


@pytest.mark.parametrize("loader", LOADERS)
def test_arrays_in_files_are_images(loader, make_folder):
    arrays = {"colour": PICTURE, "grey": PICTURE[..., 0], "one": PICTURE[..., :1], "turned": np.asfortranarray(PICTURE)}
    files = {}
    for name, pixels in arrays.items():
        file = io.BytesIO()
        np.save(file, pixels)
        files[f"{name}.npy"] = file.getvalue()
    batches, _ = read(make_folder(files), loader, image_size=(96, 128))
    grey = np.repeat(PICTURE[..., :1], 3, axis=2)
    np.testing.assert_array_equal(batches[0], [PICTURE, grey, grey, PICTURE])


# What a folder leaves out


def test_folders_that_cannot_be_opened_are_counted_as_the_others_and_named(make_folder, monkeypatch):
    folder = make_folder({f"{part}/{i}.jpg": GOOD for part in "abc" for i in range(8)})
    scandir = os.scandir

    def refusing(path):
        if os.path.basename(path) == "b":
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refusing)
    for loader in LOADERS:
        with pytest.raises(ValueError, match="8 of 24 images.*folders can't be opened.*/b"), pytest.warns(UserWarning):
            read(folder, loader, max_bad_share=0.3)
        with pytest.warns(UserWarning, match="1 folders can't be opened; what is in them is left out: .*/b"):
            _, dataset = read(folder, loader, max_bad_share=0.4)
        assert dataset.num_images == 16
        assert dataset.not_read == {"folders can't be opened; what is in them is left out": [f"{folder}/b"]}


@pytest.mark.skipif(os.geteuid() == 0, reason="the owner of all files may open all folders")
def test_a_folder_without_permission_is_named(make_folder):
    folder = make_folder({f"{part}/{i}.jpg": GOOD for part in "abc" for i in range(8)})
    os.chmod(os.path.join(folder, "b"), 0)
    try:
        with pytest.raises(ValueError, match="8 of 24 images"), pytest.warns(UserWarning):
            read(folder, "python", max_bad_share=0.3)
    finally:
        os.chmod(os.path.join(folder, "b"), 0o700)


def test_hidden_files_are_counted_in_silence(make_folder, recwarn):
    folder = make_folder({"a/0.jpg": GOOD, "a/._0.jpg": b"what macOS leaves", "a/.cache/1.jpg": GOOD, ".git/x": b""})
    dataset = data.from_folder(folder, image_size=16, batch_size=1, loader="python")
    names = [os.path.relpath(name, folder) for name in dataset.not_read["hidden files and folders"]]
    assert sorted(names) == [".git", "a/._0.jpg", "a/.cache"] and not recwarn.list


# TFRecords


def feature(value):
    import tensorflow as tf

    kinds = {bytes: "bytes_list", int: "int64_list", float: "float_list"}
    lists = {"bytes_list": tf.train.BytesList, "int64_list": tf.train.Int64List, "float_list": tf.train.FloatList}
    kind = kinds[type(value[0])]
    return tf.train.Feature(**{kind: lists[kind](value=value)})


def record(**features):
    import tensorflow as tf

    keys = {"image": "image/encoded", "label": "image/class/label"}
    features = tf.train.Features(feature={keys[name]: feature(value) for name, value in features.items()})
    return tf.train.Example(features=features).SerializeToString()


def write_records(path, records, compression=""):
    tf = pytest.importorskip("tensorflow")
    with tf.io.TFRecordWriter(str(path), compression) as writer:
        for content in records:
            writer.write(content)


def numbered(i):
    return encoded(np.full((40, 50, 3), 10 * i, "uint8"))


def read_records(path, **options):
    options = {"class_names": ["a", "b"], "training": False, "max_bad_share": 0.9, "batch_size": 4, **options}
    return data.from_tfrecords(path, image_size=16, **options)


@pytest.mark.parametrize("compression", ["GZIP", "ZLIB", ""])
def test_compressed_records_are_read(compression, tmp_path):
    write_records(tmp_path / "r", [record(image=[numbered(i)], label=[i % 2]) for i in range(10)], compression)
    dataset = read_records(tmp_path / "r")
    assert dataset.num_images == 10
    batches = list(dataset)
    assert [i for images, _ in batches for i in which(images)] == list(range(10))
    assert [i for _, labels in batches for i in labels] == [i % 2 for i in range(10)]
    if compression:
        content = (tmp_path / "r").read_bytes()
        (tmp_path / "r").write_bytes(content[: len(content) // 2])
        with pytest.raises(ValueError, match="truncated in record|damaged.*Received: .*/r"):
            read_records(tmp_path / "r")


WRONG_RECORDS = {
    "no label": (lambda: record(image=[numbered(1)]), "one value in the int64_list of 'image/class/label', and has 0"),
    "two images": (lambda: record(image=[numbered(1)] * 2, label=[0]), "bytes_list of 'image/encoded', and has 2"),
    "no image": (lambda: record(label=[0]), "empty|bytes_list of 'image/encoded', and has 0"),
    "two labels": (lambda: record(image=[numbered(1)], label=[0, 1]), "int64_list of 'image/class/label', and has 2"),
    "a label that is a float": (lambda: record(image=[numbered(1)], label=[1.0]), "int64_list .*, and has 0"),
    "no Example": (lambda: b"\xff\xfe neither", "no tf.train.Example"),
}


@pytest.mark.parametrize("kind", WRONG_RECORDS)
def test_a_record_that_is_not_as_it_should_be_is_a_bad_image(kind, tmp_path):
    """The first of a file, and one within."""
    make, reason = WRONG_RECORDS[kind]
    records = [record(image=[numbered(i)], label=[i % 2]) for i in range(6)]
    write_records(tmp_path / "r", [make(), records[1], make(), *records[3:]])
    dataset = read_records(tmp_path / "r")
    said = rf"2 images can't be used .*r: record 0 \(.*(?:{reason}).*r: record 2 \(.*(?:{reason})"
    with pytest.warns(UserWarning, match=said):
        batches = list(dataset)
    assert [i for images, _ in batches for i in which(images)] == [1, 3, 4, 5]
    assert [i for _, labels in batches for i in labels] == [1, 1, 0, 1]
    with pytest.raises(ValueError, match=rf"on_error='skip' would.*r: record 0: .*(?:{reason})"):
        list(read_records(tmp_path / "r", on_error="raise"))


def test_records_without_what_is_looked_for_are_an_error_at_once(tmp_path):
    write_records(tmp_path / "r", [record(image=[numbered(i)]) for i in range(20)])
    with pytest.raises(ValueError, match=r"features \['image/encoded'\]. Received: \['image/class/label'\]"):
        read_records(tmp_path / "r")
    write_records(tmp_path / "r", [b"\xff\xfe neither"] * 20)
    with pytest.raises(ValueError, match="r with records that are no tf.train.Example"):
        read_records(tmp_path / "r")


def test_a_label_of_a_record_is_not_cut_to_32_bits(tmp_path):
    write_records(tmp_path / "r", [record(image=[numbered(i)], label=[(0, 2**32 + 1)[i == 2]]) for i in range(4)])
    with pytest.raises(ValueError, match=r"label 4294967297 of .*r: record 2"):
        list(read_records(tmp_path / "r"))


def test_damage_in_a_file_of_records_names_the_record(tmp_path):
    records = [record(image=[numbered(i)], label=[i % 2]) for i in range(6)]
    write_records(tmp_path / "r", records)
    content = bytearray((tmp_path / "r").read_bytes())
    start = sum(16 + len(content) for content in records[:3])
    for place, message in ((start + 40, "r: record 3: corrupted"), (start + 3, "damaged in record 3.*r")):
        damaged = content.copy()
        damaged[place] ^= 1
        (tmp_path / "r").write_bytes(damaged)
        with pytest.raises(ValueError, match=message):
            list(read_records(tmp_path / "r"))


def test_a_record_of_too_many_bytes_is_named(tmp_path):
    write_records(tmp_path / "r", [record(image=[numbered(i)], label=[0]) for i in range(2)])
    with pytest.raises(ValueError, match=r"may have 100 bytes.*r: record 0 of"):
        read_records(tmp_path / "r", limits=data.Limits(max_bytes=100))


# Tar files


def write_tar(path, members):
    """Members are pairs of a name and bytes, or TarInfo and bytes."""
    with tarfile.open(path, "w") as archive:
        for name, content in members:
            info = name if isinstance(name, tarfile.TarInfo) else member(name, len(content))
            archive.addfile(info, io.BytesIO(content))


def tar_of(count):
    return [pair for i in range(count) for pair in ((f"{i}.png", encoded(PICTURE, "PNG")), (f"{i}.cls", b"0"))]


def read_tar(path, **options):
    return data.from_webdataset(path, **{"image_size": 16, "batch_size": 2, "max_bad_share": 0.5, **options})


def linked(name, kind, target):
    info = member(name, 0)
    info.type, info.linkname = kind, target
    return info, b""


def test_what_an_archive_leaves_out_is_counted_and_named(tmp_path):
    others = [
        linked("5.png", tarfile.SYMTYPE, "/dev/zero"),
        linked("6.png", tarfile.LNKTYPE, "0.png"),
        linked("7.png", tarfile.FIFOTYPE, ""),
        ("8.png", GOOD),
        ("8.cls", b"9" * 20),
        ("9.png", GOOD),
        ("9.cls", b"7" * 100),
    ]
    write_tar(tmp_path / "t.tar", tar_of(5) + others)
    with pytest.warns(UserWarning) as caught:
        train = read_tar(tmp_path / "t.tar")
    texts = " ".join(str(warning.message) for warning in caught)
    assert train.num_images == 5
    for part in (r"3 links", "2 records don't", "t.tar: 6.png", "8.cls: b'9999", "9.cls: 100 bytes", "8 with 1 images"):
        assert part in texts
    assert sum(map(len, train.not_read.values())) == 7
    with pytest.raises(ValueError, match="More than max_bad_share=0.4.*5 of 10 images"), pytest.warns(UserWarning):
        read_tar(tmp_path / "t.tar", max_bad_share=0.4)
    with pytest.raises(ValueError, match="on_error='skip' would leave them out"), pytest.warns(UserWarning):
        read_tar(tmp_path / "t.tar", on_error="raise")


def damaged_header(content, change):
    """The archive with another header of its fifth record, with the right checksum where `change` asks for it."""
    content = bytearray(content)
    place = content.index(b"4.png\0")
    change(content, place)
    return bytes(content)


def with_size(size):
    def change(content, place):
        info = member("4.png", size)
        content[place : place + 512] = info.tobuf(tarfile.GNU_FORMAT)

    return change


def flip(content, place):
    content[place + 10] ^= 1


def erase(content, place):
    content[place : place + 512] = bytes(512)


DAMAGED_HEADERS = {
    "a flipped bit": (flip, "a header is damaged: bad checksum"),
    "zeros": (erase, "must end where its data end.*more behind byte"),
    "a negative size": (with_size(-512), "a header says that it has -512 bytes"),
    "a size beyond the end": (with_size(2**35), "t.tar: unexpected end of data"),
}


@pytest.mark.parametrize("kind", DAMAGED_HEADERS)
def test_an_archive_that_is_damaged_inside_is_an_error(kind, tmp_path):
    change, message = DAMAGED_HEADERS[kind]
    write_tar(tmp_path / "t.tar", tar_of(8))
    content = damaged_header((tmp_path / "t.tar").read_bytes(), change)
    (tmp_path / "t.tar").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        read_tar(tmp_path / "t.tar")


def test_two_archives_in_one_file_are_an_error(tmp_path):
    write_tar(tmp_path / "t.tar", tar_of(2))
    content = (tmp_path / "t.tar").read_bytes()
    (tmp_path / "t.tar").write_bytes(content * 2)
    with pytest.raises(ValueError, match="or it is several in one"):
        read_tar(tmp_path / "t.tar")
