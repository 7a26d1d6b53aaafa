"""What README and docs name and link exists."""

import ast
import pathlib
import re
import runpy

import pytest

ROOT = pathlib.Path(__file__).parents[2]
DOCUMENTS = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]


@pytest.mark.host
@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_and_pictures_of_a_document_exist(document):
    links = [link for link in re.findall(r"\]\(([^)]+)\)", document.read_text()) if "://" not in link]
    assert all((document.parent / link.split("#")[0]).exists() for link in links), links


@pytest.mark.host
def test_readme_names_tests_that_exist():
    paths = re.findall(r"`(tests/[^`]+)`", (ROOT / "README.md").read_text())
    assert len(paths) > 10
    assert not [path for path in paths if not list(ROOT.glob(path))]


@pytest.mark.host
def test_the_stations_of_the_architecture_exist():
    stations = re.findall(r"`(\w[\w/]*\.py): (\w+)`", (ROOT / "docs" / "architecture.md").read_text())
    assert len(stations) >= 24
    for path, name in stations:
        tree = ast.parse((ROOT / "keras_umd" / path).read_text())
        assert name in {node.name for node in ast.walk(tree) if hasattr(node, "name")}, path


@pytest.mark.host
def test_folders_import_only_what_the_drawing_of_the_architecture_allows():
    pytest.importorskip("matplotlib")
    columns = runpy.run_path(str(ROOT / "docs" / "draw_architecture.py"))["FOLDERS"]
    package = ROOT / "keras_umd"
    assert {name for column in columns for name in column} == {
        path.parent.name for path in package.glob("*/__init__.py")
    }
    allowed = {name: {name, *sum(columns[:i], [])} for i, column in enumerate(columns) for name in column}
    allowed["utils"].add("backend")
    for name, names in allowed.items():
        for path in (package / name).rglob("*.py"):
            assert _imported_folders(path) <= names, path


def _imported_folders(path):
    folders = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module == "keras_umd":
            folders |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("keras_umd."):
            folders.add(node.module.split(".")[1])
    return folders
