"""Every kind of image file, by both loaders."""

import os
import warnings

import numpy as np
import pytest

from keras_umd import data
from keras_umd.data import decoding, tf_loader
from tests.data.conftest import LOADERS, encoded, photo, png_16_bits

Image = pytest.importorskip("PIL.Image")
pytestmark = pytest.mark.host

PICTURE = photo()
GOOD = encoded(PICTURE, quality=95)


def read(folder, loader, image_size=48, **options):
    """All images of a folder, in evaluation's crop: the middle 96x96 of `photo`."""
    dataset = data.from_folder(
        folder, image_size=image_size, batch_size=4, training=False, labels=False, loader=loader, **options
    )
    return np.concatenate(list(dataset)), dataset


def expected(pixels, image_size=48):
    """The middle square, shrunk by taking means of equal blocks."""
    height, width = pixels.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    square = pixels[top : top + side, left : left + side].astype("float64")
    block = side // image_size
    return square.reshape(image_size, block, image_size, block, -1).mean(axis=(1, 3))


def grey(pixels):
    return (pixels @ [0.299, 0.587, 0.114])[..., None]


def with_alpha(pixels):
    """The left half is transparent, and black below."""
    alpha = np.full((*pixels.shape[:2], 1), 255, "uint8")
    alpha[:, : pixels.shape[1] // 2] = 0
    return np.concatenate([np.where(alpha, pixels, 0), alpha], axis=-1).astype("uint8")


def on_white(pixels):
    pixels = pixels.astype("float64")
    pixels[:, : pixels.shape[1] // 2] = 255
    return pixels


def striped():
    """The left half is red."""
    pixels = PICTURE.copy()
    pixels[:, : PICTURE.shape[1] // 2] = (255, 0, 0)
    return pixels


def animated():
    frames = [Image.fromarray(PICTURE), Image.fromarray(255 - PICTURE)]
    return encoded(frames[0], "WEBP", save_all=True, append_images=frames[1:], lossless=True)


KINDS = {
    "a JPEG": (GOOD, PICTURE),
    "a PNG": (encoded(PICTURE, "PNG"), PICTURE),
    "a WebP": (encoded(PICTURE, "WEBP", lossless=True), PICTURE),
    "an animated WebP": (animated(), PICTURE),
    "a BMP": (encoded(PICTURE, "BMP"), PICTURE),
    "a TIFF": (encoded(PICTURE, "TIFF"), PICTURE),
    "a CMYK JPEG": (encoded(Image.fromarray(PICTURE).convert("CMYK"), quality=95), PICTURE),
    "a grey JPEG": (encoded(Image.fromarray(PICTURE).convert("L"), quality=95), np.repeat(grey(PICTURE), 3, axis=2)),
    "a grey PNG": (encoded(Image.fromarray(PICTURE).convert("L"), "PNG"), np.repeat(grey(PICTURE), 3, axis=2)),
    "a PNG with alpha": (encoded(with_alpha(PICTURE), "PNG"), on_white(PICTURE)),
    "a PNG with one transparent colour": (encoded(striped(), "PNG", transparency=(255, 0, 0)), on_white(striped())),
    "a PNG of 16 bits": (png_16_bits(PICTURE), PICTURE),
    "a grey PNG of 16 bits": (
        encoded(PICTURE[..., 0].astype("uint16") * 257, "PNG"),
        np.repeat(PICTURE[..., :1], 3, axis=2),
    ),
}


@pytest.mark.parametrize("loader", LOADERS)
@pytest.mark.parametrize("kind", KINDS)
def test_a_file_is_read_as_what_it_is_whatever_its_name(kind, loader, make_folder):
    content, pixels = KINDS[kind]
    images, dataset = read(make_folder({"picture.jpg": content}), loader)
    assert images.shape == (1, 48, 48, 3) and images.dtype == "uint8" and not dataset.bad_images
    # JPEG, colour spaces and the way to shrink differ by little; a wrong frame, crop or depth by much.
    assert np.abs(images[0] - expected(pixels)).mean() < 4


def test_an_animated_gif_shows_its_first_picture(make_folder):
    frames = [Image.new("RGB", (96, 96), color) for color in ("red", "blue")]
    content = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    for loader in LOADERS:
        images, _ = read(make_folder({"picture.gif": content}), loader)
        np.testing.assert_array_equal(images[0, 0, 0], [255, 0, 0])


@pytest.mark.parametrize("loader", LOADERS)
@pytest.mark.parametrize("image_size", [8, 16, 32, 96])
def test_a_jpeg_that_is_decoded_smaller_shows_the_same(image_size, loader, make_folder):
    images, _ = read(make_folder({"picture.jpg": GOOD}), loader, image_size)
    assert np.abs(images[0] - expected(PICTURE, image_size)).mean() < 4


@pytest.mark.parametrize("loader", LOADERS)
@pytest.mark.parametrize("content", [GOOD, encoded(PICTURE, "PNG")], ids=["jpeg", "png"])
@pytest.mark.parametrize("image_size", [(16, 32), (24, 16), (48, 64)])
def test_an_image_is_read_as_a_rectangle(image_size, content, loader, make_folder):
    images, dataset = read(make_folder({"picture.jpg": content}), loader, image_size)
    assert dataset.image_shape == (*image_size, 3) and images.shape == (1, *image_size, 3)
    crop_height, crop_width = {(16, 32): (64, 128), (24, 16): (96, 64), (48, 64): (96, 128)}[image_size]
    top, left = (96 - crop_height) // 2, (128 - crop_width) // 2
    block = crop_height // image_size[0]
    pixels = PICTURE[top : top + crop_height, left : left + crop_width].astype("float64")
    means = pixels.reshape(image_size[0], block, image_size[1], block, 3).mean(axis=(1, 3))
    assert np.abs(images[0] - means).mean() < 4


@pytest.mark.parametrize("loader", LOADERS)
def test_a_rectangle_is_filled_by_enlarging_with_a_warning(loader, make_folder):
    folder = make_folder({"small.jpg": encoded(PICTURE[:30, :90]), "large.jpg": GOOD})
    with pytest.warns(UserWarning, match=r"1 images are smaller than 20x100 pixels and were enlarged: .*small\.jpg"):
        images, _ = read(folder, loader, (20, 100))
    assert images.shape == (2, 20, 100, 3)


@pytest.mark.parametrize("loader", LOADERS)
def test_a_huge_image_is_read(loader, make_folder):
    huge = encoded(Image.new("RGB", (9000, 7000), "red"))
    images, _ = read(make_folder({"huge.jpg": huge}), loader, 32)
    assert np.abs(images[0].astype(int) - [254, 0, 0]).max() < 3


@pytest.mark.parametrize("loader", LOADERS)
def test_an_image_that_is_too_large_is_bad(loader, make_folder):
    folder = make_folder({"large.jpg": encoded(photo(97, 128)), "good.jpg": GOOD})
    with pytest.warns(UserWarning, match=r"large\.jpg \(97x128 pixels are too many; 12288 are allowed"):
        images, _ = read(folder, loader, max_bad_share=0.5, limits=data.Limits(max_pixels=96 * 128))
    assert len(images) == 1


@pytest.mark.parametrize("loader", LOADERS)
def test_a_link_that_leads_nowhere_is_a_bad_image(loader, make_folder):
    folder = make_folder({"0.jpg": GOOD, "1.jpg": GOOD})
    os.symlink("/nowhere", os.path.join(folder, "2.jpg"))
    with pytest.warns(UserWarning, match=r"2\.jpg"):
        images, _ = read(folder, loader, max_bad_share=0.5)
    assert len(images) == 2


@pytest.mark.parametrize("loader", LOADERS)
def test_grey_images_can_be_asked_for(loader, make_folder):
    images, _ = read(make_folder({"a.jpg": GOOD, "b.png": encoded(PICTURE, "PNG")}), loader, channels=1)
    assert images.shape == (2, 48, 48, 1)
    for image in images:
        assert np.abs(image - expected(grey(PICTURE))).mean() < 4


BAD = {
    "an empty file": (b"", "empty"),
    "text": (b"<html>404</html>", "not an image"),
    "a truncated JPEG": (GOOD[: len(GOOD) // 3], "truncated"),
    "the beginning of a JPEG": (GOOD[:20], "truncated|not an image|damaged"),
    "three bytes of a JPEG": (GOOD[:3], "not an image|damaged"),
    "a truncated PNG": (encoded(PICTURE, "PNG")[:3000], "damaged|truncated"),
    "a damaged PNG": (bytes(b ^ (i % 7 == 0 and i > 60) for i, b in enumerate(encoded(PICTURE, "PNG"))), "damaged|not"),
    "one pixel": (encoded(PICTURE[:1, :1], "PNG"), "1x1 pixels are too few"),
    "pixels of 32 bits": (encoded(Image.fromarray(PICTURE[..., 0].astype("int32")), "TIFF"), "8 or 16 bits"),
    "pixels that are floats": (encoded(Image.fromarray(PICTURE[..., 0] / np.float32(255)), "TIFF"), "8 or 16 bits"),
    "one pixel in a JPEG": (encoded(PICTURE[:1, :1]), "1x1 pixels are too few"),
}


@pytest.mark.parametrize("loader", LOADERS)
@pytest.mark.parametrize("kind", BAD)
def test_a_bad_file_is_left_out_counted_and_named(kind, loader, make_folder):
    content, reason = BAD[kind]
    folder = make_folder({"0.jpg": GOOD, "1.jpg": GOOD, "2.jpg": content, "3.jpg": GOOD, "4.jpg": GOOD})
    with pytest.warns(UserWarning, match=r"1 images can't be used and were left out: .*2\.jpg"):
        images, dataset = read(folder, loader, max_bad_share=0.5)
    assert len(images) == 4
    assert np.abs(images - expected(PICTURE)).mean() < 4
    ((name, why),) = dataset.bad_images.items()
    assert name.endswith("2.jpg")
    with pytest.raises(ValueError, match=reason):
        raise ValueError(why)


@pytest.mark.parametrize("loader", LOADERS)
def test_a_file_that_goes_away_or_has_a_name_of_other_bytes_is_no_reason_to_stop(loader, make_folder):
    folder = make_folder({f"{i}.jpg": GOOD for i in range(4)})
    with open(os.fsencode(folder) + b"/\xff\xfe.jpg", "wb") as file:
        file.write(GOOD)
    with open(os.fsencode(folder) + b"/\xff\xfd.jpg", "wb") as file:
        file.write(b"bad")
    dataset = data.from_folder(
        folder, image_size=48, batch_size=3, training=False, labels=False, loader=loader, max_bad_share=0.5
    )
    os.remove(os.path.join(folder, "1.jpg"))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        images = np.concatenate(list(dataset))
    assert len(images) == 4 and len(dataset.bad_images) == 2
    assert any("udcfd" in str(warning.message) for warning in caught)


@pytest.mark.parametrize("loader", LOADERS)
def test_small_images_are_enlarged_with_a_warning(loader, make_folder):
    folder = make_folder({"small.jpg": encoded(PICTURE[:30, :40]), "large.jpg": GOOD})
    with pytest.warns(UserWarning, match=r"1 images are smaller than 48x48 pixels and were enlarged: .*small\.jpg"):
        images, _ = read(folder, loader)
    assert len(images) == 2


@pytest.mark.parametrize("loader", LOADERS)
def test_a_truncated_jpeg_is_bad_whatever_part_of_it_is_needed(loader, make_folder):
    folder = make_folder({"0.jpg": GOOD, "1.jpg": GOOD[: int(0.9 * len(GOOD))]})
    for seed in range(4):
        options = {"loader": loader, "labels": False, "max_bad_share": 0.5, "seed": seed, "area_range": (0.1, 0.2)}
        train = data.from_folder(folder, image_size=16, batch_size=2, **options)
        with pytest.warns(UserWarning, match="1 images can't be used"):
            list(train)


@pytest.mark.parametrize(
    "kind", ["a damaged PNG", "an empty file", "text", "three bytes of a JPEG", "one pixel", "missing"]
)
def test_behind_a_damaged_image_tensorflow_decodes_again_in_the_next_epoch(kind, make_folder, monkeypatch):
    damaged = GOOD if kind == "missing" else BAD[kind][0]
    folder = make_folder({f"{i:02}.jpg": damaged if i == 2 else GOOD for i in range(12)})
    dataset = data.from_folder(
        folder,
        image_size=48,
        batch_size=4,
        training=False,
        labels=False,
        loader="tensorflow",
        max_bad_share=0.1,
        workers=1,
    )
    if kind == "missing":
        os.remove(os.path.join(folder, "02.jpg"))
    in_python = []

    def decode_and_crop(content, *arguments):
        in_python.append(content)
        return decoding.decode_and_crop(content, *arguments)

    monkeypatch.setattr(tf_loader, "decode_and_crop", decode_and_crop)
    with pytest.warns(UserWarning, match=r"1 images can't be used and were left out: .*2\.jpg"):
        first = np.concatenate(list(dataset))
    in_python.clear()
    second = np.concatenate(list(dataset))
    assert in_python in ([damaged], [])
    assert len(first) == len(second) == 11
    assert np.abs(second - expected(PICTURE)).mean() < 4
