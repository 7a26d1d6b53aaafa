"""A pre-trained model with classes, to fine-tune."""

import warnings

from keras_umd.models.adaptation import plain_values


def with_classes(model, num_classes, label_dropout=None, corruption=None, objective=None, freeze=()):
    """A model with the same weights and a fresh label embedding; see `UMD.with_classes`."""
    if not set(freeze) <= {"encoder", "decoder"}:
        raise ValueError(f"`freeze` takes 'encoder' and 'decoder'. Received: freeze={freeze}")
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
    )
    if label_dropout is not None:
        config["label_dropout"] = label_dropout
    finetuned = type(model).from_config(config)
    _copy_weights(model, finetuned)
    for name in freeze:
        getattr(finetuned, name).trainable = False
    finetuned.autoencoder = model.autoencoder
    return finetuned


def _copy_weights(source, target):
    """Copy all weights but those of the labels, by path; warn of those without a partner."""
    trained = [*source.network_weights, *source.objective.weights]
    parts = [*source.network_layers(), source.objective]
    values = plain_values(parts, {id(variable): variable.value for variable in trained})
    for path in _label_paths(source):
        values.pop(path)
    fresh = []
    for variable in [*target.network_weights, *target.objective.weights]:
        if variable.path in _label_paths(target):
            continue
        if variable.path in values and values[variable.path].shape == tuple(variable.shape):
            variable.assign(values.pop(variable.path))
        else:
            fresh.append(variable.path)
    if values:
        warnings.warn(f"The fine-tuned model has no place for these weights: {sorted(values)}", stacklevel=3)
    if fresh:
        warnings.warn(f"These weights of the fine-tuned model begin anew: {sorted(fresh)}", stacklevel=3)


def _label_paths(model):
    embedding = None if model.condition_embedding is None else model.condition_embedding.label_embedding
    return [] if embedding is None else [variable.path for variable in embedding.weights]
