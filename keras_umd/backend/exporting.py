"""Programs as files for other runtimes: what can be written on which backend, and what Keras' exporters leave to do."""

import dataclasses
import os

from keras_umd.backend.frameworks import BACKEND, torch

BACKENDS = ("tensorflow", "jax", "torch")


@dataclasses.dataclass(frozen=True)
class Format:
    """A format of exported programs.

    Args:
        name: String, Keras' name of it.
        suffix: String, how names of its files end; empty for a folder.
        packages: Dictionary from the backends that write it to the modules that this needs.
        reasons: Dictionary from the other backends to why they don't.
    """

    name: str
    suffix: str
    packages: dict
    reasons: dict


_OF_TORCH_ALONE = "a program of torch.export is made from a PyTorch module"
FORMATS = {
    "saved_model": Format(
        "tf_saved_model",
        "",
        {"tensorflow": (), "jax": ("tensorflow",)},
        {"torch": "Keras goes by torch_xla, whose last release, 2.9, is for PyTorch 2.9"},
    ),
    "onnx": Format(
        "onnx",
        ".onnx",
        {"tensorflow": ("tf2onnx", "onnx"), "jax": ("jax2onnx", "onnx"), "torch": ("onnxscript", "onnx")},
        {},
    ),
    "litert": Format(
        "litert",
        ".tflite",
        {"tensorflow": ()},
        {
            "jax": "Keras writes LiteRT from TensorFlow and PyTorch only",
            "torch": "litert-torch fixes the size of the batch",
        },
    ),
    "openvino": Format(
        "openvino",
        ".xml",
        {"tensorflow": ("openvino",), "torch": ("openvino",)},
        {"jax": "OpenVINO has no rule for XlaCallModule, the one operation that JAX' programs consist of"},
    ),
    "torch": Format("torch", ".pt2", {"torch": ()}, {"tensorflow": _OF_TORCH_ALONE, "jax": _OF_TORCH_ALONE}),
}


# Of programs with a loop, beside `reasons`.
NO_LOOPS = {("jax", "onnx"): "jax2onnx has no loop whose body reads an input of the program, as the labels are"}


def refusal(format, has_loop):
    """Why this backend can't write a format, and which can; `None` if it can."""

    def reason_on(backend):
        reason = FORMATS[format].reasons.get(backend)
        return NO_LOOPS.get((backend, format)) if reason is None and has_loop else reason

    if reason_on(BACKEND) is None:
        return None
    others = " or ".join(f"KERAS_BACKEND={name}" for name in BACKENDS if reason_on(name) is None)
    what = " of a program with a loop" if BACKEND not in FORMATS[format].reasons else ""
    return (
        f"format={format!r}{what} can't be written on {BACKEND}: {reason_on(BACKEND)}. Save the model, and export it "
        f"from the file with {others}; weights are the same on all backends."
    )


def needed(format):
    """The modules that writing a format on this backend needs."""
    return FORMATS[format].packages[BACKEND]


def export_program(program, path, format):
    """Write a program with an input batch of any size.

    Args:
        program: Built `keras.Model` whose `call` takes the tensors of `input_specs()` in their order, and returns a
            dictionary with the keys `output_names`, sorted.
        path: String. Must end as files of the format do.
        format: String, a key of `FORMATS` that this backend can write, and whose `needed` modules are installed.
    """
    of_format, specs = FORMATS[format], program.input_specs()
    options = {"verbose": False, "input_signature": specs}
    if torch and format in ("onnx", "openvino"):
        _from_torch(program, path, specs, format)
    elif format == "torch":
        program.export(path, of_format.name, **options, dynamic_shapes=[_any_batch(specs)])
    else:
        program.export(path, of_format.name, **options)
    tidy = {"onnx": _name_onnx, "openvino": _name_openvino}.get(format)
    if tidy:
        tidy(path, [spec.name for spec in specs], program.output_names)


def _any_batch(specs):
    batch = torch.export.Dim("batch", min=1)
    return tuple({0: batch} for _ in specs)


def _from_torch(program, path, specs, format):
    """By `torch.export`: Keras goes by TorchScript, which can't convert LayerNorm for a batch of any size."""
    # Not a batch of 1 or 2, sizes that torch.export would take for constants.
    inputs = tuple(torch.zeros((3, *spec.shape[1:]), dtype=getattr(torch, spec.dtype)) for spec in specs)
    program.eval()
    with torch.no_grad():
        exported = torch.export.export(program, inputs, dynamic_shapes=[_any_batch(specs)], strict=False)
        if format == "onnx":
            torch.onnx.export(exported, (), dynamo=True, verbose=False).save(path)
        else:
            import openvino

            openvino.serialize(openvino.convert_model(exported.run_decompositions(_known_to_openvino())), path)


def _known_to_openvino():
    """Keras rounds to a number of decimals, 0 by default, which OpenVINO can't read; to integers it can."""

    def rounded(x, *, decimals=0):
        return torch.ops.aten.round.default(x) if decimals == 0 else NotImplemented

    return {torch.ops.aten.round.decimals: rounded}


def _name_onnx(path, inputs, outputs):
    """Names of our own, since each converter has others; and the first axis called `batch`."""
    import onnx

    model = onnx.load(path)
    graph = model.graph
    new = dict(zip([x.name for x in graph.input], inputs, strict=True))
    new |= dict(zip([x.name for x in graph.output], outputs, strict=True))
    for node in graph.node:
        for names in (node.input, node.output):
            for i, name in enumerate(names):
                names[i] = new.get(name, name)
    for value in (*graph.input, *graph.output):
        value.name = new[value.name]
        value.type.tensor_type.shape.dim[0].dim_param = "batch"
    onnx.save(model, path)


def _name_openvino(path, inputs, outputs):
    """Names of our own; and no results beside the outputs, as TensorFlow's custom gradients leave them."""
    import openvino

    read = openvino.Core().read_model(path)
    results = read.outputs[: len(outputs)]
    for tensors, names in ((read.inputs, inputs), (results, outputs)):
        for tensor, name in zip(tensors, names, strict=True):
            tensor.get_tensor().set_names({name})
    model = openvino.Model([output.get_node() for output in results], read.get_parameters(), "keras_umd")
    written = f"{os.path.splitext(path)[0]}.part.xml"  # it is read from the other while it is written
    openvino.serialize(model, written)
    for suffix in (".xml", ".bin"):
        os.replace(written.removesuffix(".xml") + suffix, path.removesuffix(".xml") + suffix)
