"""The backend, chosen before Keras is imported."""

import importlib.util
import os
import sys

from keras_umd_cli import quiet
from keras_umd_cli.options import UsageError

PACKAGES = ("jax", "torch", "tensorflow")  # in the order of preference


def choose(wanted=None):
    """Set `KERAS_BACKEND`, and say which backend it is.

    Args:
        wanted: String, of `--backend`, or `None` for `KERAS_BACKEND` and, where that is unset, the first installed.

    Returns:
        String, a line for the user.

    Raises:
        UsageError: for a backend that isn't installed, and without any.
    """
    if "keras" in sys.modules:  # called from Python
        current = sys.modules["keras"].backend.backend()
        if wanted not in (None, current):
            raise UsageError(f"Keras already runs on {current}. Received: --backend {wanted}")
        return f"Backend: {current}"
    installed = [name for name in PACKAGES if importlib.util.find_spec(name)]
    if not installed:
        raise UsageError("Keras needs a backend: pip install 'keras-umd[jax]', or [torch], or [tensorflow]")
    name = wanted or os.environ.get("KERAS_BACKEND") or installed[0]
    if name in PACKAGES and name not in installed:
        raise UsageError(f"The backend {name} isn't installed: pip install 'keras-umd[{name}]'. Installed: {installed}")
    why = "" if wanted or os.environ.get("KERAS_BACKEND") else f" (of {', '.join(installed)}; --backend takes another)"
    os.environ["KERAS_BACKEND"] = name
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    quiet.keep_quiet()
    return f"Backend: {name}{why}"
