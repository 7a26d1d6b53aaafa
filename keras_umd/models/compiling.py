"""Settings of `compile` beside Keras' own: weight decay, and the averages that an optimizer asks for."""

import keras

from keras_umd.backend.steps import supported_steps_per_execution
from keras_umd.models.averages import as_decays
from keras_umd.models.guarded_optimizer import innermost
from keras_umd.utils.checks import check_bools, check_instances, check_integers, check_one_of, require

# Adam divides by the root of a mean square, which float16 rounds to 0 for gradients below 2e-4. At epsilon=1e-7 a loss
# that began at 0.5 was 25 after four steps; at 1e-5 it fell as in float32.
LEAST_FLOAT16_EPSILON = 1e-5
UNDECAYED_NAMES: tuple[str, ...] = ("bias", "beta", "cls_tokens", "mask_token")
# Of a `Block`'s settings: a weight of RMSNorm that decays to 0 would take the tokens, or queries and keys, with it.
UNDECAYED_NAMES += ("scale", "value_mix", "attention_scale", "mlp_scale", "registers", "context_positions")


def undecayed_variables(variables):
    """Those that weight decay leaves alone: every bias (LayerNorm's, `beta`, too), class tokens, the mask token etc."""
    return [variable for variable in variables if variable.name in UNDECAYED_NAMES]


def check_compile_arguments(optimizer, arguments):
    """Raise a ValueError for what is no setting; for a loss or metrics too: the model has its own."""
    check_instances((str, dict, keras.optimizers.Optimizer), "a Keras optimizer, or its name", optimizer=optimizer)
    is_config = not isinstance(optimizer, dict) or "class_name" in optimizer
    require(is_config, "`optimizer` must be a Keras optimizer, or its name or config.", optimizer=optimizer)
    check_one_of(("auto", True, False), jit_compile=arguments.get("jit_compile", "auto"))
    check_bools(run_eagerly=arguments.get("run_eagerly", False))
    check_bools(auto_scale_loss=arguments.get("auto_scale_loss", True))
    check_integers(1, steps_per_execution=arguments.get("steps_per_execution", 1))
    for name in ("loss", "loss_weights", "metrics", "weighted_metrics"):
        if arguments.get(name) is not None:
            raise ValueError(
                f"The model brings its own objective and metrics; leave out `{name}`. "
                f"Received: {name}={arguments[name]}"
            )


def settle_optimizer(optimizer, variables):
    """Exclude biases and tokens from the weight decay of an optimizer.

    Returns:
        List, the decays of the averages that the optimizer asks for (see `keras_umd.recipes`).
    """
    optimizer = innermost(optimizer)
    check_epsilon(optimizer, variables)
    if not optimizer.built:
        excluded = [v for v in variables if not optimizer._use_weight_decay(v)]  # by the user
        optimizer.exclude_from_weight_decay(var_list=[*excluded, *undecayed_variables(variables)])
    decay = getattr(optimizer, "ema_decay", None)
    return [] if decay is None else as_decays(decay)


def check_epsilon(optimizer, variables):
    """Raise a ValueError if weights are float16 and the optimizer's epsilon is nothing beside their rounding."""
    epsilon = getattr(optimizer, "epsilon", None)
    is_half = any(keras.backend.standardize_dtype(variable.dtype) == "float16" for variable in variables)
    if is_half and epsilon is not None and epsilon < LEAST_FLOAT16_EPSILON:
        raise ValueError(
            "Weights in float16 can't be trained with so small an epsilon: make the model with dtype='mixed_float16', "
            f"which keeps float32 weights, or pass an epsilon of at least {LEAST_FLOAT16_EPSILON:g} to the optimizer. "
            f"Received: epsilon={epsilon:g} with weights of type float16"
        )


def portable_compile_config(config):
    """A saved compile config, for this backend."""
    config = keras.saving.deserialize_keras_object(config)
    if "steps_per_execution" in config:
        config["steps_per_execution"] = supported_steps_per_execution(config["steps_per_execution"])
    return config
