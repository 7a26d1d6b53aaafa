"""Models as files that run without Keras."""

import os
import pathlib

from keras_umd.backend.exporting import FORMATS, export_program, needed, refusal
from keras_umd.models.adaptation import plain_copy
from keras_umd.models.feature_extractor import FeatureExtractor
from keras_umd.models.umd import UMD
from keras_umd.sampling.settings import settings_of
from keras_umd.utils.checks import check_instances, check_one_of, check_paths, require
from keras_umd.utils.optional import import_optional
from keras_umd.weights.programs import DenoiserProgram, EncoderProgram, SamplerProgram

# The options of each part: arguments of `UMD.feature_extractor` and of `UMD.generate`.
PARTS = {
    "encoder": ("image_shape", "pooling", "layer"),
    "denoiser": (),
    "sampler": ("num_steps", "sampler", "guidance", "predict_from", "dtype"),
}
# Noise on the way would have to be drawn, so DDIM is the deterministic one.
SAMPLING = {"num_steps": 50, "sampler": 0.0}


def export(model, path, what="encoder", format="onnx", weights="average", **options):
    """Write a part of a model as a program for another runtime, which needs neither Keras nor this library.

    The batch may be of any size, and pre-processing is inside. The weights are the averaged ones, in float32, with LoRA
    factors added to their kernels and int8 kernels as floats.

    | `what` | inputs | outputs |
    |---|---|---|
    | `"encoder"` | `images`, uint8 `(batch, *image_shape)`; float32 latents of a latent model | `features` |
    | `"denoiser"` | `x_t` float32, `timesteps` float32 `(batch,)`, `labels` int32 `(batch,)` | a prediction each |
    | `"sampler"` | `noise` float32, from N(0, 1), `labels` int32 | `images`, uint8, or float32 latents |

    A model without labels or condition has no such inputs; `num_classes` stands for no label. `docs/exports.md` has how
    each runtime is called, and what the files differ by from the model.

    Example:

    >>> model = keras_umd.UMD.from_preset("umd_digits")
    >>> keras_umd.weights.export(model, "encoder.pt2", format="torch", pooling="mean")
    >>> sampling = {"num_steps": 20, "guidance": 2.0}
    >>> keras_umd.weights.export(model, "sampler.onnx", what="sampler", **sampling)                     # doctest: +SKIP

    Args:
        model: `UMD`, or a `FeatureExtractor`, which is its own encoder.
        path: String or path. It must end in `.onnx`, `.tflite` (LiteRT), `.xml` (OpenVINO, which puts the weights
            beside it in a file `.bin`) or `.pt2` (PyTorch); a SavedModel is a folder. It is overwritten.
        what: `"encoder"`, `"denoiser"` or `"sampler"`.
        format: `"saved_model"`, `"onnx"`, `"litert"`, `"openvino"` or `"torch"`, a program of `torch.export`.
        weights: `"average"`, `"raw"` or a decay, as of `UMD.weight_values`.
        **options: Of the encoder `image_shape`, `pooling` and `layer`, as of `UMD.feature_extractor`; of the sampler
            `num_steps` (50), `sampler` (0.0, which is DDIM without noise on the way), `guidance`, `predict_from` and
            `dtype`, as of `UMD.generate`. PyTorch's programs have a copy of the network's operations for each step.

    Raises:
        ValueError: for a format that this backend can't write, with the reason and the backends that can; and for
            samplers that add noise on the way, or are guided by another model.
        ImportError: if the format needs a package that isn't installed.
        TypeError: for an option that `what` doesn't have.
    """
    check_instances((UMD, FeatureExtractor), "a keras_umd.UMD or a keras_umd.FeatureExtractor", model=model)
    check_paths(path=path)
    check_one_of(tuple(PARTS), what=what)
    check_one_of(tuple(FORMATS), format=format)
    path, suffix = os.fspath(path), FORMATS[format].suffix
    require(path.endswith(suffix), f"`path` of format={format!r} must end in {suffix!r}.", path=path)
    for name in options:
        if name not in PARTS[what]:
            takes = f"It takes {', '.join(PARTS[what])}." if PARTS[what] else "It takes none."
            raise TypeError(f"`export` of what={what!r} takes no argument {name!r}. {takes}")
    program = _program(model, what, weights, options)
    reason = refusal(format, has_loop=what == "sampler")
    if reason is not None:
        raise ValueError(reason)
    for module in needed(format):
        import_optional(module, f"format={format!r} needs {module} here: pip install {module}")
    pathlib.Path(path).parent.mkdir(parents=True, exist_ok=True)
    export_program(program, path, format)


def _program(model, what, weights, options):
    if isinstance(model, FeatureExtractor):
        require(
            what == "encoder" and not options and weights == "average",
            "A FeatureExtractor has weights and settings of its own, and is exported as it is.",
            what=what,
            weights=weights,
            options=options,
        )
        return EncoderProgram(model)
    model = plain_copy(model, weights, dtype="float32", scan_blocks=False, remat=False)
    if what == "encoder":
        return EncoderProgram(model.feature_extractor(**options))
    if what == "denoiser":
        return DenoiserProgram(model)
    return SamplerProgram(model, settings_of("export", {**SAMPLING, **options}))
