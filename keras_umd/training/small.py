"""A recipe for one's own few images on a small machine: pictures in minutes."""

import dataclasses
import math
import time
import warnings

import numpy as np
from keras.optimizers.schedules import CosineDecay

from keras_umd.models.arguments import is_shape
from keras_umd.models.umd import UMD
from keras_umd.training.optimizers import AdamW
from keras_umd.training.recipe import Recipe
from keras_umd.utils.checks import check_integers, check_numbers, check_positive_integers, require

BATCH_SIZE = 32
PEAK, PEAK_WIDTH = 2e-3, 128  # the rate at this width; wider networks get a lower one, by the widths' ratio
WARMUP = 200
TIMED_STEPS = 8
NUM_TOKENS = (36, 256)  # fewer see no shapes, more cost too much
FEW_STEPS = 1000  # after 1,229 steps emoji had outlines and colours, after 2,700 faces
SOURCE = "tried on emoji at 32x32 (docs/small_images.md); sizes above 128 wide are a rule of thumb"


@dataclasses.dataclass(frozen=True)
class Size:
    """A network, and how many steps and images it is worth its cost for: at first, steps count more than width."""

    hidden_dim: int
    num_layers: int
    decoder_layers: int
    num_heads: int
    steps: int
    images: int

    def settings(self):
        names = ("hidden_dim", "num_layers", "decoder_layers", "num_heads")
        return {name: getattr(self, name) for name in names}

    def cost(self, num_tokens):
        """FLOPs of matrix products of an image, up to a factor: those of the blocks."""
        blocks = self.num_layers + self.decoder_layers
        return blocks * num_tokens * self.hidden_dim * (12 * self.hidden_dim + 2 * num_tokens)


SIZES = (
    Size(128, 4, 2, 4, steps=0, images=0),
    Size(192, 6, 2, 6, steps=10_000, images=3_000),
    Size(256, 8, 3, 8, steps=20_000, images=10_000),
    Size(384, 12, 4, 6, steps=50_000, images=50_000),
)


def small(num_images, minutes=None, *, steps=None, image_shape=(32, 32, 3), num_classes=None, seed=None):
    """What to train on a few thousand images of one's own, for minutes on a small machine.

    It chooses the size of the network and of its patches, the rate, the number of epochs, the average and the settings
    of sampling. All patches of noisy images are predicted, by one head, as x_0, an eighth of the batch is for features;
    labels are learned from the first step. For `minutes`, it times a few steps of the network that it chooses.

    Example:

    >>> recipe = recipes.small(len(images), steps=3, image_shape=(8, 8, 1), num_classes=3)    # or minutes=15
    >>> recipe.model.compile(recipe.optimizer)
    >>> recipe.model.fit(images, labels, batch_size=recipe.batch_size, epochs=recipe.epochs)
    >>> pictures = recipe.model.generate([0, 1, 2], **recipe.sampling)

    Args:
        num_images: Integer, the images of an epoch.
        minutes: Positive number, the time that training may take, compilation included. docs/small_images.md has
            what images of 32x32 look like after 4 and 9 minutes on two cores.
        steps: Integer, the number of steps instead of the minutes; then nothing is timed.
        image_shape: Tuple `(*space, channels)`, whose space axes have a common divisor of 2 or more.
        num_classes: Integer, or `None` for images without labels.
        seed: As of `UMD`.

    Returns:
        `Recipe`, with a `model` that has fresh weights; `settings` are its arguments. It stops at the full epoch that
        is next to the time, `callbacks.StopAfter` at the minute.

    Raises:
        ValueError: for shapes without a fitting patch.
    """
    check_positive_integers(num_images=num_images)
    require(
        (minutes is None) != (steps is None), "Either `minutes` or `steps` is needed.", minutes=minutes, steps=steps
    )
    check_numbers("(0, 1000000]", optional=True, minutes=minutes)
    check_integers(1, optional=True, steps=steps)
    require(is_shape(image_shape), "`image_shape` must be a tuple (*space, channels).", image_shape=image_shape)
    check_integers(1, optional=True, num_classes=num_classes)
    num_images, image_shape = int(num_images), tuple(map(int, image_shape))
    batch_size = min(BATCH_SIZE, num_images)
    patch_size = choose_patch(image_shape)
    task = {"image_shape": image_shape, "patch_size": patch_size, "num_classes": num_classes, **UMD.presets["umd_x0"]()}
    if steps is None:
        size, steps = fitting(task, num_images, 60.0 * minutes, batch_size)
    else:
        size = choose_size(lambda size: steps, num_images)
    steps_per_epoch = max(1, num_images // batch_size)
    steps = int(steps)
    settings = {**size.settings(), **task, "seed": seed}
    decay = average_decay(steps)
    return Recipe(
        "small images",
        AdamW(_rate(size, steps), beta_2=0.99, weight_decay=0.0, global_clipnorm=1.0, ema_decay=[decay]),
        batch_size,
        max(1, round(steps / steps_per_epoch)),
        steps,
        averages=(decay,),
        settings=settings,
        sampling={"num_steps": 20, "sampler": "dpmpp_2m", "guidance": 1.0 if num_classes is None else 2.0},
        source=SOURCE,
        model=UMD(**settings),
    )


def choose_patch(image_shape):
    """The side of a patch: the largest that a token of 128 carries and that leaves enough tokens to see shapes."""
    *space, channels = image_shape
    divisors = [p for p in range(2, max(space) + 1) if all(length % p == 0 for length in space)]

    def num_tokens(p):
        return math.prod(length // p for length in space)

    carried = [p for p in divisors if 2 * channels * p ** len(space) <= SIZES[0].hidden_dim]
    enough = [p for p in carried if num_tokens(p) >= NUM_TOKENS[0]] or carried[:1]
    require(
        enough,
        "`image_shape` has no small patch that divides it; resize the images, for example to 32x32 pixels.",
        image_shape=image_shape,
    )
    if num_tokens(enough[-1]) > NUM_TOKENS[1]:
        warnings.warn(
            f"Images of {image_shape} have {num_tokens(enough[-1])} patches, which take long; for pictures in minutes "
            "make the images smaller, for example 32x32 pixels.",
            stacklevel=3,
        )
    return enough[-1]


def choose_size(steps_of, num_images):
    """The largest size that has its steps and its images; `steps_of` says how many steps a size can have."""
    fitting = [size for size in SIZES if steps_of(size) >= size.steps and num_images >= size.images]
    return (fitting or [SIZES[0]])[-1]


def average_decay(steps):
    """The decay of an average over the last 7% or so of the training: 0.995 for 2,700 steps."""
    return round(min(max(1 - 1 / (0.074 * steps + 1), 0.5), 0.9999), 4)


def _rate(size, steps):
    """To the peak in a tenth of the steps, at most 200, then half a cosine down to a tenth of it."""
    peak, warmup = PEAK * PEAK_WIDTH / size.hidden_dim, min(WARMUP, steps // 10)
    if not warmup:
        return CosineDecay(peak, steps, alpha=0.1)
    return CosineDecay(0.0, steps - warmup, alpha=0.1, warmup_target=peak, warmup_steps=warmup)


def fitting(task, num_images, seconds, batch_size):
    """The size and its number of steps in this time, from a few steps of the smallest network and of that size.

    Args:
        task: Dictionary, arguments of `UMD` beside those of a size.
        num_images: Integer.
        seconds: Float.
        batch_size: Integer.

    Returns:
        `Size` and an integer.
    """
    num_tokens = math.prod(length // task["patch_size"] for length in task["image_shape"][:-1])
    smallest = SIZES[0]
    overhead, of_smallest = time_steps({**smallest.settings(), **task}, batch_size)
    left = seconds - 2 * overhead

    def steps_of(size):
        return left / (of_smallest * size.cost(num_tokens) / smallest.cost(num_tokens))

    size = choose_size(steps_of, num_images)
    steps = steps_of(size)
    if size is not smallest:
        steps = steps_within({**size.settings(), **task}, left, batch_size)
    steps = max(1, int(steps))
    if steps < FEW_STEPS:
        # Compilation is what PyTorch has none of.
        smaller = ", or smaller images, for example 32x32 pixels" if max(task["image_shape"][:-1]) > 32 else ""
        begun = f" beside {2 * overhead:.0f} s to begin, here and in the training" if left < 0.9 * seconds else ""
        warnings.warn(
            f"Only {steps} steps of {of_smallest:.2g} s fit into {seconds / 60:g} minutes{begun}; pictures need about "
            f"2,500. Give it more minutes{smaller}.",
            stacklevel=3,
        )
    return size, steps


def steps_within(settings, seconds, batch_size):
    """How many steps of a network fit into a time, with its compilation here and in the training; at least 1."""
    overhead, of_step = time_steps(settings, batch_size)
    return max(1, int((seconds - 2 * overhead) / of_step))


def time_steps(settings, batch_size):
    """Seconds until the second step of a training is done, compilation above all, and of a step after it."""
    started = time.perf_counter()
    model = UMD(**settings, seed=0)
    model.compile(AdamW(PEAK, global_clipnorm=1.0, ema_decay=[0.99]))
    rng = np.random.default_rng(0)
    low, high = model.value_range
    batch = [rng.uniform(low, high, (batch_size, *model.image_shape)).astype("float32")]
    if model.num_classes is not None:
        batch.append(np.arange(batch_size, dtype="int32") % model.num_classes)
    for _ in range(2):
        model.train_on_batch(*batch)  # returns when the losses are there
    compiled = time.perf_counter()
    for _ in range(TIMED_STEPS):
        model.train_on_batch(*batch)
    return compiled - started, (time.perf_counter() - compiled) / TIMED_STEPS
