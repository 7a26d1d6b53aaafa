# %% [markdown]
# # Compare methods fairly
#
# UMD, MAE and DiT are settings of one network here. So they can be compared with the same data, the same number of steps
# and the same probe, and what differs is the method. Half a minute of digits won't settle a debate. It shows how to hold
# one.

# %%
import os

os.environ.setdefault("KERAS_BACKEND", "torch")

import time

import keras
import numpy as np
from sklearn.datasets import load_digits

import keras_umd
from keras_umd import evaluation, methods, plots

digits = load_digits()
order = np.random.default_rng(0).permutation(len(digits.images))
images = np.round(digits.images[order, ..., None] * 255 / 16).astype("uint8")
labels = digits.target[order]
train, test = (images[:1500], labels[:1500]), (images[1500:], labels[1500:])

for method in methods.list():
    print(f"{method.name:18}{method.summary}")

# %% [markdown]
# ## What they hide
#
# Dark patches are hidden. A row for each view that masks: MAE has one, UMD two, and DiT none.

# %%
mae, umd = methods.mae(clean_mask_ratio=0.5), methods.umd(clean_mask_ratio=0.5)
plots.captioned([[plots.masks(mae, grid=(4, 4), scale=8)]], [""], ["MAE: half of clean images hidden"])

# %%
plots.captioned(
    [[plots.masks(umd, grid=(4, 4), scale=8)]], [""], ["UMD: half of clean images, 6 of 16 patches of noisy ones"]
)

# %% [markdown]
# ## Train each
#
# Same network, same seed, same 400 steps. A fair comparison would also give each its own best learning rate, and the same
# *time* rather than the same steps: what is masked needn't be computed, so the methods differ in cost.

# %%
METHODS = {"UMD": umd, "MAE": mae, "DiT": methods.dit(), "UMD, one head": methods.umd_x0(clean_mask_ratio=0.5)}
sizes = {"patch_size": 2, "hidden_dim": 96, "num_layers": 2, "num_heads": 4, "decoder_layers": 1}
models, seconds = {}, {}
for name, settings in METHODS.items():
    keras.utils.set_random_seed(0)
    model = keras_umd.UMD((8, 8, 1), **sizes, seed=0, **{"conditioning": "token", **settings})
    model.compile(keras_umd.recipes.pretraining_optimizer(400, 60, base_learning_rate=8e-3))
    started = time.process_time()
    model.fit(train[0], batch_size=60, epochs=16, verbose=0)
    models[name], seconds[name] = model, time.process_time() - started

# %% [markdown]
# ## Features
#
# A linear rule on ten labelled images of each class, in ten draws. DiT has never seen a clean image in training, so its
# features are taken from slightly noisy ones, too, as its users do. The table has the deviation over the draws: differences
# that are smaller mean nothing.

# %%
probe = evaluation.FewShotProbe(shots=10, num_draws=10)


def tokens(model, x, timesteps=0):
    extractor = model.feature_extractor(pooling=None, timesteps=timesteps, seed=0)
    return extractor.predict(x, verbose=0).reshape(len(x), -1)


print("                       seconds   clean images   at level 50")
for name, model in models.items():
    row = f"{name:18}{seconds[name]:12.1f}"
    for timesteps in (0, 50) if name != "MAE" else (0,):
        draws = probe.accuracies(
            (tokens(model, train[0], timesteps), train[1]), (tokens(model, test[0], timesteps), test[1])
        )
        row += f"   {np.mean(draws):.3f} +- {np.std(draws):.3f}"
    print(row)
draws = probe.accuracies(
    (train[0].reshape(1500, -1) / 255, train[1]), (test[0].reshape(len(test[0]), -1) / 255, test[1])
)
print(f"{'pixels':30}   {np.mean(draws):.3f} +- {np.std(draws):.3f}")

# %% [markdown]
# ## Images
#
# No labels were used, so each model draws whatever it likes, from the same noise. MAE can't take part: it has seen no noise,
# and says so.

# %%
try:
    models["MAE"].generate(num_images=1)
except ValueError as error:
    print(error)

# %%
generators = [name for name in models if name != "MAE"]
samples = [
    plots.image_grid(models[name].generate(num_images=32, num_steps=20, sampler="dpmpp_2m", seed=0), 8, scale=4)
    for name in generators
]
plots.captioned([samples], [""], generators)

# %% [markdown]
# ## Who won?
#
# Nobody, yet. There is one seed, one size and a tenth of the training that each deserves. What would make it a result:
#
# - several seeds, and the deviation over them, not only over draws of the probe;
# - the same time instead of the same steps, and a rate chosen for each;
# - a number for the images. `evaluation.evaluate_generator` gives one, with a card that says how it was measured.
#
# [Fashion-MNIST, four methods](../benchmarks.md#does-the-papers-order-appear) has that for a training of minutes: MAE is
# best in features, DiT in images, and UMD is between them in both at half of DiT's cost.
