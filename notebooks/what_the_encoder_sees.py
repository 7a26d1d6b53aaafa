# %% [markdown]
# # What the encoder sees
#
# An encoder gives numbers, and numbers are hard to look at. Here are five ways of turning them into pictures, on the two
# photographs that come with scikit-learn: a Chinese palace and a flower. A masked autoencoder is trained on pieces of
# them for half a minute, without being told what they show.

# %%
import os

os.environ.setdefault("KERAS_BACKEND", "torch")

import keras
import numpy as np
from sklearn.datasets import load_sample_images

import keras_umd
from keras_umd import plots
from keras_umd.corruption import masks

keras.utils.set_random_seed(0)
SIDE = 32
photographs = [photo[:: 427 // 213, :: 640 // 320][:192, :320] for photo in load_sample_images().images]
plots.image_grid(np.stack(photographs)[:, ::2, ::2])

# %% [markdown]
# ## Masks: how little is enough?
#
# Of each piece of 8 x 8 patches, three quarters are hidden. Which ones is a choice: at random; in clusters, by filtered
# noise; or as one block. Dark is hidden.

# %%
drawn = [masks.Random(0.75), masks.ColorNoise("green", 0.75), masks.Block(0.75)]
pictures = [[plots.masks(mask, grid=(8, 8), num_images=8, scale=5)] for mask in drawn]
plots.captioned(pictures, ["random", "green noise", "blocks"], ["three kinds of masks"])

# %% [markdown]
# ## Train on pieces
#
# 2,000 pieces of 32x32 pixels, from the left three quarters of the photographs. The rest stays unseen.

# %%
rng = np.random.default_rng(0)


def pieces(number, left, right):
    """Pieces from between two columns, and the photograph each is from."""
    of = rng.integers(0, 2, number)
    rows, columns = rng.integers(0, 192 - SIDE, number), rng.integers(left, right - SIDE, number)
    cut = [photographs[k][i : i + SIDE, j : j + SIDE] for k, i, j in zip(of, rows, columns, strict=True)]
    return np.stack(cut), of


train, train_labels = pieces(2000, 0, 240)
test, test_labels = pieces(200, 240, 320)

model = keras_umd.UMD(
    (SIDE, SIDE, 3),
    patch_size=4,
    hidden_dim=96,
    num_layers=3,
    num_heads=4,
    decoder_layers=1,
    corruption=keras_umd.Corruption.mae(),
    conditioning="token",
    seed=0,
)
untrained = model.feature_extractor(pooling=None)
steps_per_epoch = len(train) // 50
model.compile(keras_umd.recipes.pretraining_optimizer(12 * steps_per_epoch, 50, base_learning_rate=8e-3))
losses = model.fit(train, batch_size=50, epochs=12, verbose=0).history["loss"]
print("loss of the first and of the last epoch:", round(losses[0], 3), round(losses[-1], 3))

# %% [markdown]
# ## Reconstructions
#
# Pieces that it never saw: whole, as they were given to it, and as it fills them in. It is blurred where several answers
# were possible. That isn't a fault: the mean of all answers has the smallest error.

# %%
plots.reconstruction_grid(test[:10], model.reconstruct(test[:10], mask_ratio=0.75, seed=0), scale=2)

# %% [markdown]
# ## Principal components as colours
#
# Now the encoder looks at whole photographs, piece by piece, and gives 96 numbers for each patch of 4 x 4 pixels. Their
# three strongest directions become red, green and blue. What has the same colour is the same to the encoder.
#
# A patch's numbers also tell *where* in the piece it lies. That is taken out first, by the mean over all pieces, or one
# would see the grid of the pieces.

# %%
extractor = model.feature_extractor(pooling=None)


def token_map(extractor, photo):
    """The tokens of a photograph `(48, 80, 96)`, without what is the same in all pieces."""
    tiles = photo.reshape(6, SIDE, 10, SIDE, 3).swapaxes(1, 2).reshape(-1, SIDE, SIDE, 3)
    tokens = extractor.predict(tiles, verbose=0)  # (60, 64, 96)
    tokens = tokens - tokens.mean(axis=0)
    return tokens.reshape(6, 10, 8, 8, -1).swapaxes(1, 2).reshape(48, 80, -1)


def as_colours(tokens):
    flat = tokens.reshape(-1, tokens.shape[-1])
    flat = (flat - flat.mean(axis=0)) / (flat.std(axis=0) + 1e-6)
    _, directions = np.linalg.eigh(flat.T @ flat)
    strongest = flat @ directions[:, -3:]
    low, high = np.quantile(strongest, [0.02, 0.98], axis=0)
    colours = np.clip((strongest - low) / (high - low), 0, 1)
    return (255 * colours).astype("uint8").reshape(*tokens.shape[:2], 3)


maps = [token_map(extractor, photo) for photo in photographs]
coloured = [as_colours(tokens).repeat(4, axis=0).repeat(4, axis=1) for tokens in maps]
plots.image_grid(np.stack([*photographs, *coloured])[:, ::2, ::2], columns=2)

# %% [markdown]
# ## One patch asks: who is like me?
#
# The cosine between one patch's features and those of all others. Bright is alike. The patch that asks is white: in the
# roof, in the sky, in the flower, in the leaves.

# %%
questions = [(0, 20, 40), (0, 4, 60), (1, 24, 40), (1, 6, 6)]
answers = []
for k, i, j in questions:
    directions = maps[k] / np.linalg.norm(maps[k], axis=-1, keepdims=True)
    likeness = np.clip(directions @ directions[i, j], 0, 1)
    heat = (255 * likeness[..., None] * np.array([1.0, 0.75, 0.35])).astype("uint8").repeat(4, axis=0).repeat(4, axis=1)
    heat[4 * i - 2 : 4 * i + 6, 4 * j - 2 : 4 * j + 6] = 255
    answers.append(heat)
plots.image_grid(np.stack(answers), columns=2)

# %% [markdown]
# ## Where a probe looks
#
# A classifier that may choose among the patches, by attention, learns to tell the palace from the flower. Its maps show
# which patches it weighs, on pieces that neither it nor the encoder has seen.

# %%
probe = keras_umd.evaluation.EfficientProbe(num_queries=4, epochs=15)
tokens = {name: extractor.predict(x, verbose=0) for name, x in {"train": train[:600], "test": test}.items()}
(accuracy,) = probe.accuracies((tokens["train"], train_labels[:600]), (tokens["test"], test_labels))
print(f"{accuracy:.3f} of the unseen pieces are told apart")
plots.attention_grid(test[:6], probe.attention_maps(tokens["test"][:6]), grid=(8, 8), num_queries=3, scale=2)

# %% [markdown]
# ## Nearest neighbours
#
# The first column is an unseen piece, the others are those training pieces whose features, the mean over the patches, are
# most like its own. The last two rows are asked of the same network before it was trained.

# %%


def neighbours(extractor, questions, number=9):
    """Questions, each followed by its neighbours among the training pieces."""

    def directions(x):
        means = extractor.predict(x, verbose=0).mean(axis=1)
        means = means - extractor_mean
        return means / np.linalg.norm(means, axis=1, keepdims=True)

    extractor_mean = extractor.predict(train[:200], verbose=0).mean(axis=(0, 1))
    nearest = np.argsort(-directions(questions) @ directions(train).T, axis=1)[:, :number]
    return np.concatenate(
        [np.concatenate([x[None], train[chosen]]) for x, chosen in zip(questions, nearest, strict=True)]
    )


asked = test[[1, 4, 7, 12]]
rows = np.concatenate([neighbours(extractor, asked), neighbours(untrained, asked[:2])])
plots.image_grid(rows, columns=10, scale=2)

# %% [markdown]
# What is found there, and where it fails, is worth a look before any table of scores. Two photographs and half a minute
# teach colours, edges and textures; for objects it takes many images and hours. The code stays the same:
# [Features](../guides/features.md).
