"""The comparison of methods runs a few steps of some settings, goes on where it was stopped, and prints its table."""

import json

import numpy as np
import pytest

pytestmark = [pytest.mark.system, pytest.mark.docs, pytest.mark.slow]
QUICK = "--data tiny.npz --petaflops 1e-7 --patch-size 4 --hidden-dim 32 --num-layers 1 --batch-size 8 --results rows"


def test_settings_are_run_once_with_equal_flops(run_example, tmp_path):
    rng = np.random.default_rng(0)
    arrays = {f"x_{part}": rng.integers(0, 256, (40, 8, 8, 1)).astype("uint8") for part in ("train", "test")}
    np.savez(tmp_path / "tiny.npz", **arrays, y_train=np.arange(40) % 2, y_test=np.arange(40) % 2)
    quick = QUICK.split()
    printed = run_example("compare_methods.py", *quick, "--settings", "mae", "dit", "MAE, HOG", "raw pixels")
    assert "dit, seed 0" in printed and "| raw pixels | 1 |" in printed
    rows = {path.stem: json.loads(path.read_text()) for path in (tmp_path / "rows").glob("*.json")}
    assert sorted(rows) == ["dit-seed0", "mae-hog-seed0", "mae-seed0", "raw-pixels-seed0"]
    names = {"few-shot, class token", "ridge accuracy, mean of the patches", "20-NN accuracy, class token", "cards"}
    assert all(names <= set(row) for row in rows.values())
    spent = [8 * rows[name]["steps"] * rows[name]["megaflops_per_image"] for name in ("dit-seed0", "mae-seed0")]
    np.testing.assert_allclose(spent, 100, rtol=0.08)
    assert (
        "error" in rows["mae-seed0"]
        and "error" not in rows["mae-hog-seed0"]
        and "steps" not in rows["raw-pixels-seed0"]
    )
    assert (tmp_path / "rows" / "mae-seed0.png").exists()

    assert "seed 0" not in run_example("compare_methods.py", *quick, "--settings", "mae", "dit")
    assert "dit, seed 1" in run_example("compare_methods.py", *quick, "--settings", "dit", "--seeds", "0", "1")
    with pytest.raises(SystemExit, match=r"no setting \['videomae'\]"):
        run_example("compare_methods.py", *quick, "--settings", "videomae")
