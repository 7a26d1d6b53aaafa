"""The example judges a saved model as it stands."""

import json

import pytest

from keras_umd.evaluation import Result

pytestmark = [pytest.mark.system, pytest.mark.docs, pytest.mark.slow]


def test_a_saved_model_gets_tables_cards_and_pictures(small_model, run_example, tmp_path):
    pytest.importorskip("sklearn")
    model = small_model(num_classes=10)
    model.track_average(0.9)
    model.save(tmp_path / "model.keras")
    options = ("--sweep", "--num-images", 30, "--num-steps", 3, "--output", "run")
    printed = run_example("evaluate.py", "--model", "model.keras", *options)
    assert "The best: {'layer': 1" in printed
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
