"""The network of a UMD: its parts, and the way of a view through them."""

import functools
import math

from keras_umd.models.arguments import check_noise, check_other
from keras_umd.models.condition import told_of_levels
from keras_umd.models.decoders.decoder import Decoder
from keras_umd.models.encoder import Encoder, pooled


def build_encoder(model, num_layers, num_heads, num_cls_tokens, **options):
    """The encoder of a UMD that has its settings, built; `options` are those that it shares with the decoder."""
    encoder = Encoder(
        model.patch_size,
        model.hidden_dim,
        num_layers,
        num_heads,
        num_cls_tokens,
        model.conditioning,
        has_mask_token=any(view.mask is not None and view.mask.hides_tokens for view in model.corruption.views),
        has_place_token=any(view.unplaced > 0 for view in model.corruption.views),
        **options,
        name="encoder",
    )
    encoder.build((None, *model.image_shape))
    return encoder


def build_decoder(model, num_layers, num_heads, hidden_dim, **options):
    """The decoder of a UMD that has its encoder, built, and frozen where no term reads it."""
    patch_dim = math.prod(model.patch_size) * model.image_shape[-1]
    heads = {
        name: target.num_values(patch_dim)
        for name, target in model.objective.heads().items()
        if name not in model.objective.pixel_predictions
    }
    kind = model.decoder_kind
    check_noise(kind, model.corruption)
    if any(view.shows_noise for view in model.corruption.views):
        options["has_noise_embedding"] = True
    make = Decoder if kind is None else functools.partial(kind.make, model.encoder.num_layers)
    decoder = make(
        model.patch_size,
        model.grid,
        model.image_shape[-1],
        num_layers,
        num_heads,
        model.conditioning,
        **options,
        hidden_dim=hidden_dim,
        pixel_predictions=model.objective.pixel_predictions,
        heads=heads,
        name="decoder",
    )
    decoder.build((None, model.hidden_dim), (None, None, model.hidden_dim))
    check_other(decoder, model.corruption)
    decoder.settle(model.objective, model.corruption)
    return decoder


def predict_view(model, view, read=None):
    """The network's outputs for a view.

    Example:

    >>> view = {"images": model.prepare_images(images), "labels": model.prepare_labels(labels)}
    >>> view["timesteps"] = np.array([50])
    >>> predictions = model.predict_view(view)
    >>> predictions["representation"].shape
    (24, 32)

    Args:
        view: Dictionary of tensors: `images` `(n, *image_shape)`, `timesteps` `(n or 1,)`, and where there are any
            `labels`, `label_drop`, `visible`, `masked`, `hidden`, `unplaced`, `other`, `noisy_images`,
            `noisy_timesteps`, as of `Corruption.corrupt`.
        read: Dictionary of the predictions to make, as of `Decoder`. Defaults to x_0 and noise of all patches.

    Returns:
        Dictionary of tensors: the predictions, `representation` and `tokens`.
    """
    condition, of_decoder = _conditions(model, view)
    visible, masked = view.get("visible"), view.get("masked")
    representation, tokens, *taps = model.encoder(  # or all class tokens as the representation
        view["images"],
        condition=condition,
        visible=visible,
        collect=model.decoder.taps,
        for_decoder=True,
        **{name: view[name] for name in ("hidden", "unplaced") if name in view},
        **told_of_levels(model.condition, view),
    )
    outputs = {"representation": pooled(representation), "tokens": tokens}
    if read == {}:
        return outputs
    options = {"features": taps[0]} if taps else {}
    if "other" in view:
        options["other"] = model.encoder(view["other"], condition=condition, for_decoder=True)
    if "noisy_images" in view:
        options["noisy_images"] = view["noisy_images"]
    predictions = model.decoder(
        representation, tokens, condition=of_decoder, visible=visible, masked=masked, read=read, **options
    )
    return {**predictions, **outputs}


def _conditions(model, view):
    """The conditions of encoder and decoder: one, but where the decoder alone sees noise, and the label with it."""
    labels, drop = view.get("labels"), view.get("label_drop")
    if "noisy_images" not in view:
        condition = model.condition(view["timesteps"], labels, drop)
        return condition, condition
    return model.condition(view["timesteps"]), model.condition(view["noisy_timesteps"], labels, drop)
