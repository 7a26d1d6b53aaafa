"""What the library computed before its parts were rearranged, at commit a51e05d, and the runs that it is compared with.

A model of each kind takes three `fit` steps; then it encodes, reconstructs and samples. The arrays in
`tests/golden/nothing_moved/` were written by

    KERAS_BACKEND=... python -m tests.models.nothing_moved DIRECTORY

with the code of that commit, once a backend, since each draws other random numbers.
"""

import pathlib
import sys

from tests.conftest import array, trained_like  # first: it sets how the backends compile

import keras  # isort: skip
import numpy as np  # isort: skip

from keras_umd import UMD, Corruption  # isort: skip

RECORDS = pathlib.Path(__file__).parents[1] / "golden" / "nothing_moved"
NARROW = {"decoder_hidden_dim": 8, "decoder_layers": 2, "scan_blocks": True, "remat": True}
SAMPLERS = {"umd_token": "heun", "maskdit": "dpmpp_2m"}
CASES = {  # corruption, and what else differs from the smallest model
    "umd": (Corruption.umd(), {}),
    "umd_labels": (Corruption.umd(), {"num_classes": 3}),
    "umd_token": (Corruption.umd(), {"conditioning": "token"}),
    "umd_token_labels": (Corruption.umd(clean_ratio=0.25), {"conditioning": "token", "num_classes": 3}),
    "umd_narrow": (Corruption.umd(decoded_ratio=0.5, noisy_losses=["x0"]), NARROW),
    "umd_bfloat16": (Corruption.umd(), {"num_classes": 3, "dtype": "mixed_bfloat16"}),
    "umd_adamw": (Corruption.umd(), {"num_classes": 3}),
    "mae": (Corruption.mae(), {"conditioning": "token"}),
    "maskdit": (Corruption.maskdit(), {"num_classes": 3}),
    "dit": (Corruption.dit(schedule="linear"), {"value_range": None}),
}
# What computes otherwise on each backend: labels and AdaLN, a token, a scan of rematerialised blocks, bfloat16. The
# other cases are other settings of the same operations, and run where nothing is compiled.
EVERYWHERE = ("umd_labels", "mae", "umd_narrow", "umd_bfloat16")


def cases():
    """The names of the cases that run on this backend."""
    return CASES if keras.backend.backend() == "torch" else EVERYWHERE


def build(case):
    """The untrained model of a case, with random weights where a fresh model has zeros."""
    corruption, settings = CASES[case]
    keras.utils.set_random_seed(0)
    sizes = {"image_shape": (8, 12, 3), "patch_size": (2, 3), "hidden_dim": 16, "num_heads": 2, "num_layers": 2}
    return trained_like(UMD(**{**sizes, "decoder_layers": 1, "seed": 0, "corruption": corruption, **settings}))


def data(model):
    """24 images in the model's range, and labels or `None`."""
    rng = np.random.default_rng(0)
    images = np.tanh(rng.normal(size=(24, 8, 12, 3))).astype("float32")
    return images, rng.integers(0, 3, 24) if model.num_classes else None


def run(case):
    """Dictionary of arrays: losses of three steps, weights after them, features, reconstructions and samples."""
    model = build(case)
    images, labels = data(model)
    model.compile(keras.optimizers.AdamW(1e-3) if case == "umd_adamw" else keras.optimizers.SGD(0.1))
    arrays = {}
    for step in range(3):
        part = slice(8 * step, 8 * step + 8)
        given = (images[part],) if labels is None else (images[part], labels[part])
        history = model.fit(*given, batch_size=8, verbose=0).history
        arrays.update({f"step{step}.{name}": np.float32(value[0]) for name, value in history.items()})
    arrays.update({f"weights.{v.path}": array(v) for v in model.trainable_variables})
    arrays["encoded"] = array(keras.ops.cast(model.encode(images[:4]), "float32"))
    if case in ("umd_labels", "mae"):
        arrays["reconstruction"] = model.reconstruct(images[:4], seed=1)["reconstruction"]
    if case == "mae":  # can't generate before it is fine-tuned
        model = trained_like(model.with_classes(3))
        labels = np.arange(3)
    settings = {"num_steps": 4, "seed": 2, "predict_from": "x0" if case == "umd_narrow" else "eps"}
    if labels is not None:
        settings.update(labels=np.arange(3), guidance=2.0)
    if case in ("umd_labels", "dit"):
        arrays["generated"] = model.generate(**{"num_images": 3, **settings})
    mask = np.zeros((1, 8, 12, 1), bool)
    mask[:, :5] = True
    # As `generate`, but float images come back as floats.
    arrays["inpainted"] = model.inpaint(images[:3], mask, sampler=SAMPLERS.get(case, "ddim"), **settings)
    return arrays


def kept_model():
    """The model in `umd.keras`: labels, an average with two updates, a block that is frozen."""
    model = build("umd_labels")
    images, labels = data(model)
    model.encoder.blocks[1].trainable = False
    optimizer = keras.optimizers.AdamW(1e-3)
    optimizer.ema_decay = 0.5
    model.compile(optimizer)
    model.fit(images[:16], labels[:16], batch_size=8, verbose=0, shuffle=False)
    return model


def outputs_of_kept_model(model):
    """Dictionary of arrays: what the model in `umd.keras` makes of fixed inputs, with raw and averaged weights."""
    images, _ = data(model)
    return {
        "predicted": model.predict(images[:4], verbose=0),
        "generated": model.generate(labels=[0, 2], num_steps=3, seed=0),
        "features": array(model.feature_extractor(pooling="cls+mean", layer=1, weights="raw")(images[:4])),
        "trainable": np.array([block.trainable for block in model.encoder.blocks]),
    }


if __name__ == "__main__":
    directory = pathlib.Path(sys.argv[1])
    backend = keras.backend.backend()
    np.savez_compressed(
        directory / f"{backend}.npz",
        **{f"{case}/{name}": value for case in sys.argv[2:] or cases() for name, value in run(case).items()},
    )
    if backend == "jax":
        model = kept_model()
        model.save(directory / "umd.keras")
        np.savez_compressed(directory / "umd.npz", **outputs_of_kept_model(model))
