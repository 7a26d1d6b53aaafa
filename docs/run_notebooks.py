"""Runs the notebooks in `notebooks/` and writes them as pages of the site, with their pictures.

`python docs/run_notebooks.py [NAME ...]` writes docs/notebooks/NAME.md and its PNG files. The scripts are in jupytext's
percent format: `jupytext --to ipynb notebooks/NAME.py` makes a notebook of one.
"""

import argparse
import ast
import contextlib
import io
import os
import pathlib
import re
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[1]
NOTEBOOKS = ROOT / "notebooks"
PAGES = ROOT / "docs" / "notebooks"


def cells(text):
    """The cells of a script, pairs of `"markdown"` or `"code"` and their text."""
    found = []
    for part in re.split(r"^# %%", text, flags=re.MULTILINE)[1:]:
        heading, _, body = part.partition("\n")
        is_markdown = heading.strip() == "[markdown]"
        lines = [re.sub(r"^# ?", "", line) for line in body.splitlines()] if is_markdown else body.splitlines()
        found.append(("markdown" if is_markdown else "code", "\n".join(lines).strip("\n")))
    return found


def run(path):
    """Run a notebook in an empty folder. Yields the kind and the text of each cell, and what it shows.

    What is shown is a list of strings, which were printed, and of bytes, PNG files.
    """
    names = {"__name__": "__main__"}
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        for kind, text in cells(path.read_text()):
            yield kind, text, _run_cell(text, names, path.name) if kind == "code" else []


def _run_cell(text, names, filename):
    """Run a cell as a notebook does: what its last line gives is shown."""
    tree = ast.parse(text, filename)
    last = ast.Expression(tree.body.pop().value) if tree.body and isinstance(tree.body[-1], ast.Expr) else None
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(tree, filename, "exec"), names)
        value = None if last is None else eval(compile(last, filename, "eval"), names)
    shown = [printed.getvalue().rstrip()] if printed.getvalue().strip() else []
    if value is not None:
        png = value._repr_png_() if hasattr(value, "_repr_png_") else None
        shown.append(png or repr(value))
    return shown


def page(path, outputs=None):
    """The page of a notebook, as Markdown, and its pictures: a dictionary from names to PNG files.

    Args:
        path: Path of the script.
        outputs: What `run` gives. Without it, the page has text and code alone.
    """
    outputs = [(*cell, []) for cell in cells(path.read_text())] if outputs is None else outputs
    blocks, pictures = [], {}
    for kind, text, shown in outputs:
        blocks.append(text if kind == "markdown" else f"```python\n{text}\n```")
        for value in shown:
            if isinstance(value, bytes):
                name = f"{path.stem}_{len(pictures) + 1}.png"
                pictures[name] = value
                blocks.append(f"![What the cell above shows]({name})")
            else:
                blocks.append(f"```text\n{value}\n```")
    source = f"*Made from [notebooks/{path.name}](../notebooks.md), which runs as it stands.*"
    return "\n\n".join([blocks[0], source, *blocks[1:]]) + "\n", pictures


def write(path):
    text, pictures = page(path, list(run(path)))
    PAGES.mkdir(exist_ok=True)
    for old in PAGES.glob(f"{path.stem}_*.png"):
        old.unlink()
    (PAGES / f"{path.stem}.md").write_text(text)
    for name, png in pictures.items():
        (PAGES / name).write_bytes(png)
    return sum(map(len, pictures.values()))


if __name__ == "__main__":
    os.environ.setdefault("KERAS_BACKEND", "torch")
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", default=sorted(path.stem for path in NOTEBOOKS.glob("*.py")))
    for name in parser.parse_args().names:
        print(f"{name}: {write(NOTEBOOKS / f'{name}.py') / 1000:.0f} KB of pictures")
