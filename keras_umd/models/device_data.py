"""Data sets that stay on the device: a step gets indices and crops, and the data set's layer makes images of them."""

import contextlib
import weakref

import keras


@contextlib.contextmanager
def resident_data(model, steps, *datasets):
    """A context in which these steps pass batches of these data sets, dictionaries, through their `device_layer`.

    The layer's variables, the whole data set perhaps, are part of the model's state within it, and neither its weights
    nor saved outside of it.
    """
    layers = [getattr(x, "device_layer", None) for x in datasets]
    layers = list({id(layer): layer for layer in layers if layer is not None}.values())
    if len(layers) > 1:
        raise ValueError(
            "Only one data set at a time can be cropped or sampled in the step; make the validation data with "
            f"training=False. Received: {datasets}"
        )
    outer = list(model._device_layers)  # of the `fit` whose callback calls `evaluate`
    layers = layers or outer
    forget_programs(model, steps, layers[0] if layers else None)
    _set_device_layers(model, layers)
    try:
        yield
    finally:
        _set_device_layers(model, outer)


def is_on_device(batch):
    """Whether the images of a batch lie on the device: then it is a dictionary of indices and crops, a few bytes."""
    return isinstance(keras.utils.unpack_x_y_sample_weight(batch)[0], dict)


def _set_device_layers(model, layers):
    if layers != model._device_layers:
        model.predict_function = None  # on several devices, JAX' is compiled for this number of variables
    model._device_layers.clear()
    model._device_layers.extend(layers)


def forget_programs(model, steps, layer):
    """Forget the compiled programs of these steps if they were traced with another data set's layer."""
    for step in steps:
        traced = model._traced_device_layers.get(step)
        if (None if traced is None else traced()) is not layer:
            setattr(model, f"{step}_function", None)
            model._traced_device_layers[step] = None if layer is None else weakref.ref(layer)
