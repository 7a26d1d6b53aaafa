"""The house: who may import whom, which words belong where, and which names are public (docs/architecture.md)."""

import ast
import collections
import importlib
import pathlib

import pytest

import keras_umd

pytestmark = pytest.mark.host
ROOT = pathlib.Path(keras_umd.__file__).parent
TREES = {path.relative_to(ROOT): ast.parse(path.read_text()) for path in sorted(ROOT.rglob("*.py"))}
# What a folder may import beside itself and what those import; each line rests on those above.
RESTS_ON = {
    "backend": [],
    "utils": ["backend"],
    "layers": ["utils"],
    "corruption": ["layers"],
    "objectives": ["corruption"],
    "sampling": ["layers"],
    "distribution": ["utils"],
    "models": ["objectives", "sampling", "distribution"],
    "methods": ["models"],
    "weights": ["methods"],
    "plots": ["utils"],
    "planning": ["corruption"],
    "training": ["plots", "planning", "models"],
    "data": ["utils"],
    "latents": ["data", "sampling"],
    "evaluation": ["data", "models", "training"],
    "commands": ["latents", "evaluation", "methods", "weights"],
}
VIEWS_AND_TARGETS = {"clean", "noisy", "x0", "eps"}


def imported_by(tree):
    """The folders of the package that a file imports, also inside of functions."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        yield from (name.split(".")[1] for name in names if name.startswith("keras_umd."))


def allowed(folder):
    below = set().union(*map(allowed, RESTS_ON[folder]))
    return {folder, *below}


def test_no_import_runs_up():
    for path, tree in TREES.items():
        if len(path.parts) > 1:
            folders = {name for name in imported_by(tree) if (ROOT / name).is_dir()}
            assert folders <= allowed(path.parts[0]), path


def test_the_order_is_one():
    above = []
    for folder, below in RESTS_ON.items():
        assert set(below) <= set(above), folder
        above.append(folder)
    assert "models" not in allowed("sampling")


def test_the_root_holds_folders():
    assert {path.name for path in ROOT.glob("*.py")} <= {"__init__.py", "cli.py"}
    assert {path.parts[0] for path in TREES if len(path.parts) > 1} == set(RESTS_ON)


def test_views_and_targets_are_named_in_three_folders_only():
    """A view or a target with another name must work everywhere else."""
    of_pillow = pathlib.Path("evaluation/resize.py")  # has a "clean" of its own, that of clean-fid
    for path, tree in TREES.items():
        if path.parts[0] not in ("corruption", "objectives", "methods") and path != of_pillow:
            words = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)} & VIEWS_AND_TARGETS
            assert not words, path


def test_only_backend_asks_which_backend_it_is():
    for path, tree in TREES.items():
        if path.parts[0] != "backend":
            calls = [ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)]
            assert not {"keras.backend.backend", "keras.config.backend"} & set(calls), path


FOLDERS = [folder for folder in RESTS_ON if folder not in ("backend", "utils", "training")]


def test_public_names_exist_and_others_stay_out_of_sight():
    for module in (keras_umd, *(importlib.import_module(f"keras_umd.{folder}") for folder in FOLDERS)):
        for name in module.__all__:
            assert hasattr(module, name), (module, name)
        assert len(set(module.__all__)) == len(module.__all__)
    shown = dir(keras_umd)
    assert set(keras_umd.__all__) <= set(shown)
    assert not {"sys", "utils", "backend", "models", "training"} & {*shown}
    assert all(not name.startswith("_") or name == "__version__" for name in shown)


@pytest.mark.parametrize(
    ("module", "name"),
    [("callbacks", "Monitor"), ("samplers", "DDIM"), ("guidance", "Interval"), ("recipes", "pretraining_optimizer")],
)
def test_modules_that_lie_in_a_folder_are_imported_from_the_root(module, name):
    imported = importlib.import_module(f"keras_umd.{module}")
    assert imported is getattr(keras_umd, module)
    assert name in imported.__all__ and hasattr(imported, name)


def test_settings_show_what_they_are_set_to():
    from keras_umd import Corruption, NoiseSchedule, guidance, samplers

    assert repr(samplers.DDIM(0.5)) == "DDIM(eta=0.5, timesteps='uniform')"
    assert repr(samplers.Heun()) == "Heun(timesteps='karras')"
    assert repr(guidance.Interval(4, 0.2, 3.0)) == "Interval(scale=4.0, low=0.2, high=3.0)"
    corruption = repr(Corruption(schedule="linear", num_timesteps=50))
    assert corruption.startswith("Corruption(schedule=Linear(num_timesteps=50), views=[View(name='clean', ")
    assert "mask=Random(ratio=0.75), share=0.5" in corruption and "noise=Gaussian(levels=Uniform())" in corruption
    assert repr(NoiseSchedule.from_betas([0.1, 0.2])) == "VariancePreserving(num_timesteps=2)"


def test_no_two_classes_are_registered_under_one_name():
    """Or files of one would be read as the other."""
    names = [
        (decorator.args[0].value, *(keyword.value.value for keyword in decorator.keywords), node.name)[:2]
        for tree in TREES.values()
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef)
        for decorator in node.decorator_list
        if isinstance(decorator, ast.Call) and getattr(decorator.func, "attr", "") == "register_keras_serializable"
    ]
    assert len(names) > 100
    assert not [name for name, count in collections.Counter(names).items() if count > 1]
