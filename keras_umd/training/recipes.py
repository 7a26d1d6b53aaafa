"""Recipes: the paper's optimizers (tables 4 and 5), and those of later work (docs/recipes.md)."""

from keras_umd.training.classification import classification
from keras_umd.training.masked_branch import MaskedBranch
from keras_umd.training.mixing import MixedBatches
from keras_umd.training.optimizers import (
    AdamW,
    LayerwiseAdamW,
    Muon,
    constant_with_warmup,
    cosine_with_warmup,
    warn_of_a_tiny_rate,
)
from keras_umd.training.posthoc_ema import posthoc_average
from keras_umd.training.recipe import Recipe, conditional_pretraining
from keras_umd.training.small import small
from keras_umd.utils.checks import check_numbers, check_positive_integers
from keras_umd.utils.power_profile import PowerProfile

__all__ = [
    "AdamW",
    "LayerwiseAdamW",
    "MaskedBranch",
    "MixedBatches",
    "Muon",
    "PowerProfile",
    "Recipe",
    "classification",
    "conditional_pretraining",
    "constant_with_warmup",
    "cosine_with_warmup",
    "finetuning_optimizer",
    "posthoc_average",
    "pretraining_optimizer",
    "small",
]

PAPERS_BASE_RATE = 1.5e-4  # at batch size 256


def pretraining_optimizer(total_steps, batch_size, *, base_learning_rate=None, weight_decay=0.05, **kwargs):
    """AdamW as the paper pre-trains (table 4): 6e-4 at batch size 1024, 5% warm-up, cosine to 0, clipping at norm 1.

    The rate is for 800 epochs of ImageNet. Small batches get a tiny one (1.9e-5 at 32), at which a training of fewer
    than about 50,000 steps learns next to nothing: pass a `base_learning_rate` for it, such as 8e-3. Without one, there
    is a warning where the peak is below 1e-4 and the training that short.

    Example:

    >>> model.compile(recipes.pretraining_optimizer(total_steps=1_000_000, batch_size=1024))
    >>> model.compile(recipes.pretraining_optimizer(3000, 32, base_learning_rate=8e-3))    # a short training

    Args:
        total_steps: Integer, the steps of all epochs (of the micro-batches, with gradient accumulation).
        batch_size: Integer, the images of one update: with gradient accumulation, those of all its micro-batches. The
            learning rate is `base_learning_rate * batch_size / 256`. Above 1024 the paper found training with AdaLN
            unstable.
        base_learning_rate: Float, the peak at batch size 256. Defaults to the paper's 1.5e-4.
        weight_decay: Float. `UMD.compile` exempts biases, class tokens and the mask token.
        **kwargs: As of `recipes.AdamW`, replacing what the recipe sets.

    Returns:
        `recipes.AdamW`, a `keras.optimizers.AdamW`.
    """
    total_steps, batch_size = _checked(total_steps, batch_size, weight_decay)
    check_numbers("(0, 1000]", optional=True, base_learning_rate=base_learning_rate)
    peak = PAPERS_BASE_RATE * batch_size / 256
    uses_papers_rate = base_learning_rate is None and "learning_rate" not in kwargs
    if uses_papers_rate:
        warn_of_a_tiny_rate(
            peak,
            batch_size,
            total_steps,
            "The paper's learning rate, for batches of 1024 and 800 epochs",
            PAPERS_BASE_RATE,
        )
    rate = PAPERS_BASE_RATE if base_learning_rate is None else base_learning_rate
    return _adamw(total_steps, batch_size, rate, beta_2=0.95, weight_decay=weight_decay, **kwargs)


def finetuning_optimizer(total_steps, batch_size, *, base_learning_rate=PAPERS_BASE_RATE, weight_decay=0.0, **kwargs):
    """AdamW as the paper fine-tunes for generation (table 5): 1.5e-4 at batch size 256, no decay, averaged weights.

    The average's decay is `1 - 1e-4 * batch_size / 256`, as in the authors' code; the paper says 1 - 0.00025. As in
    `pretraining_optimizer`, a short training with small batches needs a higher `base_learning_rate`.

    Example:

    >>> conditional = model.with_classes(10)
    >>> conditional.compile(recipes.finetuning_optimizer(total_steps=250_000, batch_size=256))

    Args:
        total_steps: Integer, the steps of all epochs (of the micro-batches, with gradient accumulation).
        batch_size: Integer, the images of one update: with gradient accumulation, those of all its micro-batches, for
            `fit(batch_size=batch_size // gradient_accumulation_steps)`. The average moves once an update, so rate and
            decay follow the same number. The learning rate is `base_learning_rate * batch_size / 256`.
        base_learning_rate: Float, the peak at batch size 256.
        weight_decay: Float.
        **kwargs: As of `recipes.AdamW`, replacing what the recipe sets; `ema_decay` among them.

    Returns:
        `recipes.AdamW`, a `keras.optimizers.AdamW`.
    """
    total_steps, batch_size = _checked(total_steps, batch_size, weight_decay)
    check_numbers("(0, 1000]", base_learning_rate=base_learning_rate)
    kwargs = {"ema_decay": 1 - 1e-4 * batch_size / 256, **kwargs}
    return _adamw(total_steps, batch_size, base_learning_rate, beta_2=0.999, weight_decay=weight_decay, **kwargs)


def _checked(total_steps, batch_size, weight_decay):
    """The two integers as Python's: with those of NumPy, sums and products could overflow."""
    check_positive_integers(total_steps=total_steps, batch_size=batch_size)
    check_numbers("[0, 1000]", weight_decay=weight_decay)
    return int(total_steps), int(batch_size)


def _adamw(total_steps, batch_size, base_learning_rate, **kwargs):
    schedule = cosine_with_warmup(
        base_learning_rate * batch_size / 256, total_steps=total_steps, warmup_steps=int(0.05 * total_steps)
    )
    return AdamW(**{"learning_rate": schedule, "beta_1": 0.9, "epsilon": 1e-8, "global_clipnorm": 1.0, **kwargs})
