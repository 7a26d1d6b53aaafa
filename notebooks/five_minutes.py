# %% [markdown]
# # Five minutes with digits
#
# One training, two gifts: vectors that tell what is in an image, and new images. Here with the 1,797 handwritten digits
# that come with scikit-learn, of 8x8 pixels each, and without a GPU: it is over in about a minute.

# %%
import os

os.environ.setdefault("KERAS_BACKEND", "torch")  # before Keras; PyTorch starts at once, JAX compiles first

import keras
import numpy as np
from sklearn.datasets import load_digits

import keras_umd
from keras_umd import plots

keras.utils.set_random_seed(0)
digits = load_digits()
order = np.random.default_rng(0).permutation(len(digits.images))
images = np.round(digits.images[order, ..., None] * 255 / 16).astype("uint8")  # (1797, 8, 8, 1)
labels = digits.target[order]
train, test = (images[:1500], labels[:1500]), (images[1500:], labels[1500:])

plots.image_grid(images[:40], columns=20, scale=4)

# %% [markdown]
# ## A recipe for small images
#
# `recipes.small` chooses the network, the size of its patches, the learning rate and how to sample, for a number of steps
# or of minutes. For digits of 8x8 pixels, half of its blocks will do, and one core is done in half of the time. `summary`
# says what came out: an eighth of each batch stays clean and loses most of its patches, which teaches the encoder; the
# others get noise, which teaches to generate.

# %%
recipe = keras_umd.recipes.small(len(train[0]), steps=350, image_shape=(8, 8, 1), num_classes=10, seed=0)
model = keras_umd.UMD(**{**recipe.settings, "num_layers": 2, "decoder_layers": 1})  # or recipe.model, as it is
model.summary()

# %% [markdown]
# ## Train
#
# It is a Keras model, so `compile` and `fit` are all there is.

# %%
model.compile(recipe.optimizer)
history = model.fit(*train, batch_size=recipe.batch_size, epochs=recipe.epochs, verbose=0)
for name, losses in history.history.items():
    print(f"{name:16} {losses[0]:.3f} in the first epoch, {losses[-1]:.3f} in the last")

# %% [markdown]
# ## First gift: it fills in what it can't see
#
# Half of the patches of digits that it has never met are hidden. Above the originals, then what it was given, then its
# guess. Where it is wrong, ask whether you would have been right.

# %%
unseen = test[0][:12]
plots.reconstruction_grid(unseen, model.reconstruct(unseen, mask_ratio=0.5, seed=0), scale=5)

# %% [markdown]
# To fill gaps, it had to learn what digits are. So its features make a good start for a classifier: ten labelled images of
# each class, a linear rule, and no further training. Raw pixels are the bar to jump over.

# %%
extractor = model.feature_extractor(pooling=None)  # a vector for every patch


def features(x):
    return extractor.predict(x, verbose=0).reshape(len(x), -1)


probe = keras_umd.evaluation.FewShotProbe(shots=10, num_draws=10)
for name, of in {"features": features, "pixels": lambda x: x.reshape(len(x), -1) / 255.0}.items():
    draws = probe.accuracies((of(train[0]), train[1]), (of(test[0]), test[1]))
    print(f"10 images a class, {name:8}: {np.mean(draws):.3f} +- {np.std(draws):.3f} of the unseen digits are right")

# %% [markdown]
# ## Second gift: it draws
#
# From noise to digits in twenty steps, a row for each class. They are clear, and much alike: guidance of 2, which the
# recipe takes, pulls towards the middle of a class. With `guidance=1.0`, and a longer training, there is more variety. The
# strips below show the way of three of them.

# %%
wanted = np.repeat(np.arange(10), 16)
plots.image_grid(model.generate(wanted, seed=0, **recipe.sampling), columns=16, scale=3)

# %%
plots.strips(model.trajectory([3, 5, 8], num_frames=11, seed=1, **recipe.sampling), scale=6)

# %% [markdown]
# Keep it, and go on with it anywhere: on another backend, in another model, with other classes.

# %%
model.save("digits.keras")
again = keras.saving.load_model("digits.keras")
print(np.abs(again.predict(unseen, verbose=0) - model.predict(unseen, verbose=0)).max())

# %% [markdown]
# From here: [what the encoder sees](what_the_encoder_sees.md), [how sampling works](how_sampling_works.md), or
# [your own images](your_own_data.md).
