"""The data of small experiments, from packages that are unpacked already."""

import json
import runpy

import numpy as np
import pytest

from tests.examples.conftest import EXAMPLES

pytestmark = [pytest.mark.system, pytest.mark.docs]
pillow = pytest.importorskip("PIL.Image")


def test_crops_of_training_and_tests_share_no_pixel(run_example, tmp_path):
    """Pictures are red where training crops are from, and blue where those of tests are; one lies, one stands."""
    folder = tmp_path / "unpacked" / "backgrounds"
    folder.mkdir(parents=True)
    for name, shape in {"Lying_by_A": (120, 200), "Standing_by_B": (200, 120)}.items():
        pixels = np.zeros((*shape, 3), "uint8")
        pixels[..., 0] = 255
        end = (slice(150, None), slice(None)) if shape[0] == 200 else (slice(None), slice(150, None))
        pixels[end] = (0, 0, 255)
        pillow.fromarray(pixels).save(folder / f"{name}.jpg", quality=100, subsampling=0)
    pillow.fromarray(pixels).save(folder / "analogpattern.jpg")
    printed = run_example("small_data.py", "photographs", "--packages", "unpacked", "--size", "8", "--output", "out")
    assert "320 images to train, 80 to test, 2 classes" in printed
    for part, color in (("train", (255, 0, 0)), ("test", (0, 0, 255))):
        for label in ("lying", "standing"):
            paths = list((tmp_path / "out" / part / label).iterdir())
            images = np.stack([np.asarray(pillow.open(path)) for path in paths]).astype(int)
            assert images.shape == (160 if part == "train" else 40, 8, 8, 3)
            assert np.abs(images - color).max() < 30  # JPEG's rounding at the border
    with pytest.raises(SystemExit, match="out exists"):
        run_example("small_data.py", "photographs", "--packages", "unpacked", "--output", "out")


def test_emoji_are_averaged_on_white_and_skin_tones_stay_together(run_example, tmp_path):
    pictures = tmp_path / "package" / "img" / "google" / "64"
    pictures.mkdir(parents=True)
    drawn = np.zeros((64, 64, 4), "uint8")
    drawn[:32, :, 0] = 255
    drawn[:32, :, 3] = 255  # red above, transparent below
    listing = []
    for i in range(16):
        names = [f"{i}.png", f"{i}-tone.png"]
        for name in names:
            pillow.fromarray(drawn).save(pictures / name)
        tones = {"A": {"image": names[1], "has_img_google": True}, "B": {"image": "none", "has_img_google": False}}
        entry = {"unified": str(i), "image": names[0], "has_img_google": i != 3, "skin_variations": tones}
        listing.append({**entry, "category": "Component" if i == 5 else "People & Body"})
    (tmp_path / "package" / "emoji.json").write_text(json.dumps(listing))
    printed = run_example("small_data.py", "emoji", "--packages", "package", "--output", "out")
    assert "24 images to train, 4 to test, 1 classes" in printed
    found = {part: {path.stem for path in (tmp_path / "out" / part / "people").iterdir()} for part in ("train", "test")}
    for names in found.values():
        assert {name.removesuffix("-tone") for name in names} == {name for name in names if "tone" not in name}
    image = np.asarray(pillow.open(next((tmp_path / "out" / "test" / "people").iterdir())))
    assert image.shape == (32, 32, 3) and (image[:16] == (255, 0, 0)).all() and (image[16:] == 255).all()


def test_boxes_lie_in_the_picture():
    draw_box = runpy.run_path(str(EXAMPLES / "small_data.py"))["draw_box"]
    rng = np.random.default_rng(0)
    for size in ((400, 300), (300, 400), (300, 300)):
        for part in ("train", "test"):
            boxes = np.array([draw_box(size, part, rng) for _ in range(200)])
            assert boxes[:, :2].min() >= 0 and (boxes[:, 2:] <= size).all()
            sides = boxes[:, 2:] - boxes[:, :2]
            assert (sides[:, 0] == sides[:, 1]).all() and sides.min() >= 37 and sides.max() <= 75
