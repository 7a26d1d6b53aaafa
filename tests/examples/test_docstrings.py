"""The examples in docstrings run, and every public name has one."""

import doctest
import importlib
import re
import types

import keras
import numpy as np
import pytest

import keras_umd
from tests.examples.test_reference import DIRECTIVES, public_modules

OPTIONS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


def documented():
    """What the reference shows, by its full name: a pair of it and of the public module that has it."""
    found = {}
    for module in public_modules():
        for name in module.__all__:
            value = getattr(module, name)
            if callable(value):
                found.setdefault(id(value), (f"{module.__name__}.{name}", value, module))
    for path in sorted(DIRECTIVES):
        module_name, _, name = path.rpartition(".")
        module = importlib.import_module(module_name)
        value = getattr(module, name)
        if isinstance(value, types.FunctionType) and id(value) not in found:
            found[id(value)] = (path, value, module)
    return {name: (value, module) for name, value, module in found.values()}


DOCUMENTED = documented()


class Checker(doctest.OutputChecker):
    """An example that shows no output may have some, as `fit` does."""

    def check_output(self, want, got, flags):
        got = "\n".join(line for line in got.splitlines() if "━" not in line)  # Keras' progress bars
        # A shape is a tuple, whatever the backend calls it.
        got = re.sub(r"(?:torch\.Size|TensorShape)\(\[(\d+)\]\)", r"(\1,)", got)
        got = re.sub(r"(?:torch\.Size|TensorShape)\(\[([\d, ]*)\]\)", r"(\1)", got)
        return not want or super().check_output(want, got, flags)


def names_of_examples():
    """What examples may use beside `keras_umd`: a small model that is like a trained one, images, labels, folders."""
    keras.utils.set_random_seed(0)
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 256, (24, 8, 8, 1)).astype("uint8"), np.arange(24) % 3
    sizes = {"hidden_dim": 32, "num_layers": 2, "num_heads": 2, "decoder_layers": 1}
    model = keras_umd.UMD((8, 8, 1), 2, **sizes, num_classes=3, conditioning="token", seed=0)
    model.compile("adamw")
    features = rng.normal(size=(60, 16)).astype("float32")
    features[:, :3] += 3 * np.eye(3)[np.arange(60) % 3]
    public = {
        name: getattr(module, name)
        for module in public_modules()
        for name in module.__all__
        if not (module.__name__ == "keras_umd.methods" and name == "list")
    }
    return {
        **public,
        "keras": keras,
        "keras_umd": keras_umd,
        "np": np,
        "ops": keras.ops,
        "images": images,
        "labels": labels,
        "model": model,
        "features": features,
        "feature_labels": np.arange(60) % 3,
        "train": (images[:18], labels[:18]),
        "test": (images[18:], labels[18:]),
    }


@pytest.mark.host
def test_every_public_name_has_an_example():
    lacking = [name for name, (value, _) in DOCUMENTED.items() if ">>>" not in (value.__doc__ or "")]
    assert len(DOCUMENTED) > 200
    assert not lacking, "an example, a line that begins with `>>>`, is missing in their docstrings"


@pytest.mark.docs
@pytest.mark.system
@pytest.mark.parametrize("name", DOCUMENTED)
def test_examples_run(name, tmp_path, monkeypatch):
    value, module = DOCUMENTED[name]
    monkeypatch.chdir(tmp_path)
    for i in range(6):
        keras_umd.plots.save_image(f"photos/{('cat', 'dog')[i % 2]}/{i}.png", np.full((12, 10, 3), 40 * i, "uint8"))
    own = {name: getattr(module, name) for name in getattr(module, "__all__", [value.__name__])}
    own.pop("list", None)
    examples = doctest.DocTestParser().get_doctest(value.__doc__ or "", {**names_of_examples(), **own}, name, None, 0)
    problems = []
    runner = doctest.DocTestRunner(Checker(), verbose=False, optionflags=OPTIONS)
    assert runner.run(examples, out=problems.append).failed == 0, "".join(problems)
