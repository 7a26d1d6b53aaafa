"""Packages that only some functions need."""

import importlib


def import_optional(module, needed):
    """Import a module of an extra.

    Args:
        module: String, its full name.
        needed: String, the message where it isn't installed: what needs it, and the command that installs it.

    Raises:
        ImportError: if it isn't installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ImportError(needed) from error
