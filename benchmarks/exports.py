"""Exported programs beside the Keras model: the worst difference, the size of the file, and the time of a batch.

python benchmarks/exports.py [--model umd_digits] [--backends jax tensorflow torch] [--batch-size 8]

Each format that a backend can write is read by its own runtime: onnxruntime, ai-edge-litert, OpenVINO, TensorFlow
for a SavedModel, PyTorch. What they need beside the backends:

pip install onnx onnxruntime onnxscript tf2onnx jax2onnx ai-edge-litert openvino

A pair that isn't installed or can't be written has a line with its reason. Times are CPU milliseconds of a batch, the
median of `--repeats` that take turns with the Keras model's, after one that compiles.
"""

import json
import os
import pathlib
import subprocess
import sys
import tempfile

import common
import keras
import numpy as np

import keras_umd
from keras_umd.backend.exporting import BACKENDS, FORMATS

COLUMNS = ("backend", "format", "what", "worst difference", "largest value", "file, KB", "its ms", "Keras' ms")


# How each runtime is called: from a path to a function of a dictionary of arrays, which returns another


def run_onnx(path):
    import onnxruntime

    session = onnxruntime.InferenceSession(path)
    names = [output.name for output in session.get_outputs()]
    return lambda inputs: dict(zip(names, session.run(names, inputs), strict=True))


def run_saved_model(path):
    import tensorflow as tf

    loaded = tf.saved_model.load(path)  # kept, or its variables would be deleted
    serve = loaded.signatures["serving_default"]

    def run(inputs, loaded=loaded):
        outputs = serve(**{name: tf.constant(x) for name, x in inputs.items()})
        return {name: x.numpy() for name, x in outputs.items()}

    return run


def run_litert(path):
    from ai_edge_litert.interpreter import Interpreter

    runner = Interpreter(path).get_signature_runner("serving_default")
    return lambda inputs: runner(**inputs)


def run_openvino(path):
    import openvino

    # On CPUs with bfloat16 it would round to it.
    program = openvino.Core().compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    names = [output.get_any_name() for output in program.outputs]
    return lambda inputs: dict(zip(names, program(inputs).values(), strict=True))


def run_torch(path):
    import torch

    program = torch.export.load(path).module()

    @torch.no_grad()
    def run(inputs):
        outputs = program(*(torch.as_tensor(x) for x in inputs.values()))
        return {name: x.numpy() for name, x in outputs.items()}

    return run


RUNTIMES = {
    "saved_model": run_saved_model,
    "onnx": run_onnx,
    "litert": run_litert,
    "openvino": run_openvino,
    "torch": run_torch,
}


# What they are compared with


def cases(model, batch_size, sampling):
    """For each part its inputs, in order, and a function that computes the same with the model."""
    rng = np.random.default_rng(0)
    shape = (batch_size, *model.image_shape)
    noise = rng.normal(size=shape).astype("float32")
    images = noise if model.is_latent else rng.integers(0, 256, shape).astype("uint8")
    labels = {} if model.num_classes is None else {"labels": np.arange(batch_size, dtype="int32") % model.num_classes}
    times = {}
    if model.condition_embedding is not None:
        times = {"timesteps": np.linspace(1, model.corruption.num_timesteps, batch_size).astype("float32")}
    of_denoiser = {"x_t": noise, **times, **labels}
    given = [noise, times.get("timesteps", np.zeros(1, "float32")), *labels.values()]
    estimate = common.compiled(model.estimate, model.network_weights)

    def features():
        return {"features": keras.ops.convert_to_numpy(model.encode(images))}

    def predictions():
        outputs = estimate(*map(keras.ops.convert_to_tensor, given))
        return {name: keras.ops.convert_to_numpy(x) for name, x in outputs.items()}

    def samples():
        return {"images": model.generate(**labels, initial_noise=noise, **sampling)}

    return {
        "encoder": ({"images": images}, features),
        "denoiser": (of_denoiser, predictions),
        "sampler": ({"noise": noise, **labels}, samples),
    }


def export(model, folder, what, format, sampling):
    """Export one part; the path of the file."""
    path = os.path.join(folder, f"{what}{FORMATS[format].suffix}")
    keras_umd.weights.export(model, path, what=what, format=format, **(sampling if what == "sampler" else {}))
    return path


def differences(outputs, expected):
    """The worst difference of any output, and the largest value that was expected."""
    assert set(outputs) == set(expected)
    worst = max(np.abs(outputs[name].astype("float64") - expected[name]).max() for name in expected)
    return float(worst), float(max(np.abs(x.astype("float64")).max() for x in expected.values()))


def file_size(path):
    """Bytes of all files of an export."""
    path = pathlib.Path(path)
    files = path.rglob("*") if path.is_dir() else path.parent.glob(f"{path.stem}.*")
    return sum(file.stat().st_size for file in files if file.is_file())


# The table


def measure(args):
    """Rows of this backend: lists of the columns, or of three of them and a reason."""
    model = keras_umd.UMD.from_preset(args.model)
    if model.num_classes is not None:
        args.sampling["guidance"] = 2.0
    rows = []
    for what, (inputs, of_keras) in cases(model, args.batch_size, args.sampling).items():
        expected = of_keras()
        for format in FORMATS:
            row = [common.BACKEND, format, what]
            try:
                with tempfile.TemporaryDirectory() as folder:
                    path = export(model, folder, what, format, args.sampling)
                    size, run = file_size(path), RUNTIMES[format](path)
                    worst = differences(run(inputs), expected)
                    turns = {"its": lambda run=run, inputs=inputs: run(inputs), "keras": of_keras}
                    times = common.in_turns(turns, args.repeats)
            except (ImportError, ValueError) as error:
                if [*row[:2], "encoder", str(error)] not in rows:  # of all parts
                    rows.append([*row, str(error)])
                continue
            milliseconds = [float(1e3 * np.median(times[name][:, 1])) for name in turns]
            rows.append([*row, *worst, size / 1e3, *milliseconds])
            common.write_json(args.output, rows=rows)  # PyTorch's sampler takes minutes
    return rows


def show(rows):
    print(f"| {' | '.join(COLUMNS)} |\n|{'---|' * 3}{'---:|' * (len(COLUMNS) - 3)}")
    for row in rows:
        if len(row) == len(COLUMNS):
            worst, largest, size, its, keras_ms = row[3:]
            print(f"| {' | '.join(row[:3])} | {worst:.2g} | {largest:.3g} | {size:.0f} | {its:.2f} | {keras_ms:.2f} |")
    for row in rows:
        if len(row) < len(COLUMNS):
            print(f"\n{row[0]}, {row[1]}, {row[2]}: {row[3]}")


def main():
    arguments = common.parser(__doc__, "benchmarks/results/exports.json")
    arguments.add_argument("--model", default="umd_digits", help="a preset with weights, or a folder")
    arguments.add_argument("--backends", nargs="+", default=list(BACKENDS), choices=BACKENDS)
    arguments.add_argument("--num-steps", type=int, default=8, help="of the sampler")
    arguments.add_argument("--batch-size", type=int, default=8)
    arguments.add_argument("--repeats", type=int, default=20)
    args = arguments.parse_args()
    args.sampling = {"num_steps": args.num_steps, "sampler": 0.0}
    if args.backends == [common.BACKEND]:
        rows = measure(args)
    else:  # a process has one backend
        rows = []
        for backend in args.backends:
            command = [sys.executable, *sys.argv, "--backends", backend, "--output", f"{args.output}.{backend}"]
            subprocess.run(command, env={**os.environ, "KERAS_BACKEND": backend}, check=True, stdout=subprocess.DEVNULL)
            with open(f"{args.output}.{backend}") as file:
                rows += json.load(file)["rows"]
            os.remove(f"{args.output}.{backend}")
    common.write_json(args.output, rows=rows)
    show(rows)


if __name__ == "__main__":
    main()
