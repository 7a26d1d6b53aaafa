# %% [markdown]
# # Your own data
#
# From a folder of images to a model of one's own: what to look at before, while and after. The folder here has pictures
# of chess pieces, as type designers drew them: the fonts that come with matplotlib have them. With images of yours,
# leave the next two cells out.

# %%
import os

os.environ.setdefault("KERAS_BACKEND", "torch")

import pathlib

import keras
import numpy as np
from matplotlib import get_data_path
from PIL import Image, ImageDraw, ImageFont

import keras_umd
from keras_umd import callbacks, data, plots, recipes

keras.utils.set_random_seed(0)
rng = np.random.default_rng(0)
FONT = pathlib.Path(get_data_path(), "fonts", "ttf", "DejaVuSans.ttf")
PIECES = ("king", "queen", "rook", "bishop", "knight", "pawn")  # from U+2654 outlines, from U+265A filled


def draw(number, side=48):
    """A white or a black piece on a light or a dark square, larger or smaller, and not quite in the middle."""
    image = Image.new("L", (side, side), (255, 170)[rng.integers(2)])
    font = ImageFont.truetype(str(FONT), int(rng.integers(44, 50)))
    middle, is_white = tuple(side / 2 + rng.uniform(-2, 2, 2)), rng.integers(2)
    write = ImageDraw.Draw(image).text
    write(middle, chr(0x265A + number), 255 if is_white else 0, font, anchor="mm")
    if is_white:
        write(middle, chr(0x2654 + number), 0, font, anchor="mm")
    return image


# %%
for number, piece in enumerate(PIECES):
    pathlib.Path("chess", piece).mkdir(parents=True)
    for i in range(150):
        draw(number).save(f"chess/{piece}/{i:03}.png")

# %% [markdown]
# ## Look at it first
#
# A reader crops to one size and finds the classes in the folders' names. The first look is free, and saves hours: are
# they upright, are the colours right, does anything important lie outside of the crop?

# %%
SIDE = 16
everything = data.from_folder("chess", image_size=SIDE, channels=1, batch_size=300, training=False)
images, labels = everything.as_arrays(verbose=False)
print(everything.class_names, images.shape, images.dtype, "values from", images.min(), "to", images.max())
shown = np.concatenate([images[labels == k][:16] for k in range(6)])
plots.image_grid(shown, columns=16, scale=3)

# %% [markdown]
# Some stay out of the training, to be looked at later. They must not be neighbours of those that are trained on, such as
# frames of one video.

# %%
order = rng.permutation(len(images))
train, test = order[:840], order[840:]

# %% [markdown]
# ## Let a recipe choose
#
# Say how many steps, or how many `minutes`; size, patches, rate and sampler follow. Look at *patches seen* in the summary:
# below sixteen or so, an image is a mosaic of too few stones.

# %%
recipe = recipes.small(len(train), steps=350, image_shape=(SIDE, SIDE, 1), num_classes=6, seed=0)
print(recipe)

# %% [markdown]
# That would take minutes of one core. Larger patches and half of the blocks will do for six pieces, so that this page is
# done in one. With images of yours, take `recipe.model` as it is.

# %%
less = {"patch_size": 4, "hidden_dim": 96, "num_layers": 2, "decoder_layers": 1, "num_heads": 3}
model = keras_umd.UMD(**{**recipe.settings, **less})
model.summary()

# %% [markdown]
# ## Train, in a folder
#
# `standard` makes the training a *run*: model, losses and checkpoints in a folder. Interrupt the cell, run it again, and it
# goes on where it was. Photographs gain by random crops and flips; these are taken whole, and a knight looks to the left.

# %%
model.compile(recipe.optimizer)
whole = {"area_range": (1.0, 1.0), "flip": False}
batches = data.on_device(images[train], labels[train], batch_size=recipe.batch_size, **whole)
model.fit(batches, epochs=recipe.epochs, callbacks=callbacks.standard("runs/chess", dataset=batches), verbose=0)
print(*sorted(path.name for path in pathlib.Path("runs/chess").iterdir()), sep="\n")

# %% [markdown]
# ## Does it understand?
#
# Unseen images with half of their patches hidden. If these are wrong, samples will be, too.

# %%
plots.reconstruction_grid(images[test][:12], model.reconstruct(images[test][:12], mask_ratio=0.5, seed=0), scale=3)

# %% [markdown]
# ## Does it draw?
#
# A row for each class. Compare with the rows at the top: are outlines closed, is a square of one colour, are some pieces
# missing? After so short a training most can be told, with ghosts around them.

# %%
wanted = np.repeat(np.arange(6), 12)
samples = model.generate(wanted, seed=0, **recipe.sampling)
plots.image_grid(samples, columns=12, scale=3)

# %% [markdown]
# Are they new, or learned by heart? Below each sample is the training image that is nearest to it, pixel by pixel.

# %%
few = samples[::6]
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
    given, {"masked": np.where(half, 128, given).astype("uint8"), "reconstruction": completed}, scale=3
)

# %% [markdown]
# ## Take it with you
#
# A folder with weights, settings and a card, that `UMD.from_preset` opens on any backend.

# %%
model.save_to_preset("my_chess", description="Chess pieces of 16x16 pixels.")
again = keras_umd.UMD.from_preset("my_chess")
print(np.array_equal(again.generate([0], seed=1, num_steps=5), model.generate([0], seed=1, num_steps=5)))

# %% [markdown]
# The same without Python: `keras-umd pretrain chess --minutes 5`, then `keras-umd generate runs/chess`
# ([the command line](../command_line.md)). For photographs, larger images and features as the aim, read
# [Pre-train](../guides/pretrain.md).
