"""The README's code runs as it stands."""

import pathlib
import re
import subprocess
import sys

import pytest

README = pathlib.Path(__file__).parents[2] / "README.md"


@pytest.mark.system
@pytest.mark.slow
def test_the_readmes_python_blocks_run_one_after_the_other(tmp_path):
    pytest.importorskip("matplotlib")
    code = "\n".join(re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL))
    finished = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert finished.returncode == 0, finished.stderr
    for name in ("filled_in.png", "from_noise.png", "samples/samples_100x32x32x3.npz"):
        assert (tmp_path / name).stat().st_size > 0
