"""Optimizers of the recipes: AdamW and Muon with averages, AdamW with a rate for each layer; and their schedules."""

import re
import warnings

import keras
from keras import ops

from keras_umd.backend.optimizers import optimizer_base
from keras_umd.utils.checks import (
    check_decays,
    check_instances,
    check_integers,
    check_numbers,
    check_positive_integers,
    require,
)
from keras_umd.utils.configurable import revive

# Below both, models hardly learn: after 354 steps that peaked at 1.9e-5, the eps loss was 0.98, at 1e-3 it was 0.21.
SMALL_PEAK, FEW_STEPS = 1e-4, 50_000
# Matrices by their shape, but no maps from tokens to tokens: modulations and heads start at zero, and tokens and
# positions are vectors one below the other. Orthogonal updates have no meaning for them.
NOT_FOR_MUON = ("modulation", "/head", "cls_token", "mask_token", "register", "positions")
# What MAE's fine-tuning doesn't decay: vectors, class tokens and positions.
UNDECAYED = r"(bias|beta|gamma|scale|value_mix|cls_tokens|mask_token|registers|positions)$"


@keras.saving.register_keras_serializable("keras_umd")
class AdamW(optimizer_base(keras.optimizers.AdamW)):  # type: ignore[misc]
    """Keras' AdamW, with a moving average of the weights that the model keeps.

    Example:

    >>> model.compile(recipes.AdamW(1e-3, ema_decay=0.999))
    >>> model.fit(images, batch_size=8, epochs=1)
    >>> averaged, newest = model.encode(images), model.encode(images, weights="raw")

    Args:
        *args, **kwargs: As of `keras.optimizers.AdamW`.
        ema_decay: Float in [0, 1) or `PowerProfile`, a list of them, or `None` for no average. Read by `UMD.compile`,
            which keeps the average; unlike Keras' `use_ema`, it leaves the trained weights alone, and is saved with the
            model.
    """

    def __init__(self, *args, ema_decay=None, **kwargs):
        ema_decay = revive(ema_decay)
        check_decays(optional=True, ema_decay=ema_decay)
        super().__init__(*args, **kwargs)
        self.ema_decay = ema_decay

    def get_config(self):
        return {**super().get_config(), "ema_decay": self.ema_decay}


@keras.saving.register_keras_serializable("keras_umd")
class Muon(keras.optimizers.Muon):
    """Keras' Muon for the matrices of the blocks, with moving averages that the model keeps.

    A matrix is moved by the nearest orthogonal matrix to its momentum, at 0.2 of AdamW's size (`rms_rate`), so that
    AdamW's rates hold (Liu et al., 2502.16982). Everything else follows Adam. Keras chooses by shape and path: what has
    two axes and no "embedding" in its path would get Muon, among them class tokens, modulations and heads, which are
    excluded here.

    Example:

    >>> model.compile(recipes.Muon(1e-3))
    >>> model.fit(images, batch_size=8, epochs=1)

    Args:
        *args, **kwargs: As of `keras.optimizers.Muon`. `exclude_layers`, a list of regular expressions for paths,
            defaults to `NOT_FOR_MUON`; both weight decays, Keras' 0.004, to 0.
        ema_decay: As of `recipes.AdamW`.
    """

    def __init__(self, *args, ema_decay=None, **kwargs):
        ema_decay = revive(ema_decay)
        check_decays(optional=True, ema_decay=ema_decay)
        defaults = {"exclude_layers": list(NOT_FOR_MUON), "weight_decay": None, "adam_weight_decay": None}
        super().__init__(*args, **{**defaults, **kwargs})
        self.ema_decay = ema_decay

    def get_config(self):
        return {**super().get_config(), "ema_decay": self.ema_decay}


@keras.saving.register_keras_serializable("keras_umd")
class LayerwiseAdamW(keras.optimizers.AdamW):
    """AdamW that multiplies the rate of each variable by a factor, chosen by its path.

    Weight decay is part of the step, so it is scaled by the same factor. Files hold the factors and what isn't decayed.

    Example:

    >>> optimizer = recipes.LayerwiseAdamW(1e-3, rates={"patch_embedding": 0.1, "block_0/": 0.5})

    Args:
        *args, **kwargs: As of `keras.optimizers.AdamW`.
        rates: Dictionary from regular expressions, looked for in the paths of variables, to factors of at least 0. The
            first that is found counts; 1 where none is.
        undecayed: Regular expression, the paths that weight decay leaves alone.
    """

    def __init__(self, *args, rates=None, undecayed=UNDECAYED, **kwargs):
        check_instances(dict, "a dictionary from regular expressions to factors", optional=True, rates=rates)
        check_instances(str, "a regular expression", undecayed=undecayed)
        rates = {} if rates is None else dict(rates)
        for pattern, rate in rates.items():
            _compiled(pattern, "rates")
            check_numbers("[0, 1000]", rates=rate)
        _compiled(undecayed, "undecayed")
        super().__init__(*args, **kwargs)
        self.rates = rates
        self.undecayed = undecayed

    def rate_of(self, path):
        """The factor of the variable with this path."""
        return next((float(rate) for pattern, rate in self.rates.items() if re.search(pattern, path)), 1.0)

    def build(self, variables):
        super().build(variables)
        # By their place: on TensorFlow `update_step` gets a variable without a path.
        self._factors = [self.rate_of(variable.path) for variable in variables]
        self._are_decayed = [
            self._use_weight_decay(variable) and not re.search(self.undecayed, variable.path) for variable in variables
        ]

    def _apply_weight_decay(self, variables):
        """Nothing: the decay of a variable follows its own rate, in `update_step`."""

    def update_step(self, gradient, variable, learning_rate):
        index = self._get_variable_index(variable)
        rate = ops.cast(learning_rate, variable.dtype) * self._factors[index]
        if self.weight_decay and self._are_decayed[index]:
            self.assign_sub(variable, ops.convert_to_tensor(variable) * (rate * self.weight_decay))
        super().update_step(gradient, variable, rate)

    def get_config(self):
        return {**super().get_config(), "rates": self.rates, "undecayed": self.undecayed}


def layer_rates(num_layers, decay):
    """The factors of a layer-wise decay for an encoder in a classifier (BEiT; MAE, appendix A.2).

    The head has 1, the last block `decay`, each block below it `decay` times as much, and what is before the blocks
    (patches, class tokens, positions, condition) `decay ** (num_layers + 1)`.

    Args:
        num_layers: Integer, the blocks of the encoder.
        decay: Float in (0, 1].

    Returns:
        Dictionary for `LayerwiseAdamW`.
    """
    check_numbers("(0, 1]", decay=decay)
    before = decay ** (num_layers + 1)
    rates = {f"/block_{i}/": decay ** (num_layers - i) for i in range(num_layers)}
    names = "patch_embedding|position_embedding|cls_tokens|condition_embedding|registers|blocks/context"
    return {**rates, f"(^|/)({names})": before}


def _compiled(pattern, name):
    try:
        return re.compile(pattern)
    except (re.error, TypeError) as error:
        require(False, f"`{name}` must be regular expressions: {error}.", pattern)


def cosine_with_warmup(peak_learning_rate, *, total_steps, warmup_steps):
    """A learning rate: linear from 0 to the peak in `warmup_steps`, then half a cosine down to 0 at `total_steps`.

    Example:

    >>> rate = recipes.cosine_with_warmup(1e-3, total_steps=1000, warmup_steps=100)
    >>> [round(float(rate(step)), 6) for step in (0, 100, 1000)]
    [0.0, 0.001, 0.0]

    Args:
        peak_learning_rate: Float.
        total_steps: Integer, updates of the optimizer.
        warmup_steps: Integer, below `total_steps`; 0 for none.

    Returns:
        `keras.optimizers.schedules.CosineDecay`.
    """
    check_numbers("(0, 1000]", peak_learning_rate=peak_learning_rate)
    check_positive_integers(total_steps=total_steps)
    check_integers(0, warmup_steps=warmup_steps)
    total_steps, warmup_steps = int(total_steps), int(warmup_steps)
    require(
        warmup_steps < total_steps,
        "`total_steps` must be longer than `warmup_steps`.",
        total_steps=total_steps,
        warmup_steps=warmup_steps,
    )
    if not warmup_steps:
        return keras.optimizers.schedules.CosineDecay(peak_learning_rate, total_steps)
    return keras.optimizers.schedules.CosineDecay(
        0.0, total_steps - warmup_steps, warmup_target=peak_learning_rate, warmup_steps=warmup_steps
    )


def constant_with_warmup(peak_learning_rate, *, warmup_steps):
    """A learning rate: linear from 0 to the peak in `warmup_steps`, then the peak.

    Example:

    >>> model.compile(recipes.AdamW(recipes.constant_with_warmup(1e-4, warmup_steps=1000)))

    Args:
        peak_learning_rate: Float.
        warmup_steps: Integer; 0 for none.

    Returns:
        Learning-rate schedule, or the float itself without a warm-up.
    """
    check_numbers("(0, 1000]", peak_learning_rate=peak_learning_rate)
    check_integers(0, warmup_steps=warmup_steps)
    if not warmup_steps:
        return float(peak_learning_rate)
    # With alpha=1 its cosine is flat.
    return keras.optimizers.schedules.CosineDecay(
        0.0, 1, alpha=1.0, warmup_target=float(peak_learning_rate), warmup_steps=int(warmup_steps)
    )


def warn_of_a_tiny_rate(peak, batch_size, total_steps, whose, base_learning_rate):
    """Warn where a published rate, for large batches, is too low for a short training with small ones."""
    if peak < SMALL_PEAK and total_steps < FEW_STEPS:
        warnings.warn(
            f"{whose}, peaks at {peak:.1e} for "
            f"batch_size={batch_size}: too low to learn much in total_steps={total_steps}. Pass a higher one, for "
            f"example base_learning_rate=8e-3, or base_learning_rate={base_learning_rate} to keep the paper's.",
            stacklevel=3,
        )
