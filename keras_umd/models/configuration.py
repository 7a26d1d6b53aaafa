"""What a `.keras` file says of a UMD beside its weights, and a model from it."""

import keras

from keras_umd.models import adaptation
from keras_umd.models import teacher as teaching
from keras_umd.utils.configurable import revive


def settings_of(model):
    """The arguments of the constructor of a UMD; its averages, and what is frozen or adapted."""
    return {
        "image_shape": model.image_shape,
        "patch_size": model.patch_size,
        "hidden_dim": model.hidden_dim,
        "num_layers": model.encoder.num_layers,
        "num_heads": model.encoder.num_heads,
        "decoder_layers": model.decoder.num_layers,
        "num_classes": model.num_classes,
        "label_dropout": model.label_dropout,
        "num_cls_tokens": model.encoder.num_cls_tokens,
        "conditioning": model.conditioning,
        "value_range": model.value_range,
        "decoder_hidden_dim": model.decoder.hidden_dim,
        "scan_blocks": model.encoder.scan_blocks,
        "remat": model.encoder.remat,
        "pack": model.pack,
        "block": keras.saving.serialize_keras_object(model.block),
        "seed": model.seed,
        "corruption": keras.saving.serialize_keras_object(model.corruption),
        "objective": keras.saving.serialize_keras_object(model.objective),
        **_set_beside_the_defaults(model),
        "ema_decays": [keras.saving.serialize_keras_object(average.decay) for average in model.averages],
        "frozen": [layer.path for layer in _layers_of(model) if not layer.trainable],
        # Where it is set: models of before are described as before.
        **({} if model.decoder_heads is None else {"decoder_heads": model.decoder_heads}),
        **adaptation.adaptations(model.network_layers()),
    }


def _set_beside_the_defaults(model):
    """Models of before these settings are described as before."""
    own = {"decoder": model.decoder_kind, "teacher": model.teacher}
    return {name: keras.saving.serialize_keras_object(value) for name, value in own.items() if value is not None}


def model_from(cls, config):
    """A model of a class from what `settings_of` gave, with fresh weights."""
    described = ("corruption", "objective", "decoder", "teacher")
    config = {name: revive(value) if name in described else value for name, value in config.items()}
    ema_decays, frozen = config.pop("ema_decays", []), config.pop("frozen", [])
    lora, quantized = config.pop("lora", None), config.pop("quantized", None)
    model = cls(**config)
    adaptation.adapt(model.network_layers(), lora, quantized)
    model.track_average(revive(ema_decays))
    teaching.follow(model)
    for layer in _layers_of(model):
        if layer.path in frozen:
            layer.trainable = False
    return model


def _layers_of(model):
    return [layer for part in model.network_layers() for layer in part._flatten_layers()]
