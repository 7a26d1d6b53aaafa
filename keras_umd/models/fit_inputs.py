"""Data of `fit`, `evaluate` and `predict`, checked before Keras gets them."""

import inspect
import types

import keras
import numpy as np

from keras_umd.backend.steps import kept_values
from keras_umd.models import fit_warnings
from keras_umd.models.batch_checks import RaiseFaults
from keras_umd.models.device_data import forget_programs, resident_data
from keras_umd.utils.checks import (
    check_bools,
    check_finite,
    check_instances,
    check_integers,
    check_labels,
    check_numbers,
    check_one_of,
    is_list,
    require,
)
from keras_umd.utils.class_names import check_same_classes
from keras_umd.utils.images import check_images


def fit(model, keras_fit, args, kwargs):
    """`keras_fit`, with data and validation data checked first."""
    arguments = inspect.signature(keras_fit).bind(*args, **kwargs).arguments
    refuse_weights(**{name: arguments.get(name) for name in ("sample_weight", "class_weight")})
    _check_counts(arguments)
    x, y = arguments.get("x"), arguments.get("y")
    arguments["x"] = peeked(model, x, y, trained_in=arguments.get("batch_size") or 32)  # Keras' own size of batches
    if getattr(x, "is_repeated", False):
        arguments.setdefault("shuffle", False)  # of data without end, Keras warns that it can't
    validation = arguments.get("validation_data")
    if isinstance(validation, (tuple, list)):
        peeked(model, *_images_and_labels(validation), name="validation_data")
    elif validation is not None:
        if validation is arguments["x"] and hasattr(validation, "copied"):
            validation = validation.copied()  # its place is the training's, and must not move while it is validated on
        arguments["validation_data"] = peeked(model, validation, None, name="validation_data")
        check_same_classes(arguments["x"], validation, ("x", "validation_data"))
    fit_warnings.before_training(model)
    fit_warnings.on_place(arguments["x"], _as_list(arguments.get("callbacks")))
    steps = ("train",) if validation is None else ("train", "test")
    arguments["callbacks"] = _with_checks(arguments.get("callbacks"))
    told_of_errors = [callback for callback in _as_list(arguments["callbacks"]) if hasattr(callback, "on_train_error")]
    for callback in told_of_errors:  # of keras_umd.callbacks
        callback.is_told_of_errors = True
    try:
        with resident_data(model, steps, arguments["x"], validation), kept_values(model):
            return keras_fit(**arguments)
    except BaseException as error:
        for callback in told_of_errors:
            callback.on_train_error(error)
        raise
    finally:
        # BackupAndRestore sets the epoch to resume at; clear it, or the next fit would start there if this one failed.
        model._initial_epoch = None


def _images_and_labels(validation):
    """What a tuple or list as `validation_data` holds; labels may be `None`."""
    is_right = 1 <= len(validation) <= 3
    require(is_right, "`validation_data` must be images, and labels if any.", validation_data=validation)
    images, labels, sample_weight = keras.utils.unpack_x_y_sample_weight(tuple(validation))
    refuse_weights(sample_weight=sample_weight)
    return images, labels


def _as_list(callbacks):
    """The argument of `fit` as a list."""
    if isinstance(callbacks, keras.callbacks.CallbackList):
        return callbacks.callbacks
    flat = [] if callbacks is None else keras.tree.flatten(callbacks)
    require(
        all(isinstance(callback, keras.callbacks.Callback) for callback in flat),
        "`callbacks` must be a list of keras.callbacks.Callback, or None.",
        callbacks=callbacks,
    )
    return flat


def _with_checks(callbacks):
    """The callbacks, behind one that raises what the step has found in batches; before any saves the model."""
    if isinstance(callbacks, keras.callbacks.CallbackList):
        return callbacks
    return [RaiseFaults(), *_as_list(callbacks)]


def evaluate(model, keras_evaluate, args, kwargs):
    """`keras_evaluate`, with the data checked first."""
    arguments = inspect.signature(keras_evaluate).bind(*args, **kwargs).arguments
    arguments.update(arguments.pop("kwargs", {}))
    refuse_weights(sample_weight=arguments.get("sample_weight"))
    _check_counts(arguments)
    if arguments.get("_use_cached_eval_dataset"):  # `fit` has prepared its validation data
        forget_programs(model, ("test",), next(iter(model._device_layers), None))
        return keras_evaluate(**arguments)
    arguments["x"] = peeked(model, arguments.get("x"), arguments.get("y"))
    arguments["callbacks"] = _with_checks(arguments.get("callbacks"))
    with resident_data(model, ("test",), arguments["x"]), kept_values(model):
        return keras_evaluate(**arguments)


def predict(model, keras_predict, x, args, kwargs):
    """`keras_predict`, with the data checked first."""
    if getattr(x, "device_layer", None) is not None:
        raise ValueError(
            "Data that are cropped or sampled in the training step have no images for `predict`; make them with "
            f"training=False, by another function of keras_umd.data. Received: {x}"
        )
    _check_counts(inspect.signature(keras_predict).bind(x, *args, **kwargs).arguments)
    x = peeked(model, x, None, takes_labels=False)
    with kept_values(model):
        return check_finite(keras_predict(x, *args, **kwargs), "features")


def _check_counts(arguments):
    """Raise a ValueError for those of Keras' own arguments of which it trains nothing, or on other data, in silence."""
    counts = ("batch_size", "validation_batch_size", "steps", "steps_per_epoch", "validation_steps")
    check_integers(1, optional=True, **{name: arguments.get(name) for name in counts})
    check_integers(1, epochs=arguments.get("epochs", 1))
    check_integers(0, initial_epoch=arguments.get("initial_epoch", 0))
    check_numbers("[0, 1)", optional=True, validation_split=arguments.get("validation_split"))
    verbose = arguments.get("verbose", "auto")
    check_one_of(("auto", 0, 1, 2, True, False), verbose=verbose)
    frequency = arguments.get("validation_freq", 1)
    require(
        not is_list(frequency) or len(frequency),
        "`validation_freq` must be a number, or a list.",
        validation_freq=frequency,
    )
    for value in frequency if is_list(frequency) else [frequency]:
        check_integers(1, validation_freq=value)
    check_bools(shuffle=arguments.get("shuffle", True), return_dict=arguments.get("return_dict", False))
    for callback in _as_list(arguments.get("callbacks")):
        check_instances(keras.callbacks.Callback, "a list of Keras callbacks", callbacks=callback)


def peeked(model, x, y, takes_labels=True, trained_in=None, name="x"):
    """Check the first batch of a data set, or whole arrays. Returns `x`; for a generator, one that starts again.

    With `trained_in`, the size of batches of arrays, also that no view is left without an image in every batch.
    """
    is_array = hasattr(x, "shape") and hasattr(x, "dtype")
    require(
        is_array
        or isinstance(x, keras.utils.PyDataset)
        or (hasattr(x, "__iter__") and not isinstance(x, (str, bytes))),
        f"`{name}` must be images, an array or a data set.",
        **{name: x},
    )
    require(not is_array or y is None or hasattr(y, "shape"), "`y` must be labels, an array.", y=y)
    if isinstance(x, (list, tuple, dict)):
        raise ValueError(
            "Images must be one array or a data set, and labels the next argument. "
            f"Received: {name}, a {type(x).__name__} of {len(x)}"
        )
    if isinstance(x, types.GeneratorType):
        first = next(x, None)
        require(first is not None, "The generator has no batches.", "an empty generator")
        require(  # Keras', too, whose error would show all numbers of the batch
            isinstance(first, (tuple, dict)),
            f"A generator must give tuples, (images,) or (images, labels), as `{name}`.",
            f"batches of type {type(first).__name__}",
        )
        x = _with_first(first, x)
    else:
        first = _first_batch(x, y)
    require(
        not isinstance(first, dict),
        "Batches must be images or (images, labels); of TFDS, take as_supervised=True, or keras_umd.data.from_tfds, or "
        "dataset.map(lambda batch: (batch['image'], batch['label'])).",
        f"batches that are dictionaries of {list(first) if isinstance(first, dict) else None}",
    )
    images, labels, _ = keras.utils.unpack_x_y_sample_weight(first)
    if hasattr(images, "shape") and hasattr(images, "dtype"):
        require(images.shape[0] != 0, "There must be at least one image.", f"{name} of shape {tuple(images.shape)}")
        may_have_gaps = takes_labels and model.corruption.hides_gaps  # where views are made of them
        check_images(images, model.image_shape, model.value_range, may_have_gaps=may_have_gaps)
        fit_warnings.on_images(images, model.value_range)
    if takes_labels and hasattr(labels, "shape") and hasattr(labels, "dtype"):
        check_labels(labels, model.num_classes, model.objective.takes_unlabelled)
    if trained_in is not None:
        if images is not None and labels is None:
            fit_warnings.on_missing_labels(model)
        batch_size = _batch_size(x, images, trained_in)
        if batch_size is not None:
            check_shares(model.corruption, batch_size)
    return x


def _batch_size(x, images, of_arrays):
    """The size of the batches of `x`, whose first has these `images`: an integer, or `None` where nobody knows."""
    if hasattr(x, "sample_batch"):  # of keras_umd.data, whose sample is smaller
        return x.batch_size
    sizes = [array.shape[0] for array in keras.tree.flatten(images) if getattr(array, "shape", ())]
    return min(sizes[0], of_arrays) if images is x else next(iter(sizes), None)


def check_shares(corruption, batch_size):
    """Raise a ValueError if batches of this size leave a view without images: it would never be trained."""
    missing = corruption.views_without_images(batch_size)
    if missing:
        shares = {view.name: round(view.share, 4) for view in corruption.views}
        raise ValueError(
            f"A batch of {batch_size} has no image for the views {missing}, so they would never be trained; take "
            f"batches of at least {len(shares)} images (gradient accumulation shares out each of its batches), or a "
            f"corruption without them. Received: batches of {batch_size}, shares of the views {shares}"
        )


def _first_batch(x, y):
    """The first batch of a data set, `(x, y)` for arrays, and `(None,)` where there is nothing to check."""
    if hasattr(x, "sample_batch"):  # of keras_umd.data
        return x.sample_batch()
    if isinstance(x, keras.utils.PyDataset):
        return x[0]
    if hasattr(x, "element_spec"):  # tf.data
        specs = keras.tree.flatten(x.element_spec)
        if len(specs) == 1 and keras.backend.standardize_dtype(specs[0].dtype) == "uint8":
            return (None,)
        if isinstance(x.element_spec, dict):
            return x.element_spec
        return _as_arrays(next(iter(x.take(1)), (None,)))
    if hasattr(x, "__iter__") and not hasattr(x, "shape") and iter(x) is not x:  # grain, torch's DataLoader
        return _as_arrays(next(iter(x), (None,)))
    return (x, y)


def _as_arrays(batch):
    """A batch as NumPy arrays, whatever framework made it."""
    batch = tuple(batch) if isinstance(batch, list) else batch
    return keras.tree.map_structure(lambda x: x if x is None else np.asarray(x), batch)


def _with_first(first, rest):
    yield first
    yield from rest


def refuse_weights(**weights):
    """Raise a ValueError for sample or class weights."""
    for name, value in weights.items():
        require(
            value is None,
            f"All images count equally in the objective; leave out `{name}`, or repeat images in the data set.",
            f"{name} of type {type(value).__name__}",
        )
