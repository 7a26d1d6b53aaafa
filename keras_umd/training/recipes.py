"""The paper's optimizers: tables 4 and 5."""

import keras


@keras.saving.register_keras_serializable("keras_umd")
class AdamW(keras.optimizers.AdamW):
    """Keras' AdamW, which also asks the model to keep a moving average of its weights.

    Args:
        *args, **kwargs: As of `keras.optimizers.AdamW`.
        ema_decay: Float in [0, 1), a list of them, or `None` for no average. Read by `UMD.compile`, which keeps the
            average; unlike Keras' `use_ema`, it leaves the trained weights alone, and is saved with the model.
    """

    def __init__(self, *args, ema_decay=None, **kwargs):
        super().__init__(*args, **kwargs)
        self.ema_decay = ema_decay

    def get_config(self):
        return {**super().get_config(), "ema_decay": self.ema_decay}


def cosine_with_warmup(peak_learning_rate, total_steps, warmup_steps):
    """Linear from 0 to the peak in `warmup_steps`, then half a cosine down to 0 at `total_steps`."""
    if not 0 <= warmup_steps < total_steps:
        raise ValueError(
            "`total_steps` must be positive and longer than the warm-up. "
            f"Received: total_steps={total_steps}, warmup_steps={warmup_steps}"
        )
    if not warmup_steps:
        return keras.optimizers.schedules.CosineDecay(peak_learning_rate, total_steps)
    return keras.optimizers.schedules.CosineDecay(
        0.0, total_steps - warmup_steps, warmup_target=peak_learning_rate, warmup_steps=warmup_steps
    )


def pretraining_optimizer(total_steps, batch_size, base_learning_rate=1.5e-4, weight_decay=0.05, **kwargs):
    """AdamW as the paper pre-trains (table 4): 6e-4 at batch size 1024, 5% warm-up, cosine to 0, clipping at norm 1.

    Args:
        total_steps: Integer, the steps of all epochs (of the micro-batches, with gradient accumulation).
        batch_size: Integer. The learning rate is `base_learning_rate * batch_size / 256`. Above 1024 the paper found
            training with AdaLN unstable.
        base_learning_rate: Float, the peak at batch size 256.
        weight_decay: Float. `UMD.compile` exempts biases, class tokens and the mask token.
        **kwargs: As of `recipes.AdamW`, replacing what the recipe sets.

    Returns:
        `recipes.AdamW`, a `keras.optimizers.AdamW`.
    """
    return _adamw(total_steps, batch_size, base_learning_rate, beta_2=0.95, weight_decay=weight_decay, **kwargs)


def finetuning_optimizer(total_steps, batch_size, base_learning_rate=1.5e-4, weight_decay=0.0, **kwargs):
    """AdamW as the paper fine-tunes for generation (table 5): 1.5e-4 at batch size 256, no decay, averaged weights.

    The average's decay is `1 - 1e-4 * batch_size / 256`, as in the authors' code; the paper says 1 - 0.00025.

    Args:
        total_steps: Integer, the steps of all epochs (of the micro-batches, with gradient accumulation).
        batch_size: Integer. The learning rate is `base_learning_rate * batch_size / 256`.
        base_learning_rate: Float, the peak at batch size 256.
        weight_decay: Float.
        **kwargs: As of `recipes.AdamW`, replacing what the recipe sets; `ema_decay` among them.

    Returns:
        `recipes.AdamW`, a `keras.optimizers.AdamW`.
    """
    kwargs = {"ema_decay": 1 - 1e-4 * batch_size / 256, **kwargs}
    return _adamw(total_steps, batch_size, base_learning_rate, beta_2=0.999, weight_decay=weight_decay, **kwargs)


def _adamw(total_steps, batch_size, base_learning_rate, **kwargs):
    schedule = cosine_with_warmup(base_learning_rate * batch_size / 256, total_steps, int(0.05 * total_steps))
    return AdamW(**{"learning_rate": schedule, "beta_1": 0.9, "epsilon": 1e-8, "global_clipnorm": 1.0, **kwargs})
