# %% [markdown]
# # Weights in and out
#
# A trained model wants to leave: into a folder that others load, into a program that runs without Keras, into a smaller
# file. And it wants to learn something new with few weights. Here with `umd_digits`, which comes with the package, in
# less than a minute on one core.

# %%
import os

os.environ.setdefault("KERAS_BACKEND", "torch")  # before Keras; programs of torch.export need no package beside it

import pathlib

import keras
import numpy as np
import torch
from sklearn.datasets import load_digits

import keras_umd
from keras_umd import plots

keras.utils.set_random_seed(0)
digits = load_digits()
order = np.random.default_rng(0).permutation(len(digits.images))
images = np.round(digits.images[order, ..., None] * 255 / 16).astype("uint8")  # (1797, 8, 8, 1)
labels = digits.target[order]

model = keras_umd.UMD.from_preset("umd_digits")
wanted = np.repeat(np.arange(10), 8)
sampling = {"num_steps": 8, "sampler": "dpmpp_2m", "guidance": 2.0}
plots.image_grid(model.generate(wanted, seed=0, **sampling), columns=16, scale=4)

# %% [markdown]
# ## A folder
#
# `save_to_preset` writes settings, weights and a card; `from_preset` reads them on any backend. In half precision it is
# half as large, and nothing in it is executed when it is read.

# %%
model.save_to_preset("my_digits", dtype="float16", license="cc-by-4.0", description="Digits of 8x8.")
for file in sorted(pathlib.Path("my_digits").iterdir()):
    print(f"{file.stat().st_size:8} {file.name}")
again = keras_umd.UMD.from_preset("my_digits")
print(
    "the same samples:",
    np.array_equal(again.generate([3], seed=0, **sampling), model.generate([3], seed=0, **sampling)),
)

# %% [markdown]
# ## A program
#
# `export` writes a part of the model for another runtime: the encoder, bytes in and features out; the denoiser; or the
# whole way from noise to images. ONNX, LiteRT, OpenVINO and SavedModel need packages of their own, and some of them
# another backend. This one needs PyTorch alone.

# %%
keras_umd.weights.export(model, "encoder.pt2", format="torch")
program = torch.export.load("encoder.pt2").module()
features = program(torch.as_tensor(images[:5]))["features"].detach().numpy()  # a batch of any size
print(
    features.shape, "worst difference:", np.abs(features - keras.ops.convert_to_numpy(model.encode(images[:5]))).max()
)

# %% [markdown]
# The sampler is a program of noise and labels. What is drawn is drawn outside, so that it computes the same everywhere.

# %%
keras_umd.weights.export(model, "sampler.pt2", "sampler", "torch", **{**sampling, "num_steps": 4})
noise = np.random.default_rng(0).normal(size=(10, 8, 8, 1)).astype("float32")
sampler = torch.export.load("sampler.pt2").module()
drawn = sampler(torch.as_tensor(noise), torch.arange(10, dtype=torch.int32))["images"]
plots.image_grid(drawn.numpy(), columns=10, scale=4)

# %% [markdown]
# ## A smaller one
#
# `quantize("int8")` keeps a byte for each number of the matrices. The samples hardly notice.

# %%
small = keras_umd.UMD.from_preset("umd_digits")
small.quantize("int8")


def kilobytes(of):
    return sum(keras.ops.convert_to_numpy(value).nbytes for value in of.weight_values()) / 1000


print(f"{kilobytes(model):.0f} KB became {kilobytes(small):.0f} KB")
pairs = [of.generate(np.arange(10), seed=1, **sampling) for of in (model, small)]
plots.image_grid(np.concatenate(pairs), columns=10, scale=4)  # above: before, below: after

# %% [markdown]
# ## Something new, with few weights
#
# `enable_lora` freezes the network and trains thin matrices beside its own. Here the digits get a grey background, in 96
# steps. Then `merge_lora` adds the products to the kernels, and the model is an ordinary one again.

# %%
tuned = keras_umd.UMD.from_preset("umd_digits")
tuned.enable_lora(8, filters=None)
counts = [sum(int(np.prod(v.shape)) for v in part) for part in (tuned.trainable_variables, model.trainable_variables)]
print("trained weights: {} of {}".format(*counts))
tuned.compile(keras_umd.recipes.finetuning_optimizer(96, 64, base_learning_rate=3e-2, ema_decay=0.95))
on_grey = 96 + images[:1536] // 8 * 5
tuned.fit(on_grey, labels[:1536], batch_size=64, epochs=4, verbose=0)
merged = tuned.merge_lora()
plots.image_grid(merged.generate(wanted, seed=0, **sampling), columns=16, scale=4)
