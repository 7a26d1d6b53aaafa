"""The black box of a training: a step that failed, in a file, and what happened in it."""

import contextlib
import dataclasses
import io
import json
import zipfile

import keras
import numpy as np
from keras import ops

from keras_umd.backend.frameworks import BACKEND
from keras_umd.backend.gradients import value_and_gradients
from keras_umd.backend.processes import is_first_process, to_numpy
from keras_umd.models.guarded_step import black_box_weights
from keras_umd.utils.arrays import as_numpy_type
from keras_umd.utils.atomic import write_whole
from keras_umd.utils.checks import check_paths

FORMAT = 1
FLOAT16_MAX = 65504.0
MEMBERS = ("about.json", "arrays.npz")


def write_black_box(path, model, batch, about, weights=None):
    """Write what `replay` needs: the model's configuration and weights, images, labels and draws of a step; atomically.

    Args:
        path: String.
        model: `UMD`, with the weights from before the step, if `weights` doesn't give them.
        batch: Dictionary of images, labels or `None`, and draws.
        about: Dictionary of what is known of the step, for JSON.
        weights: List of tensors in the order of `black_box_weights`, or `None`.
    """
    variables = black_box_weights(model)
    weights = [variable.value for variable in variables] if weights is None else weights
    names = [f"weights/{variable.path}" for variable in variables]
    arrays = {name: to_numpy(value) for name, value in zip(names, weights, strict=True)}
    arrays.update({name: to_numpy(batch[name]) for name in ("images", "labels") if batch[name] is not None})
    arrays.update({f"draws/{name}": to_numpy(value) for name, value in batch["draws"].items()})
    arrays = {name: as_numpy_type(array) for name, array in arrays.items()}
    config = keras.saving.serialize_keras_object(model)
    config.pop("compile_config", None)  # the optimizer isn't run again
    versions = {"backend": BACKEND, "keras": keras.__version__}
    about = {"format": FORMAT, **versions, **about, "model": config}
    if not is_first_process():  # the others were needed to gather the arrays
        return

    def write(temporary):
        with zipfile.ZipFile(temporary, "w") as archive:
            archive.writestr("about.json", json.dumps(about, indent=1))
            with archive.open("arrays.npz", "w", force_zip64=True) as file:
                np.savez(file, **arrays)

    write_whole(path, write)


def read_black_box(path):
    """The dictionaries that `write_black_box` wrote: what is known of the step, and arrays by name."""
    try:
        with zipfile.ZipFile(path) as archive:
            about = json.loads(archive.read("about.json"))
            with np.load(io.BytesIO(archive.read("arrays.npz")), allow_pickle=False) as file:
                arrays = {name: file[name] for name in file.files}
    except (zipfile.BadZipFile, KeyError, json.JSONDecodeError) as error:
        raise ValueError(
            f"{path} is no whole black box, a zip file of {MEMBERS} that `callbacks.Guard` writes. Received: {error}"
        ) from error
    if about.get("format") != FORMAT:
        raise ValueError(f"{path} was written by another version. Received: format {about.get('format')}")
    return about, arrays


@dataclasses.dataclass(frozen=True)
class Replay:
    """What happened in a step that was run again.

    Attributes:
        loss: Float, the loss of the step.
        gradient_norm: Float, the norm of all gradients together.
        layer: String, the path of the first layer that isn't finite: by its weights before the step; else by its
            output, in the order in which layers run; else the name of a loss; else by the gradient of its weights, in
            the order in which gradients are computed, from the last layer to the first. `None` where everything is
            finite.
        kind: `"weights"`, `"output"`, `"loss"` or `"gradient"`, what of it; `None` where everything is finite.
        overflows: Dictionary of floats, of a model that computes in float16: the layers whose outputs reach beyond its
            65504 when the step is run in float32, in the order in which they run, and how far. Train in bfloat16.
        bad_images: Integers, the places in the batch of images that aren't finite.
        gradient_norms: Dictionary of floats, the norm of the gradient of each weight, by its path.
        about: Dictionary, what the training knew of the step: its number, loss, window, versions.
    """

    loss: float
    gradient_norm: float
    layer: str | None
    kind: str | None
    overflows: dict
    bad_images: list
    gradient_norms: dict = dataclasses.field(repr=False)
    about: dict = dataclasses.field(repr=False)

    def __str__(self):
        lines = [f"loss {self.loss:g}, gradient norm {self.gradient_norm:g}"]
        if self.bad_images:
            lines.append(f"images {self.bad_images} of the batch have NaN or infinite values")
        lines.append(
            "everything is finite"
            if self.layer is None
            else f"the first that isn't finite: {self.kind} of {self.layer}"
        )
        if self.overflows:
            reached = ", ".join(f"{path} {largest:.3g}" for path, largest in list(self.overflows.items())[:3])
            lines.append(f"float16 ends at {FLOAT16_MAX:g}; in float32 it is exceeded by the output of {reached}")
        largest = sorted(self.gradient_norms.items(), key=lambda item: -np.nan_to_num(item[1], nan=np.inf))[:3]
        lines.append("largest gradients: " + ", ".join(f"{path} {norm:.3g}" for path, norm in largest))
        return "\n".join(lines)


def replay(path) -> Replay:
    """Run the step of a black box again, and say where its numbers first went wrong.

    It runs on any backend, with the weights, images and random numbers of the step: the network op by op, so what a
    compiler rounds otherwise may be finite here, and the gradients on JAX as one program.

    Example:

    >>> print(keras_umd.replay("runs/umd/black_box_000412.zip"))                                        # doctest: +SKIP
    loss nan, gradient norm nan
    images [3] of the batch have NaN or infinite values
    the first that isn't finite: output of encoder/patch_embedding/projection
    largest gradients: ...

    Args:
        path: String or path, a file that `callbacks.Guard` wrote.

    Returns:
        `Replay`.
    """
    check_paths(path=path)
    about, arrays = read_black_box(path)
    config = about.pop("model")
    model = _model(config, arrays)
    weights = [variable for variable in black_box_weights(model) if variable.trainable]
    images, (x, y) = arrays["images"], _step_inputs(model, arrays)
    bad_weights = [v.path for v in black_box_weights(model) if not np.isfinite(_numpy(v.value)).all()]
    with _watched(model) as outputs:
        losses = model.objective.image_losses(model(x), y)
    loss, gradients = value_and_gradients(lambda: model.compute_loss(x, y, model(x)), weights)
    norms = {
        variable.path: float(np.linalg.norm(_numpy(gradient).astype("float64")))
        for variable, gradient in zip(weights, gradients, strict=True)
        if gradient is not None
    }
    layer, kind = _first_fault(bad_weights, outputs, losses, norms)
    is_bad = ~np.isfinite(images.astype("float32")).reshape(len(images), -1).all(axis=1)
    return Replay(
        loss=float(_numpy(loss)),
        gradient_norm=float(np.sqrt(sum(norm**2 for norm in norms.values()))),
        layer=layer,
        kind=kind,
        overflows=_overflows(config, arrays) if model.compute_dtype == "float16" and kind == "output" else {},
        bad_images=np.flatnonzero(is_bad).tolist(),
        gradient_norms=norms,
        about=about,
    )


def _first_fault(bad_weights, outputs, losses, norms):
    """`layer` and `kind` of a `Replay`, each `None` where everything is finite."""
    if bad_weights:
        return bad_weights[0].rpartition("/")[0], "weights"
    for path, largest in outputs:
        if not np.isfinite(largest):
            return path, "output"
    for name, loss in losses.items():
        if not np.isfinite(_numpy(loss)).all():
            return name, "loss"
    bad_gradients = [path for path, norm in norms.items() if not np.isfinite(norm)]
    return (_last_run(bad_gradients, outputs), "gradient") if bad_gradients else (None, None)


def _step_inputs(model, arrays):
    """What the network gets in the step, and what it must predict."""
    draws = {name: ops.convert_to_tensor(value) for name, value in _part(arrays, "draws/").items()}
    labels = None if "labels" not in arrays else ops.convert_to_tensor(arrays["labels"])
    return model.step_inputs(ops.convert_to_tensor(arrays["images"]), labels, draws)


def _overflows(config, arrays):
    """The largest number in the outputs of those layers that exceed float16 where the step is run in float32."""
    model = _model({**config, "config": {**config["config"], "dtype": "float32"}}, arrays)
    x, _ = _step_inputs(model, arrays)
    with _watched(model) as outputs:
        model(x)
    largest = {}
    for path, value in outputs:
        largest[path] = max(largest.get(path, 0.0), value)
    return {path: value for path, value in largest.items() if FLOAT16_MAX < value < np.inf}


def _model(config, arrays):
    # Loops over blocks and recomputed ones would hide the layers in them.
    config["config"].update(scan_blocks=False, remat=False, ema_decays=[])
    model = keras.saving.deserialize_keras_object(config)
    values = _part(arrays, "weights/")
    missing = [variable.path for variable in black_box_weights(model) if variable.path not in values]
    if missing or len(values) != len(black_box_weights(model)):
        raise ValueError(
            f"The black box holds weights of another model. Received: {len(values)} weights, none for {missing}"
        )
    for variable in black_box_weights(model):
        variable.assign(values[variable.path])
    return model


def _part(arrays, prefix):
    return {name[len(prefix) :]: value for name, value in arrays.items() if name.startswith(prefix)}


@contextlib.contextmanager
def _watched(model):
    """A context that gives a list; each layer that runs in it adds its path, and the largest number in its output.

    It is NaN or infinite where the output isn't finite.
    """
    seen, layers = [], [layer for layer in model._flatten_layers(include_self=False) if layer.built]

    def watch(layer, call):
        def run(*args, **kwargs):
            outputs = call(*args, **kwargs)
            tensors = [x for x in keras.tree.flatten(outputs) if hasattr(x, "dtype")]
            largest = [np.abs(_numpy(x)).max(initial=0.0) for x in tensors]
            seen.append((layer.path, float(np.max(largest, initial=0.0))))  # NaN, if one is
            return outputs

        return run

    # The encoder calls the second of its patch embedding.
    methods = [(layer, name) for layer in layers for name in ("call", "embed") if hasattr(layer, name)]
    for layer, name in methods:
        object.__setattr__(layer, name, watch(layer, getattr(layer, name)))
    try:
        yield seen
    finally:
        for layer, name in methods:
            object.__delattr__(layer, name)


def _last_run(weights, outputs):
    """The layer of these weights that ran last; that of the first of them, if none was called as a layer."""
    layers = [path.rpartition("/")[0] for path in weights]
    # A layer ends behind those within it, but its own weights, as class tokens, may come first in it.
    layers = [path for path in layers if not any(other.startswith(f"{path}/") for other in layers)]
    return next((path for path, _ in reversed(outputs) if path in layers), layers[0])


def _numpy(x):
    return np.asarray(ops.convert_to_numpy(ops.cast(x, "float32")))
