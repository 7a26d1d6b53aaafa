"""Run a layer the ways users run it."""

import keras
import numpy as np

from tests.conftest import array, in_one_program


def check_layer(make, *inputs, outputs_deterministic=True):
    """A layer alone: any batch size, a functional model, saved and loaded, and in each precision.

    Args:
        make: callable, `make(**kwargs)` returns a fresh layer.
        *inputs: NumPy arrays, the call arguments.

    Returns:
        The layer and its outputs for `inputs`.
    """
    keras.utils.set_random_seed(0)
    layer = make()
    outputs = layer(*inputs)
    rebuilt = type(layer).from_config(layer.get_config())
    assert rebuilt.get_config() == layer.get_config()

    check_output_shape(layer, inputs, outputs)
    symbolic = [keras.Input(x.shape[1:], dtype=str(x.dtype)) for x in inputs]
    model = keras.Model(symbolic, layer(*symbolic))
    for size in (len(inputs[0]), 1):
        predicted = model.predict([x[:size] for x in inputs], verbose=0)
        for value, expected in zip(keras.tree.flatten(predicted), keras.tree.flatten(outputs), strict=True):
            assert value.shape == (size, *expected.shape[1:])
            if outputs_deterministic:
                np.testing.assert_allclose(value, array(expected)[:size], atol=1e-5)

    for precision in ("mixed_bfloat16", "mixed_float16"):
        mixed = make(dtype=precision)
        mixed(*symbolic)  # builds it
        mixed.set_weights(layer.get_weights())
        values = keras.tree.flatten(in_one_program(mixed)(*inputs))
        for value, expected in zip(values, keras.tree.flatten(outputs), strict=True):
            if "float" in keras.backend.standardize_dtype(expected.dtype) and outputs_deterministic:
                assert keras.backend.standardize_dtype(value.dtype) == precision.removeprefix("mixed_")
                np.testing.assert_allclose(array(keras.ops.cast(value, "float32")), array(expected), atol=0.1)
        assert {v.dtype for v in mixed.trainable_variables} <= {"float32"}
    return layer, outputs


def check_output_shape(layer, inputs, outputs):
    """`compute_output_shape` gives the shapes of `outputs`, for this batch and for any, and `summary` shows them."""
    expected = keras.tree.map_structure(lambda x: tuple(x.shape), outputs)
    assert layer.compute_output_shape(*(x.shape for x in inputs)) == expected
    any_batch = layer.compute_output_shape(*((None, *x.shape[1:]) for x in inputs))
    assert any_batch == keras.tree.map_structure(lambda x: (None, *x.shape[1:]), outputs)
    model = SubclassedModel(layer)
    lines = []
    model.summary(print_fn=lambda line, **_: lines.append(line), line_length=200)
    assert "?" not in "".join(lines)


class SubclassedModel(keras.Model):
    """A model whose summary asks its only layer for the shapes of its outputs."""

    def __init__(self, layer):
        super().__init__(name="around")
        self.layer = layer
        self.built = True


def check_saving(layer, inputs, path):
    """Outputs of a functional model around `layer` survive a `.keras` round trip."""
    symbolic = [keras.Input(x.shape[1:], dtype=str(x.dtype)) for x in inputs]
    model = keras.Model(symbolic, layer(*symbolic))
    model.save(path)
    loaded = keras.models.load_model(path)
    outputs = [keras.tree.flatten(m.predict(list(inputs), verbose=0)) for m in (loaded, model)]
    for actual, expected in zip(*outputs, strict=True):
        np.testing.assert_array_equal(actual, expected)
