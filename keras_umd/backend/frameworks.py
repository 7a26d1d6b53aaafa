"""The framework behind Keras as a module, `jax`, `tf` or `torch`; the other two are `None`."""

import importlib

import keras

BACKEND = keras.backend.backend()
jax, tf, torch = (importlib.import_module(name) if name == BACKEND else None for name in ("jax", "tensorflow", "torch"))
