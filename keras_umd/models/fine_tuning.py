"""A pre-trained model with classes, to fine-tune."""

import warnings

from keras_umd.models.adaptation import plain_values
from keras_umd.utils.checks import require


def with_classes(model, num_classes, label_dropout=None, corruption=None, objective=None, freeze=()):
    """A model with the same weights and a fresh label embedding, to fine-tune for class-conditional generation.

    This model stays as it is; the new one, of the same class, starts without optimizer and without averages, and
    shares its `autoencoder`. LoRA factors are added to their kernels. Weights that it has no place for, of heads and
    terms that its objective lacks, are left out with a warning, and so are its own that this model lacks.

    Example:

    >>> conditional = model.with_classes(10)
    >>> conditional.compile(keras_umd.recipes.finetuning_optimizer(total_steps=1000, batch_size=64))

    Args:
        num_classes: Integer, or `None` to fine-tune for generation without labels.
        label_dropout: Float in [0, 1). Share of the labels dropped in training. Defaults to this model's.
        corruption: `Corruption`. Defaults to the paper's fine-tuning, `Corruption.for_finetuning`: this model's,
            with at most 5% of the batch clean and no patch of a noisy image masked.
        objective: `Objective`. Defaults to the paper's for this corruption.
        freeze: Names of parts whose weights training leaves as they are, `"encoder"`, `"decoder"` or both. The
            embeddings of noise level and label, which both read, are trained all the same, so that the features of a
            frozen encoder change. Any layer's `trainable` can be set afterwards too; files remember it.

    Returns:
        `UMD`, or the subclass that this model is of.
    """
    is_list = isinstance(freeze, (tuple, list, set))
    require(
        is_list and all(name in ("encoder", "decoder") for name in freeze),
        "`freeze` must be a list of 'encoder', 'decoder' or both.",
        freeze=freeze,
    )
    # By its config: a subclass keeps its own arguments.
    if any(layer.quantization_mode for part in model.network_layers() for layer in part._flatten_layers()):
        raise ValueError(f"Quantised weights can't be trained; take the model of before. Received: {model!r}")
    left_out = ("name", "trainable", "frozen", "lora")
    config = {name: value for name, value in model.get_config().items() if name not in left_out}
    config.update(
        num_classes=num_classes,
        corruption=model.corruption.for_finetuning() if corruption is None else corruption,
        objective=objective,
        ema_decays=[],
        label_dropout=model.label_dropout if label_dropout is None else label_dropout,
    )
    kind, views = model.decoder_kind, getattr(config["corruption"], "views", ())
    require(
        kind is None or kind.can_denoise or all(view.noise is None for view in views),
        "The decoder predicts nothing of noisy images; make a conditional model with another one, and begin it with "
        "`weights.start_from(conditional, model)`.",
        decoder=kind,
    )
    if not any(view.mask is not None and view.mask.reads for view in views):
        config.pop("teacher", None)  # nobody would ask it
    finetuned = type(model).from_config(config)
    _copy_weights(model, finetuned)
    for name in freeze:
        getattr(finetuned, name).trainable = False
    finetuned.autoencoder = model.autoencoder
    return finetuned


def _copy_weights(source, target):
    """Copy all weights but those of the labels, by path; warn of those without a partner."""
    parts, trained = [*source.network_layers(), source.objective], _without_labels(source)
    everything = [variable for part in parts for variable in part.weights]
    plain = plain_values(parts, {id(variable): variable.value for variable in everything})
    labels = {variable.path for variable in everything} - {variable.path for variable in trained}
    values, fresh = {path: value for path, value in plain.items() if path not in labels}, []
    for variable in _without_labels(target):
        if variable.path in values and values[variable.path].shape == tuple(variable.shape):
            variable.assign(values.pop(variable.path))
        else:
            fresh.append(variable.path)
    if values:
        warnings.warn(f"The fine-tuned model has no place for these weights: {sorted(values)}", stacklevel=3)
    if fresh:
        warnings.warn(f"These weights of the fine-tuned model begin anew: {sorted(fresh)}", stacklevel=3)


def _without_labels(model):
    """The trained weights of a model, without those of its label embedding, if it has one."""
    label_embedding = getattr(model.condition_embedding, "label_embedding", None)
    labels = set() if label_embedding is None else {id(variable) for variable in label_embedding.weights}
    return [v for v in (*model.network_weights, *model.objective.weights) if id(v) not in labels]
