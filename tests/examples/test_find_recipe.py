"""The search for a recipe runs a few steps of some settings, goes on where it was stopped, and prints its table."""

import json

import numpy as np
import pytest

pytestmark = [pytest.mark.system, pytest.mark.docs, pytest.mark.slow]
QUICK = "--data tiny --image-size 8 --teraflops 0.02 --num-images 12 --classifier-epochs 1 --results rows --work w"


def test_settings_are_run_once_and_the_best_are_run_again(run_example, tmp_path):
    image = pytest.importorskip("matplotlib.image")
    rng = np.random.default_rng(0)
    for part, count in (("train", 12), ("test", 4)):
        for name in ("cats", "dogs", "fish"):
            (tmp_path / "tiny" / part / name).mkdir(parents=True)
            for i in range(count):
                path = tmp_path / "tiny" / part / name / f"{i}.png"
                image.imsave(path, rng.integers(0, 256, (8, 8, 3)).astype("uint8"))
    quick = QUICK.split()
    printed = run_example("find_recipe.py", *quick, "--settings", "one x_0 head", "MAE")
    assert "tiny: one x_0 head, seed 0" in printed and "| tiny | 0.02 | MAE | 1 |" in printed
    rows = {path.name: json.loads(path.read_text()) for path in (tmp_path / "rows").glob("*.json")}
    assert sorted(rows) == ["tiny-mae-0.02tflops-seed0.json", "tiny-one-x-0-head-0.02tflops-seed0.json"]
    row = rows["tiny-one-x-0-head-0.02tflops-seed0.json"]
    names = {"steps", "cpu_seconds", "losses", "label_agreement", "frechet_distance", "precision", "recall", "real"}
    names |= {"date", "device", "versions", "10-shot accuracy", "pixels: 20-NN accuracy"}
    assert names <= set(row)
    assert row["classes"] == ["cats", "dogs", "fish"]
    teraflops = row["steps"] * 32 * row["gigaflops_per_image"] / 1000  # an epoch is a batch of 32 of the 36 images
    assert row["steps"] > 1 and abs(teraflops / 0.02 - 1) < 0.1
    assert "label_agreement" not in rows["tiny-mae-0.02tflops-seed0.json"]  # it makes no images
    assert all(path.with_suffix(".png").exists() for path in (tmp_path / "rows").glob("*.json"))

    # Round 2: the best of those that make images, and the paper's; what is there stays.
    printed = run_example("find_recipe.py", *quick, "--round", "2", "--seeds", "0")
    assert "tiny: UMD, seed 0" in printed and "tiny: one x_0 head" not in printed
    printed = run_example("find_recipe.py", *quick, "--table")
    assert "seed 0" not in printed and printed.count("| tiny |") == 3
