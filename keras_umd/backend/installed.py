"""What to install, where the framework that Keras is set to isn't there. Imports nothing beyond Python."""

import importlib.util

FRAMEWORKS = ("jax", "tensorflow", "torch")


def missing_backend(error):
    """The error to raise in place of Keras', which names a module and not the way out.

    Args:
        error: ModuleNotFoundError, of the import of Keras.

    Returns:
        ImportError that says which extra to install, or which installed backend to choose; or `error` itself, if
        what is missing isn't a backend.
    """
    wanted = error.name
    if wanted not in FRAMEWORKS:
        return error
    installed = [name for name in FRAMEWORKS if name != wanted and importlib.util.find_spec(name)]
    if installed:
        message = (
            f"Keras is set to the backend {wanted!r}, which isn't installed. Set the environment variable "
            f"KERAS_BACKEND to {' or '.join(map(repr, installed))}, which is, before Keras is imported for the first "
            f"time; or install the other: pip install 'keras-umd[{wanted}]'"
        )
    else:
        message = (
            "keras_umd needs a backend of Keras, and none is installed. Take one of these: "
            "pip install 'keras-umd[jax]', pip install 'keras-umd[tensorflow]', pip install 'keras-umd[torch]'. "
            "Then set the environment variable KERAS_BACKEND to 'jax', 'tensorflow' or 'torch'."
        )
    return ImportError(message, name=wanted)
