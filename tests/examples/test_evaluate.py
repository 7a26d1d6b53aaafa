"""The example judges a saved model as it stands."""

import json
import pathlib
import subprocess
import sys

import pytest

from keras_umd.evaluation import Result

EXAMPLE = pathlib.Path(__file__).parents[2] / "examples" / "evaluate.py"
pytestmark = pytest.mark.system


def test_a_saved_model_gets_tables_cards_and_pictures(small_model, tmp_path):
    pytest.importorskip("sklearn")
    model = small_model(num_classes=10)
    model.track_average(0.9)
    model.save(tmp_path / "model.keras")
    command = [
        sys.executable,
        str(EXAMPLE),
        "--model",
        "model.keras",
        "--sweep",
        "--num-images",
        "30",
        "--output",
        "run",
    ]
    finished = subprocess.run([*command, "--num-steps", "3"], cwd=tmp_path, capture_output=True, text=True)
    assert finished.returncode == 0, finished.stderr
    assert "The best: {'layer': 1" in finished.stdout
    for name in ("features", "representation", "sweep", "generation"):
        rows = json.loads((tmp_path / "run" / f"{name}.json").read_text())
        assert rows and (tmp_path / "run" / f"{name}.md").read_text().startswith("| ")
    assert [row["features"] for row in json.loads((tmp_path / "run" / "representation.json").read_text())] == [
        "the paper's, class token",
        "the best",
        "raw pixels",
    ]
    generated, held_out = (
        Result(**row["frechet_distance"]) for row in json.loads((tmp_path / "run" / "generation.json").read_text())
    )
    assert generated.subject["num_images"] == 30 and generated.value > held_out.value
    assert generated.subject["options"]["num_steps"] in (3, 10, 20)
    for name in ("features", "sweep", "samples", "reconstructions"):
        assert (tmp_path / "run" / f"{name}.png").stat().st_size > 1000
