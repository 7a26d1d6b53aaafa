"""A check of arguments that all parts of the package share."""

import numpy as np


def check_positive_integers(**values):
    """Raise a ValueError that names the first argument that is no integer of at least 1."""
    for name, value in values.items():
        if not isinstance(value, (int, np.integer)) or value < 1:
            raise ValueError(f"`{name}` must be a positive integer. Received: {name}={value}")
