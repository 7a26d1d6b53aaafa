"""Methods and notebooks have pages, which say what the code says."""

import importlib.util
import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).parents[2]
NAV = (ROOT / "mkdocs.yml").read_text()


def tool(name):
    """A script of docs/ as a module."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "docs" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


PAGES, NOTEBOOKS = tool("write_methods"), tool("run_notebooks")
METHODS = {method.name: method for method in PAGES.listed()}
SCRIPTS = {path.stem: path for path in sorted(NOTEBOOKS.NOTEBOOKS.glob("*.py"))}


@pytest.mark.host
@pytest.mark.parametrize("name", METHODS)
def test_a_method_has_a_page_that_says_what_the_code_says(name):
    method = METHODS[name]
    path = PAGES.page_of(method)
    assert path.exists(), "run `python docs/write_methods.py`, and write what the page should say above its end"
    text = path.read_text()
    assert PAGES.block(method) in text, "run `python docs/write_methods.py`"
    assert f"methods/{name}.md" in NAV, "mkdocs.yml lists no page of it"
    if PAGES.has_masks(method):
        assert (path.parent / f"{name}_masks.png").stat().st_size < 100_000


@pytest.mark.host
def test_text_that_is_written_by_hand_stays():
    method = METHODS["umd"]
    text = PAGES.page_of(method).read_text()
    assert PAGES.with_block(text, method) == text
    assert PAGES.with_block("# New\n", method) == f"# New\n\n{PAGES.block(method)}\n"


@pytest.mark.host
@pytest.mark.parametrize("name", SCRIPTS)
def test_the_page_of_a_notebook_has_its_text_and_code(name):
    shown = (NOTEBOOKS.PAGES / f"{name}.md").read_text()
    assert f"notebooks/{name}.md" in NAV and f"notebooks/{name}.md" in (ROOT / "docs" / "notebooks.md").read_text()
    for kind, text in NOTEBOOKS.cells(SCRIPTS[name].read_text()):
        assert (text if kind == "markdown" else f"```python\n{text}\n```") in shown, (
            f"run `python docs/run_notebooks.py {name}`, and look at its pictures"
        )
    pictures = re.findall(rf"\(({name}_\d+\.png)\)", shown)
    assert all((NOTEBOOKS.PAGES / picture).stat().st_size < 100_000 for picture in pictures)


@pytest.mark.docs
@pytest.mark.system
@pytest.mark.slow
@pytest.mark.parametrize("name", SCRIPTS)
def test_a_notebook_runs_and_shows_pictures(name):
    pytest.importorskip("sklearn")
    pytest.importorskip("matplotlib")
    pictures = [x for *_, shown in NOTEBOOKS.run(SCRIPTS[name]) for x in shown if isinstance(x, bytes)]
    assert len(pictures) > 2 and max(map(len, pictures)) < 100_000
