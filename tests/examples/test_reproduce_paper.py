"""The comparison runs as a user runs it, goes on where it was stopped, and reports what it found."""

import gzip
import json

import numpy as np
import pytest

pytestmark = [pytest.mark.system, pytest.mark.docs, pytest.mark.slow]
QUICK = "--data idx --output run --hidden-dim 16 --num-heads 2 --num-layers 1 --pretraining-epochs 1 --num-steps 2"
QUICK += " --num-images 24 --shots 2 4 --classifier-epochs 1 --methods UMD DiT --seeds 2"
QUICK = QUICK.split() + ["--ablations", "x_0 loss only"]


@pytest.fixture
def folder(tmp_path):
    """A folder with a data set of 200 and 50 images, in the files of Fashion-MNIST."""
    pytest.importorskip("matplotlib")
    (tmp_path / "idx").mkdir()
    for part, count in (("train", 200), ("t10k", 50)):
        labels = np.arange(count) % 10
        images = np.random.default_rng(0).integers(0, 100, (count, 28, 28)) + 15 * labels[:, None, None]
        for name, values in (("images-idx3", images), ("labels-idx1", labels)):
            with gzip.open(tmp_path / "idx" / f"{part}-{name}-ubyte.gz", "wb") as file:
                header = bytes([0, 0, 8, values.ndim]) + np.array(values.shape, ">u4").tobytes()
                file.write(header + values.astype("uint8").tobytes())
    return tmp_path


def test_it_compares_goes_on_and_reports(folder, run_example):
    first = run_example("reproduce_paper.py", *QUICK)
    assert "200 images of 28x28x1 to train, 50 to test" in first and "minutes left" in first
    report = folder / "run" / "report"
    cards = json.loads((report / "cards.json").read_text())
    tables = (report / "tables.md").read_text()

    # Every number of the report is a mean of what the runs left, and has its card.
    found = {(card["of"], card["metric"]): card for card in cards if card["metric"] != "frechet_distance"}
    files = [folder / "run" / "umd" / f"seed{seed}" / "probes.json" for seed in (0, 1)]
    rows = [row for file in files for row in json.loads(file.read_text())]
    values = [row["4-shot accuracy"]["value"] for row in rows if row["pooling"] == "mean"]
    card = found["UMD", "4-shot accuracy"]
    assert card["value"] == pytest.approx(np.mean(values)) and card["deviation"] == pytest.approx(
        np.std(values, ddof=1)
    )
    assert f"{card['value']:.3f} +- {card['deviation']:.2g}" in tables
    assert {"UMD", "DiT", "x_0 loss only", "random encoder", "raw pixels"} == {card["of"] for card in cards}
    assert "UMD > DiT" in tables and "`python" in tables
    # What was not trained is not read.
    (alone,) = (folder / "run" / "x_0_loss_only").glob("seed*/samples.json")
    assert {row["head"] for row in json.loads(alone.read_text())} == {"x0"}
    for name in ("accuracy", "distance", "samples", "ablations"):
        assert (report / f"{name}.png").stat().st_size > 0

    # What is there stays, what is missing is made again, the same.
    (folder / "run" / "dit" / "seed1" / "samples.json").unlink()
    (folder / "run" / "dit" / "seed1" / "finetuned.keras").unlink()
    kept = (folder / "run" / "umd" / "seed0" / "pretrained.keras").stat().st_mtime_ns
    second = run_example("reproduce_paper.py", *QUICK)
    assert (folder / "run" / "umd" / "seed0" / "pretrained.keras").stat().st_mtime_ns == kept
    assert second.count("finetuning:") == 1 and second.count("pretraining:") == 0
    again = json.loads((report / "cards.json").read_text())
    for old, new in zip(cards, again, strict=True):
        assert new["value"] == pytest.approx(old["value"], rel=1e-4), old["metric"]

    with pytest.raises(SystemExit, match=r"guidance_scale: 1\.5 there, 3\.0 now"):
        run_example("reproduce_paper.py", *QUICK, "--guidance-scale", "3")

    assert "UMD > DiT" in run_example("paper_report.py", "run")
