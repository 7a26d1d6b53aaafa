"""A pre-trained model with classes, to fine-tune."""

import warnings

from keras_umd.backend.processes import to_numpy


def with_classes(model, num_classes, label_dropout=None, corruption=None, objective=None, freeze=()):
    """A model with the same weights and a fresh label embedding; see `UMD.with_classes`."""
    if not set(freeze) <= {"encoder", "decoder"}:
        raise ValueError(f"`freeze` takes 'encoder' and 'decoder'. Received: freeze={freeze}")
    # By its config: a subclass keeps its own arguments.
    config = {name: value for name, value in model.get_config().items() if name not in ("name", "trainable", "frozen")}
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
    """Copy all weights but those of the labels, by path; warn of those that have no place in `target`."""
    labels = [] if source.condition_embedding is None else source.condition_embedding.label_embedding
    labels = {variable.path for variable in labels.weights} if labels else set()
    trained = [*source.network_weights, *source.objective.weights]
    values = {variable.path: to_numpy(variable) for variable in trained if variable.path not in labels}
    fresh = target.condition_embedding
    fresh = [] if fresh is None or fresh.label_embedding is None else fresh.label_embedding.weights
    for variable in [*target.network_weights, *target.objective.weights]:
        if any(variable is label for label in fresh):
            continue
        value = values.pop(variable.path, None)
        if value is not None and value.shape == tuple(variable.shape):
            variable.assign(value)
    if values:
        warnings.warn(f"The fine-tuned model has no place for these weights: {sorted(values)}", stacklevel=3)
