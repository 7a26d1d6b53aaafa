"""What a published training consists of, as one object; and the recipe for training with labels from the first step."""

import dataclasses
import math
from typing import Any

import keras

from keras_umd.sampling import samplers
from keras_umd.sampling.guidance import Interval
from keras_umd.training.optimizers import AdamW, Muon, constant_with_warmup, warn_of_a_tiny_rate
from keras_umd.utils.checks import (
    check_decays,
    check_instances,
    check_integers,
    check_numbers,
    check_positive_integers,
    is_list,
    is_pair,
    require,
)

JIT_BASE_RATE = 5e-5  # at batch size 256: 2e-4 at JiT's 1024
JIT_DECAYS = (0.9996, 0.9998, 0.9999)
JIT_GUIDANCE = 2.9  # of its size B; L has 2.4, H 2.2
JIT_INTERVAL = (0.0, 9.0)  # noise over signal: its times 0.1 to 1


@dataclasses.dataclass(frozen=True, eq=False)
class Recipe:
    """A training by settings that belong together. Printing it shows all of them.

    Example:

    >>> recipe = recipes.small(len(images), steps=100, image_shape=(8, 8, 1), num_classes=3)
    >>> recipe.batch_size, recipe.sampling["sampler"]
    (24, 'dpmpp_2m')

    Attributes:
        name: String.
        optimizer: Keras optimizer, for `compile`.
        batch_size, epochs: Integers, for `fit`.
        total_steps: Integer, the updates of all epochs.
        averages: Tuple of decays and `PowerProfile`s, which the optimizer asks for.
        settings: Dictionary, arguments for the model, as `UMD.from_preset(name, **recipe.settings)`.
        sampling: Dictionary, arguments for `generate`.
        source: String, where the numbers are from.
        model: Keras model that is to be trained, where the recipe makes one.
        loss: Keras loss for it.
    """

    name: str
    optimizer: Any
    batch_size: int
    epochs: int
    total_steps: int
    averages: tuple = ()
    settings: dict = dataclasses.field(default_factory=dict)
    sampling: dict = dataclasses.field(default_factory=dict)
    source: str = ""
    model: Any = None
    loss: Any = None

    def __post_init__(self):
        check_instances(str, "a string", name=self.name, source=self.source)
        check_instances(keras.optimizers.Optimizer, "a Keras optimizer", optimizer=self.optimizer)
        check_positive_integers(batch_size=self.batch_size, epochs=self.epochs, total_steps=self.total_steps)
        require(is_list(self.averages), "`averages` must be a tuple of decays.", averages=self.averages)
        check_decays(averages=self.averages)
        check_instances(dict, "a dictionary", settings=self.settings, sampling=self.sampling)
        check_instances(keras.Model, "a Keras model", optional=True, model=self.model)
        check_instances(keras.losses.Loss, "a Keras loss", optional=True, loss=self.loss)

    def __str__(self):
        shown = {
            "optimizer": _described(self.optimizer),
            "batch_size": self.batch_size,
            "epochs": f"{self.epochs} ({self.total_steps:,} steps)",
            "averages": ", ".join(map(str, self.averages)),
            "settings": _pairs(self.settings),
            "sampling": _pairs(self.sampling),
            "model": "" if self.model is None else f"{self.model.name}, {self.model.count_params():,} weights",
            "loss": "" if self.loss is None else f"{type(self.loss).__name__}({_pairs(self.loss.get_config())})",
            "source": self.source,
        }
        width = max(map(len, shown))
        lines = [f"{name.ljust(width)}  {value}" for name, value in shown.items() if value != ""]
        return "\n".join([self.name, *lines])

    __repr__ = __str__


def conditional_pretraining(
    num_images,
    num_classes,
    *,
    batch_size=1024,
    epochs=200,
    optimizer=AdamW,
    base_learning_rate=None,
    warmup_epochs=None,
    averages=JIT_DECAYS,
    guidance=JIT_GUIDANCE,
    interval=JIT_INTERVAL,
) -> Recipe:
    """Train with labels from the first step, at a constant rate, with several averages (JiT, 2511.13720).

    Noisy images carry their label, one in ten has it dropped; clean ones carry none, so that features stay those of
    images alone. The rate stays at its peak: any step may be the last, and averages do what a decay would. Which
    average, which guidance is best is found afterwards, by `evaluation.select`.

    Example:

    >>> recipe = recipes.conditional_pretraining(num_images=1_281_167, num_classes=1000)
    >>> model = UMD.from_preset("umd_tiny_patch4_32", num_layers=1, decoder_layers=1, **recipe.settings)
    >>> model.compile(recipe.optimizer)
    >>> model.fit(pictures, classes, batch_size=recipe.batch_size, epochs=recipe.epochs)                # doctest: +SKIP
    >>> model.generate([207, 360], **recipe.sampling)                                                   # doctest: +SKIP

    Args:
        num_images: Integer, the images of an epoch.
        num_classes: Integer.
        batch_size: Integer, the images of one update.
        epochs: Integer.
        optimizer: `recipes.AdamW`, with beta_2 0.95 and without decay, or `recipes.Muon`: the class.
        base_learning_rate: Float in (0, 1000], the rate at batch size 256. Defaults to JiT's 5e-5, for large batches
            and 200 epochs; a short training with small batches needs a higher one, such as 8e-3.
        warmup_epochs: Number of at least 0, epochs in which the rate rises from 0. Defaults to 5, in a training of
            fewer than 50 epochs to a tenth of it.
        averages: List of decays and `PowerProfile`s, at least one. JiT's three are for hundreds of thousands of steps;
            `(PowerProfile(0.05), PowerProfile(0.10))` fit every length, and allow post-hoc EMA.
        guidance: Float of at least 0, the scale of guidance in `sampling`.
        interval: Pair of floats, the noise over signal between which there is guidance, as of `guidance.Interval`.

    Returns:
        `Recipe`.
    """
    check_positive_integers(num_images=num_images, num_classes=num_classes, batch_size=batch_size, epochs=epochs)
    require(
        any(optimizer is kind for kind in (AdamW, Muon)),
        "`optimizer` must be recipes.AdamW or recipes.Muon.",
        optimizer=optimizer,
    )
    check_numbers("(0, 1000]", optional=True, base_learning_rate=base_learning_rate)
    check_numbers("[0, 1000000]", optional=True, warmup_epochs=warmup_epochs)
    is_right = is_list(averages) and len(averages)
    require(is_right, "`averages` must be a list of decays and PowerProfiles.", averages=averages)
    check_decays(averages=averages)
    check_numbers("[0, inf)", guidance=guidance)
    require(is_pair(interval, low=0), "`interval` must be a pair (low, high), from 0 on.", interval=interval)
    batch_size, epochs = int(batch_size), int(epochs)
    steps_per_epoch = math.ceil(int(num_images) / batch_size)
    warmup_epochs = min(5, epochs / 10) if warmup_epochs is None else warmup_epochs
    warmup_steps = int(warmup_epochs * steps_per_epoch)
    check_integers(0, epochs * steps_per_epoch, warmup_steps=warmup_steps)
    rate = JIT_BASE_RATE if base_learning_rate is None else base_learning_rate
    peak = rate * batch_size / 256
    if base_learning_rate is None:
        whose = "JiT's learning rate, for batches of 1024 and 200 epochs"
        warn_of_a_tiny_rate(peak, batch_size, epochs * steps_per_epoch, whose, JIT_BASE_RATE)
    schedule = constant_with_warmup(peak, warmup_steps=warmup_steps)
    return Recipe(
        "conditional pre-training",
        _optimizer(optimizer, schedule, list(averages)),
        batch_size,
        epochs,
        epochs * steps_per_epoch,
        averages=tuple(averages),
        settings={"num_classes": int(num_classes), "label_dropout": 0.1},
        sampling={"guidance": Interval(guidance, *interval), "sampler": samplers.Heun(), "num_steps": 50},
        source="JiT (2511.13720)" + ("" if optimizer is AdamW else "; Muon (2502.16982)"),
    )


def _optimizer(kind, schedule, ema_decay):
    if kind is AdamW:
        return AdamW(schedule, beta_1=0.9, beta_2=0.95, epsilon=1e-8, weight_decay=0.0, ema_decay=ema_decay)
    return Muon(schedule, adam_beta_1=0.9, adam_beta_2=0.95, epsilon=1e-8, ema_decay=ema_decay)


def _described(optimizer):
    config = optimizer.get_config()
    schedule = config["learning_rate"]
    is_schedule = isinstance(schedule, dict)
    schedule = f"{schedule['class_name']}({_pairs(schedule['config'])})" if is_schedule else f"{schedule:.4g}"
    names = ("beta_1", "beta_2", "adam_beta_1", "adam_beta_2", "momentum", "weight_decay", "global_clipnorm", "rates")
    rest = {name: config[name] for name in names if config.get(name) is not None}
    return f"{type(optimizer).__name__}, rate {schedule}, {_pairs(rest)}"


def _pairs(values):
    """Names and values on one line, floats by four digits."""
    shown = {name: _pairs(value) if isinstance(value, dict) else value for name, value in values.items()}
    return ", ".join(
        f"{name}={value:.4g}" if isinstance(value, float) else f"{name}={value}"
        for name, value in shown.items()
        if value is not None and name != "name"
    )
