"""The places of crops, against an independent sampler of the law that `Crop` names."""

import re

import numpy as np
import pytest

from keras_umd import data
from keras_umd.data.crops import NUM_DRAWS, Crop
from tests.data.conftest import LOADERS, encoded

stats = pytest.importorskip("scipy.stats")
pytestmark = pytest.mark.host


def reference_sample(rng, height, width, area_range):
    """One crop's share of the area and ratio: the ratio is drawn again until the crop fits."""
    area = rng.uniform(*area_range)
    narrowest, widest = area * width / height, width / height / area
    if narrowest > 4 / 3 or widest < 3 / 4:  # none fits: the nearest that does
        return area, narrowest if narrowest > 4 / 3 else widest
    while True:
        ratio = np.exp(rng.uniform(np.log(3 / 4), np.log(4 / 3)))
        if narrowest <= ratio <= widest:
            return area, ratio


@pytest.mark.parametrize("height, width", [(375, 500), (500, 375), (400, 400), (300, 900), (900, 300)])
@pytest.mark.parametrize("area_range", [(0.8, 1.0), (0.08, 1.0)])
def test_areas_and_ratios_follow_the_law(height, width, area_range):
    draws = np.random.default_rng(0).random((NUM_DRAWS, 5000))
    _, _, h, w = Crop(64, area_range=area_range).box(np, float(height), float(width), draws)
    rng = np.random.default_rng(1)
    area, ratio = np.transpose([reference_sample(rng, height, width, area_range) for _ in range(5000)])
    # Sizes are whole pixels: without a jitter of less than one, equal values would look like a deviation.
    jitter = np.random.default_rng(2).uniform(-0.5, 0.5, (2, 5000))
    h, w = h + jitter[0], w + jitter[1]
    assert stats.ks_2samp(h * w / (height * width), area).statistic < 0.04
    assert stats.ks_2samp(np.log(w / h), np.log(ratio)).statistic < 0.04


def test_places_are_uniform_among_those_that_fit_and_half_of_the_images_are_flipped():
    draws = np.random.default_rng(0).random((NUM_DRAWS, 20_000), dtype="float32")
    crop = Crop(64, area_range=(0.3, 0.5))
    top, left, h, w = crop.box(np, np.float32(375), np.float32(500), draws)
    for start, length, size in ((top, h, 375), (left, w, 500)):
        assert start.min() >= 0 and np.all(start + length <= size)
        place = (start + np.random.default_rng(1).random(20_000)) / (size - length + 1)
        assert stats.kstest(place, "uniform").pvalue > 1e-3
    assert abs(crop.is_flipped(draws).mean() - 0.5) < 4 * 0.5 / np.sqrt(20_000)


@pytest.mark.parametrize("loader", LOADERS)
def test_the_images_that_a_loader_gives_follow_the_law(loader, make_folder):
    # The pixels tell where they are from: the red are columns, the green rows.
    y, x = np.mgrid[:150, :200]
    picture = encoded(np.stack([x, y, 0 * x], axis=-1).astype("uint8"), "PNG")
    folder = make_folder({f"{i}.png": picture for i in range(1000)})
    dataset = data.from_folder(
        folder, image_size=32, batch_size=100, labels=False, loader=loader, area_range=(0.2, 0.6), seed=1
    )
    images = np.concatenate(list(dataset)).astype("float64")
    columns, rows = images[..., 0].mean(axis=1), images[..., 1].mean(axis=2)
    is_flipped = columns[:, 0] > columns[:, -1]
    assert abs(is_flipped.mean() - 0.5) < 4 * 0.5 / np.sqrt(1000)
    # 31 steps of 32 lie between the first pixel and the last.
    w, h = (np.abs(line[:, -2] - line[:, 1]) / 29 * 32 for line in (columns, rows))
    rng = np.random.default_rng(1)
    area, ratio = np.transpose([reference_sample(rng, 150, 200, (0.2, 0.6)) for _ in range(5000)])
    assert stats.ks_2samp(h * w / (150 * 200), area).pvalue > 1e-3
    assert stats.ks_2samp(np.log(w / h), np.log(ratio)).pvalue > 1e-3
    # The middle pixels' rows are those of the crop: uniform between the first and the last crop that fits.
    assert stats.kstest((rows.mean(axis=1) + 0.5 - h / 2) / np.maximum(150 - h, 1), "uniform").pvalue > 1e-4


def test_evaluation_takes_the_middle_square():
    assert Crop(64, training=False).box(np, 375.0, 500.0, np.ones(5)) == (0, 62, 375, 375)
    assert Crop(64, training=False).box(np, 500.0, 375.0, np.ones(5)) == (62, 0, 375, 375)


def test_evaluation_takes_the_largest_crop_of_the_results_ratio():
    wide = Crop((32, 64), training=False)
    assert wide.box(np, 375.0, 500.0, np.ones(5)) == (62, 0, 250, 500)
    assert wide.box(np, 100.0, 500.0, np.ones(5)) == (0, 150, 100, 200)
    assert Crop((64, 32), training=False).box(np, 375.0, 500.0, np.ones(5)) == (0, 156, 375, 188)


def test_crops_for_a_rectangle_are_as_much_distorted_as_those_for_a_square():
    draws = np.random.default_rng(0).random((NUM_DRAWS, 5000))
    square, wide = Crop(64, area_range=(0.1, 0.2)), Crop((64, 128), area_range=(0.1, 0.2))
    _, _, height, width = square.box(np, 1000.0, 1000.0, draws)
    _, _, wide_height, wide_width = wide.box(np, 1000.0, 2000.0, draws)
    np.testing.assert_allclose(wide_width / wide_height, 2 * width / height, rtol=0.02)
    np.testing.assert_allclose(wide_width * wide_height, 2 * width * height, rtol=0.02)
    _, _, height, width = wide.box(np, 500.0, 375.0, draws)
    assert np.all(width <= 375) and np.all(height <= 500)


def test_wrong_arguments_are_named():
    for image_size in (0, (8, 8, 8), (8, 0), (8.0, 8), (8,)):
        message = f"pair (height, width) of them; data readers have two space axes. Received: image_size={image_size}"
        with pytest.raises(ValueError, match=re.escape(message)):
            Crop(image_size)
    with pytest.raises(ValueError, match=r"area_range=\(0.9, 0.8\)"):
        Crop(8, area_range=(0.9, 0.8))
    with pytest.raises(ValueError, match="channels=2"):
        Crop(8, channels=2)
