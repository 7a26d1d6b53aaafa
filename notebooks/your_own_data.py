# %% [markdown]
# # Your own data
#
# From a folder of images to a model of one's own: what to look at before, while and after. The folder is made here, so
# that the notebook runs anywhere: shapes of three kinds on coloured paper. With yours, leave that cell out.

# %%
import os

os.environ.setdefault("KERAS_BACKEND", "torch")

import pathlib

import keras
import numpy as np

import keras_umd
from keras_umd import callbacks, data, plots, recipes

keras.utils.set_random_seed(0)
rng = np.random.default_rng(0)
rows, columns = np.mgrid[:48, :48]


def draw(kind):
    """A disc, a square or a cross, red, blue or green, on white or yellow paper."""
    y, x = rng.uniform(18, 30, 2)
    size, angle = rng.uniform(9, 15), rng.uniform(0, np.pi / 2)
    u = (columns - x) * np.cos(angle) + (rows - y) * np.sin(angle)
    v = (rows - y) * np.cos(angle) - (columns - x) * np.sin(angle)
    inside = {
        "disc": u**2 + v**2 < size**2,
        "square": np.maximum(abs(u), abs(v)) < 0.85 * size,
        "cross": (np.minimum(abs(u), abs(v)) < size / 3.5) & (np.maximum(abs(u), abs(v)) < 1.1 * size),
    }[kind]
    ink = [(200, 30, 40), (20, 90, 200), (10, 130, 60)][rng.integers(3)]
    paper = [(255, 255, 255), (255, 240, 190)][rng.integers(2)]
    return np.where(inside[..., None], ink, paper).astype("uint8")


for kind in ("cross", "disc", "square"):
    for number in range(250):
        plots.save_image(f"shapes/{kind}/{number:03}.png", draw(kind))

# %% [markdown]
# ## Look at it first
#
# A reader crops to one size and finds the classes in the folders' names. The first look is free, and saves hours: are
# they upright, are the colours right, does anything important lie outside of the crop?

# %%
SIDE = 24
everything = data.from_folder("shapes", image_size=SIDE, batch_size=250, training=False)
images, labels = everything.as_arrays(verbose=False)
print(everything.class_names, images.shape, images.dtype, "grey levels from", images.min(), "to", images.max())
shown = np.concatenate([images[labels == k][:16] for k in range(3)])
plots.image_grid(shown, columns=16, scale=2)

# %% [markdown]
# Some stay out of the training, to be looked at later. They must not be neighbours of those that are trained on, such as
# frames of one video.

# %%
order = rng.permutation(len(images))
train, test = order[:690], order[690:]

# %% [markdown]
# ## Let a recipe choose
#
# Say how many steps, or how many `minutes`; size, patches, rate and sampler follow. Look at *patches seen* in the summary:
# below sixteen or so, an image is a mosaic of too few stones.

# %%
recipe = recipes.small(len(train), steps=450, image_shape=(SIDE, SIDE, 3), num_classes=3, seed=0)
model = recipe.model
model.summary()

# %% [markdown]
# ## Train, in a folder
#
# `standard` makes the training a *run*: model, losses and checkpoints in a folder. Interrupt the cell, run it again, and it
# goes on where it was.

# %%
model.compile(recipe.optimizer)
batches = data.on_device(images[train], labels[train], batch_size=recipe.batch_size, area_range=(0.9, 1.0))
model.fit(batches, epochs=recipe.epochs, callbacks=callbacks.standard("runs/shapes"), verbose=0)
print(*sorted(path.name for path in pathlib.Path("runs/shapes").iterdir()), sep="\n")

# %% [markdown]
# ## Does it understand?
#
# Unseen images with half of their patches hidden. If these are wrong, samples will be, too.

# %%
plots.reconstruction_grid(images[test][:12], model.reconstruct(images[test][:12], mask_ratio=0.5, seed=0), scale=2)

# %% [markdown]
# ## Does it draw?
#
# A row for each class. Compare with the rows at the top: are shapes closed, is the paper of one colour, are some missing?

# %%
wanted = np.repeat([0, 1, 2], 16)
samples = model.generate(wanted, seed=0, **recipe.sampling)
plots.image_grid(samples, columns=16, scale=2)

# %% [markdown]
# Are they new, or learned by heart? Below each sample is the training image that is nearest to it, pixel by pixel.

# %%
few = samples[[0, 1, 2, 16, 17, 18, 32, 33, 34]]
distances = ((few[:, None].astype("float32") - images[train][None]) ** 2).mean(axis=(2, 3, 4))
plots.image_grid(np.concatenate([few, images[train][distances.argmin(axis=1)]]), columns=len(few), scale=3)

# %% [markdown]
# ## Repair a picture
#
# The right half is made up, to fit the left. What was there stays, to the last bit.

# %%
half = np.zeros((1, SIDE, SIDE, 1), bool)
half[:, :, SIDE // 2 :] = True
given = images[test][:12]
completed = model.inpaint(given, half, labels=labels[test][:12], seed=0, **recipe.sampling)
plots.reconstruction_grid(
    given, {"masked": np.where(half, 128, given).astype("uint8"), "reconstruction": completed}, scale=2
)

# %% [markdown]
# ## Take it with you
#
# A folder with weights, settings and a card, that `UMD.from_preset` opens on any backend.

# %%
model.save_to_preset("my_shapes", description="Discs, squares and crosses.")
again = keras_umd.UMD.from_preset("my_shapes")
print(np.array_equal(again.generate([0], seed=1, num_steps=5), model.generate([0], seed=1, num_steps=5)))

# %% [markdown]
# The same without Python: `keras-umd pretrain shapes --minutes 5`, then `keras-umd generate runs/shapes`
# ([the command line](../command_line.md)). For photographs, larger images and features as the aim, read
# [Pre-train](../guides/pretrain.md).
