"""Telling weights, labels and settings apart by a short string."""

import hashlib

import numpy as np

from keras_umd.backend.processes import to_numpy


def fingerprint(values):
    """A hash over the bytes of arrays, tensors or variables.

    Args:
        values: List of them.

    Returns:
        String of 64 hexadecimal digits.
    """
    digest = hashlib.sha256()
    for value in values:
        digest.update(np.ascontiguousarray(to_numpy(value)).view("uint8").data)
    return digest.hexdigest()


def as_json(value):
    """The `default` of `json.dumps`: settings objects, as views, by class and settings; arrays as lists."""
    is_object = hasattr(value, "get_config")
    return {"class": type(value).__name__, **value.get_config()} if is_object else np.asarray(value).tolist()
