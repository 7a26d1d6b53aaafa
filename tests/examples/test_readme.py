"""The code in README and docs runs as it stands."""

import pathlib
import re
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[2]
FILES_OF = {
    ("README.md", "docs/benchmarks.md"): (
        "filled_in.png",
        "from_noise.png",
        "samples/samples_20x32x32x3.npz",
        "runs/photos/progress.png",
    ),
    ("docs/architecture.md",): ("mine.keras",),
    ("docs/weights.md",): ("runs/my_digits/README.md", "runs/my_encoder/weights.safetensors", "runs/theirs.npz"),
    (
        "docs/package.md",
        "docs/start/install.md",
        "docs/start/five_minutes.md",
        "docs/concepts.md",
        "docs/guides/pretrain.md",
        "docs/guides/features.md",
        "docs/guides/generate.md",
    ): ("discs.keras", "filled_in.png", "runs/photos/progress.png", "way.png", "samples/samples_8x8x8x1.npz"),
    (
        "docs/guides/other_data.md",
        "docs/guides/latents.md",
        "docs/guides/layers.md",
        "docs/guides/move_here.md",
        "docs/methods/diffmae.md",
        "docs/methods/overview.md",
        "docs/methods/usp.md",
    ): (),
    (
        "docs/guides/finetune.md",
        "docs/guides/evaluate.md",
        "docs/guides/resume.md",
        "docs/guides/your_own_parts.md",
    ): ("card.json", "runs/resumed/run.json", "runs/checkered/progress.png", "masks.png"),
}


@pytest.mark.docs
@pytest.mark.system
@pytest.mark.slow
@pytest.mark.parametrize("documents", FILES_OF, ids=lambda names: names[-1])
def test_the_python_blocks_of_documents_run_one_after_the_other(tmp_path, documents):
    pytest.importorskip("matplotlib")
    text = "\n".join((ROOT / document).read_text() for document in documents)
    code = "\n".join(re.findall(r"```python\n(.*?)```", text, re.DOTALL))
    finished = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert finished.returncode == 0, finished.stderr
    for name in FILES_OF[documents]:
        assert (tmp_path / name).stat().st_size > 0


@pytest.mark.host
def test_every_page_with_code_for_a_beginner_is_run():
    pages = [*ROOT.glob("docs/start/*.md"), *ROOT.glob("docs/guides/*.md"), *ROOT.glob("docs/methods/*.md")]
    with_code = {str(page.relative_to(ROOT)) for page in pages if "```python" in page.read_text()}
    assert len(with_code) > 9
    assert with_code <= {name for names in FILES_OF for name in names}
