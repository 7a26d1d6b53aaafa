# %% [markdown]
# # How sampling works, step by step
#
# A generator of this kind knows one trick: shown a noisy image, it guesses the clean one. This notebook takes the trick
# apart, then puts it together again until digits come out. It trains nothing: a small model of digits comes with the
# library.

# %%
import os

os.environ.setdefault("KERAS_BACKEND", "torch")

import numpy as np
from keras import ops
from sklearn.datasets import load_digits

import keras_umd
from keras_umd import guidance, plots, samplers

model = keras_umd.UMD.from_preset("umd_digits")
images = np.round(load_digits().images[..., None] * 255 / 16).astype("uint8")
labels = load_digits().target
rng = np.random.default_rng(0)


def as_uint8(x):
    """Floats of the model's range (-1, 1) as pixels."""
    return np.clip(np.round((np.asarray(x) + 1) * 127.5), 0, 255).astype("uint8")


# %% [markdown]
# ## Noise, by the metre
#
# Time runs from 0, the image, to 1000, noise. The *schedule* says how much is left of the image, and how much noise is
# on it:
#
#     x_t = signal(t) x_0 + sigma(t) noise
#
# Four digits on their way. At which time do *you* lose them?

# %%
schedule = model.corruption.noise_schedule
times = [0, 100, 200, 300, 400, 500, 600, 700, 800, 900, 1000]
levels = schedule.levels(np.array(times))
for name in ("signal", "sigma"):
    print(f"{name:7}" + "".join(f"{value:6.2f}" for value in levels[name]))

x0 = images[[0, 13, 25, 37]] / 127.5 - 1.0
noise = rng.normal(size=x0.shape)
noisy = np.stack([s * x0 + n * noise for s, n in zip(levels["signal"], levels["sigma"], strict=True)])
plots.strips(as_uint8(noisy), scale=6)

# %% [markdown]
# ## The trick
#
# `estimate` asks the network. Below each time stands what it believes was there. With little noise it copies; with much
# it can only say what digits look like on average: a grey blob. In between it decides.

# %%


def guess(x_t, t, label=None):
    """The clean image that the network believes in, and the noise that it then sees."""
    x_t = ops.convert_to_tensor(np.asarray(x_t, "float32"))
    label = None if label is None else ops.convert_to_tensor(np.asarray(label, "int32"))
    eps = ops.convert_to_numpy(model.estimate(x_t, ops.convert_to_tensor([float(t)]), label)["eps"])
    level = schedule.levels(np.array([float(t)]))
    return (np.asarray(x_t) - level["sigma"] * eps) / level["signal"], eps


beliefs = np.stack([x0, *(np.clip(guess(x_t, t)[0], -1, 1) for x_t, t in zip(noisy[1:-1], times[1:-1], strict=True))])
plots.strips(as_uint8(beliefs), scale=6)

# %% [markdown]
# ## Twenty guesses in a row
#
# One guess from pure noise is a blob. So don't believe it: go a small step towards it, and ask again. Each step mixes the
# guess with the noise that belongs to the next, lower level. This loop is DDIM, all of it. Not every digit is a good one
# yet; guidance, below, helps.

# %%
x = rng.normal(size=(10, 8, 8, 1))
wanted = np.arange(10)
way = np.linspace(999, 0, 21)
frames = []
for now, after in zip(way[:-1], way[1:], strict=True):
    x0_guess, _ = guess(x, now, wanted)
    x0_guess = np.clip(x0_guess, -1, 1)
    level, following = (schedule.levels(np.array([round(t)])) for t in (now, after))
    eps = (x - level["signal"] * x0_guess) / level["sigma"]
    x = following["signal"] * x0_guess + following["sigma"] * eps
    frames.append(x)
plots.image_grid(as_uint8(x), columns=10, scale=6)

# %% [markdown]
# And the way there, three digits, every other step:

# %%
plots.strips(as_uint8(np.stack(frames[1::2])[:, [2, 4, 9]]), scale=6)

# %% [markdown]
# ## Fewer steps, better steps
#
# `generate` is that loop, compiled, with better arithmetic to choose from. A sampler of second order bends with the path
# instead of cutting corners, which shows where steps are few. Rows: DDIM, and DPM-Solver++; columns: 3, 5, 10, 20 calls
# of the network, the same noise everywhere.

# %%
cells = [
    [
        plots.image_grid(model.generate(wanted[:8], sampler=s, num_steps=k, seed=4), columns=4, scale=4)
        for k in (3, 5, 10, 20)
    ]
    for s in (samplers.DDIM(0.0), samplers.DPMSolverPP2M())
]
plots.captioned(cells, ["DDIM", "DPM-Solver++"], ["3 steps", "5 steps", "10 steps", "20 steps"])

# %% [markdown]
# ## Guidance
#
# The network was trained with labels, and without them a tenth of the time. So one can ask twice, with and without the
# label, and walk further in the direction in which the label pulls:
#
#     guided = weak + scale (strong - weak)
#
# At 1 it is off. At 2 the digits agree with their labels. At 8 they shout.

# %%
plots.guidance_grid(model, np.arange(8), guidance=(1.0, 2.0, 8.0), num_steps=(5, 20), scale=4, sampler="dpmpp_2m")

# %% [markdown]
# It can also be on for a part of the way only: where there is much noise it makes all samples alike, so leave it off
# there. Left: always on. Right: only while there is between 0.2 and 3 times as much noise as image. Digits of 8x8
# pixels hardly show it; photographs do, and the steps outside cost half.

# %%
always = model.generate(np.repeat([3, 8], 10), guidance=4.0, num_steps=20, sampler="dpmpp_2m", seed=5)
inside = guidance.Interval(4.0, low=0.2, high=3.0)
sometimes = model.generate(np.repeat([3, 8], 10), guidance=inside, num_steps=20, sampler="dpmpp_2m", seed=5)
pictures = [[plots.image_grid(x, columns=5, scale=5) for x in (always, sometimes)]]
plots.captioned(pictures, [""], ["always", "in an interval"])

# %% [markdown]
# ## Same seed, same digit
#
# Image k of a seed is the same image, whatever the batch, the number of devices or the backend. That makes comparisons
# fair, and lets you find a sample again.

# %%
alone = model.generate([7], num_steps=20, sampler="dpmpp_2m", seed=6, image_indices=[2])
together = model.generate([1, 1, 7], num_steps=20, sampler="dpmpp_2m", seed=6)
print("largest difference in grey levels:", np.abs(alone[0].astype(int) - together[2]).max())
