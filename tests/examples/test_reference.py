"""Every public name stands in the reference of the site."""

import importlib
import pathlib
import pkgutil
import re
import types

import keras
import pytest

import keras_umd
from tests.test_architecture import FOLDERS

pytestmark = pytest.mark.host
ROOT = pathlib.Path(__file__).parents[2]
DIRECTIVES = {
    path
    for page in (ROOT / "docs" / "reference").glob("*.md")
    for path in re.findall(r"^::: (\S+)$", page.read_text(), re.MULTILINE)
}


def public_modules():
    """The package, its public folders, and the modules among their public names."""
    todo = [keras_umd, *(importlib.import_module(f"keras_umd.{folder}") for folder in FOLDERS)]
    found = {}
    while todo:
        module = todo.pop()
        if module.__name__ not in found and hasattr(module, "__all__"):
            found[module.__name__] = module
            values = [getattr(module, name) for name in module.__all__]
            todo += [value for value in values if isinstance(value, types.ModuleType)]
    return found.values()


def test_every_public_name_has_its_place_in_the_reference():
    resolved = [pkgutil.resolve_name(path) for path in DIRECTIVES]
    shown = {id(value) for value in resolved if not isinstance(value, types.ModuleType)}
    for module in (value for value in resolved if isinstance(value, types.ModuleType)):
        shown |= {id(getattr(module, name)) for name in module.__all__}
    missing = [
        f"{module.__name__}.{name}"
        for module in public_modules()
        for name in module.__all__
        if not isinstance(getattr(module, name), types.ModuleType) and id(getattr(module, name)) not in shown
    ]
    assert not missing, "a line `::: module.name` in docs/reference is missing"
    assert len(shown) > 100


def test_methods_of_the_model_from_other_files_have_their_place():
    own = {name: value for name, value in vars(keras_umd.UMD).items() if not hasattr(keras.Model, name)}
    functions = {name: value for name, value in own.items() if isinstance(value, types.FunctionType)}
    elsewhere = {
        f"{function.__module__}.{name}"
        for name, function in functions.items()
        if not name.startswith("_") and function.__module__ != keras_umd.UMD.__module__
    } - {"keras_umd.sampling.files.generate_to"}
    assert "keras_umd.sampling.generation.generate" in elsewhere
    assert elsewhere <= DIRECTIVES, elsewhere - DIRECTIVES
