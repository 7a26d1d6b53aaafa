"""Trains the same small model on one device and on eight, in each way; `test_distribution.py` reads what it writes.

XLA_FLAGS=--xla_force_host_platform_device_count=8 python -m tests.models.on_eight_devices result.json
"""

import json
import sys
import tempfile

import jax
import keras
import numpy as np

from keras_umd import UMD, data, distribution, recipes
from keras_umd.backend.flash import splash_attention


def model_parallel(shape, axes):
    mesh = keras.distribution.DeviceMesh(shape, axes)
    return distribution.ModelParallel(layout_map=UMD.layout_map(mesh))


WAYS = {
    "one device": lambda: None,
    "data": keras.distribution.DataParallel,
    "rows": keras.distribution.DataParallel,  # of a clean and a noisy image each
    "fsdp": lambda: model_parallel((8,), ["batch"]),
    "tensor": lambda: model_parallel((4, 2), ["batch", "model"]),
}


def make(way, hidden_dim=16, num_classes=None):
    keras.backend.clear_session()  # or the names of layers would count on
    keras.distribution.set_distribution(WAYS[way]())
    keras.utils.set_random_seed(0)
    sizes = {"image_shape": (8, 8, 1), "patch_size": 2, "hidden_dim": hidden_dim, "num_heads": 2}
    model = UMD(**sizes, num_layers=1, decoder_layers=1, num_classes=num_classes, seed=0, pack=way == "rows")
    model.compile(recipes.finetuning_optimizer(total_steps=4, batch_size=4096, ema_decay=0.9))
    return model


def shapes(model):
    """The shape of each variable, and of its part on the first device."""
    variables = model.variables + (model.optimizer.variables if model.optimizer else [])
    return {v.path: [v.shape, v.value.addressable_shards[0].data.shape] for v in variables}


def train(way):
    model = make(way)
    images = np.random.default_rng(0).integers(0, 256, (32, 8, 8, 1)).astype("uint8")
    history = model.fit(images, batch_size=16, epochs=2, shuffle=False, verbose=0).history
    return {"history": history, "shapes": shapes(model)}


def train_in_one_program(way):
    """Of data on the device."""
    model = make(way)
    model.compile(model.optimizer, steps_per_execution=3)
    images = np.random.default_rng(0).integers(0, 256, (48, 8, 8, 1)).astype("uint8")
    history = model.fit(data.on_device(images, batch_size=16, seed=0), epochs=2, verbose=0).history
    return {"history": history, "shapes": shapes(model)}


def generate(way):
    return make(way, num_classes=2).generate(np.arange(16) % 2, num_steps=3, guidance=2.0, seed=0).tolist()


def as_trained(model):
    """Nothing is zero, as gates and head are in a new model."""
    rng = np.random.default_rng(0)
    for variable in model.trainable_variables:
        variable.assign(np.asarray(variable) + rng.normal(0, 0.05, variable.shape))
    return model


def fine_tune(way):
    """With LoRA factors at every matrix; samples before and after a file."""
    images = np.random.default_rng(0).integers(0, 256, (16, 8, 8, 1)).astype("uint8")
    model = as_trained(make(way, num_classes=2))
    model.enable_lora(16, filters=None)
    model.compile(recipes.finetuning_optimizer(total_steps=2, batch_size=4096, ema_decay=0.9))
    history = model.fit(images, np.arange(16) % 2, batch_size=16, epochs=2, verbose=0).history
    return {"history": history, "shapes": shapes(model), **samples_of(model)}


def quantized(way):
    model = as_trained(make(way, num_classes=2))
    model.quantize("int8")
    return {"shapes": shapes(model), **samples_of(model)}


def samples_of(model):
    with tempfile.TemporaryDirectory() as folder:
        model.save(f"{folder}/model.keras")
        loaded = keras.models.load_model(f"{folder}/model.keras")
    settings = {"num_steps": 3, "guidance": 2.0, "seed": 0}
    samples = [m.generate(np.arange(16) % 2, **settings).tolist() for m in (model, loaded)]
    return dict(zip(("samples", "of the file"), samples, strict=True))


def layers_of_a_user():
    """The shapes of layers whose names `layout_map` doesn't know."""
    keras.backend.clear_session()
    keras.distribution.set_distribution(WAYS["fsdp"]())
    layers = [keras.layers.Dense(units, name=f"of_{units}") for units in (64, 20, 8)]
    keras.Sequential([keras.Input((16,)), *layers])
    return {layer.name: [layer.kernel.shape, layer.kernel.value.addressable_shards[0].data.shape] for layer in layers}


def attend(way):
    """Splash attention and its gradients for 8 images of two heads, and the program of one of the devices."""
    keras.distribution.set_distribution(WAYS[way]())

    def loss(*row):
        return jax.numpy.sum(splash_attention(*row, interpret=True) ** 2)

    row = [np.random.default_rng(i).normal(size=(8, 5, 2, 8)).astype("float32") for i in range(3)]
    if way != "one device":
        axes = ("batch", None, "model" if way == "tensor" else None, None)
        mesh = keras.distribution.distribution().device_mesh
        row = [keras.distribution.distribute_tensor(x, keras.distribution.TensorLayout(axes, mesh)) for x in row]
    program = jax.jit(jax.value_and_grad(loss, (0, 1, 2))).lower(*row).compile()
    value, gradients = program(*row)
    return {"loss": float(value), "gradients": [x.tolist() for x in gradients], "program": program.as_text()}


def error_of(function):
    try:
        function()
    except ValueError as error:
        return str(error)


if __name__ == "__main__":
    sys.modules["tensorflow"] = None  # Keras would import it, which takes seconds
    runs = {way: train(way) for way in WAYS}
    runs["lora"] = {way: fine_tune(way) for way in ("one device", "fsdp")}
    runs["int8"] = {way: quantized(way) for way in ("one device", "fsdp", "tensor")}
    runs["many steps"] = {way: train_in_one_program(way) for way in ("one device", "data", "fsdp")}
    runs["samples"] = {way: generate(way) for way in ("one device", "fsdp")}
    runs["splash"] = {way: attend(way) for way in ("one device", "data", "tensor")}
    runs["uneven"] = {"shapes": shapes(make("fsdp", hidden_dim=20, num_classes=3))}
    runs["layers of a user"] = layers_of_a_user()
    runs["shares"] = [distribution.share(batch_size=16), error_of(lambda: distribution.share(batch_size=12))]
    with open(sys.argv[1], "w") as file:
        json.dump(runs, file)
