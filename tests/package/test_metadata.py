"""What the package says of itself. `make package` builds, installs and tries it."""

import pathlib
import re
import tomllib

import pytest

import keras_umd

pytestmark = pytest.mark.host
ROOT = pathlib.Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def test_the_version_is_written_in_one_place():
    assert PROJECT["project"]["dynamic"] == ["version"]
    assert PROJECT["tool"]["setuptools"]["dynamic"]["version"] == {"attr": "keras_umd.__version__"}
    assert re.fullmatch(r"\d+\.\d+\.\d+", keras_umd.__version__)
    assert keras_umd.__version__ not in (ROOT / "pyproject.toml").read_text()
    assert keras_umd.__version__ not in (ROOT / "CITATION.cff").read_text()


def test_the_description_of_the_package_needs_no_repository():
    text = (ROOT / PROJECT["project"]["readme"]).read_text()
    assert not re.findall(r"\]\((?!https?://)[^)]*\)", text)


def test_the_package_has_type_hints_and_its_licence():
    assert (ROOT / "keras_umd" / "py.typed").exists()
    assert PROJECT["project"]["license"] == "Apache-2.0"
    assert "Apache License" in (ROOT / "LICENSE").read_text()


def test_extras_that_errors_and_documents_name_exist():
    extras = PROJECT["project"]["optional-dependencies"]
    places = [*(ROOT / "keras_umd").rglob("*.py"), *ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
    named = {
        name.strip()
        for path in places
        for names in re.findall(r"keras-umd\[([a-z, ]+)\]", path.read_text())
        for name in names.split(",")
    }
    assert {"jax", "tensorflow", "torch"} <= named <= set(extras)


def test_what_make_installs_is_pinned():
    pinned = {re.split("[=<>]", line)[0] for line in (ROOT / "constraints.txt").read_text().splitlines()[1:]}
    extras = PROJECT["project"]["optional-dependencies"]
    installed = {re.split(r"[=<>\[]", name)[0] for group in extras.values() for name in group}
    assert installed <= pinned, installed - pinned
