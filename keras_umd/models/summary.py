"""What a model is, in the lines above the table of `summary`."""

import math


def describe(model):
    """The lines: images and patches, the network, and what it learns of each view.

    Args:
        model: `UMD`.

    Returns:
        String.
    """
    encoder, decoder = model.encoder, model.decoder
    decoder_width = decoder.hidden_dim or encoder.hidden_dim
    rows = {
        "images": f"{_by(model.image_shape[:-1])}, {_number(model.image_shape[-1], 'channel')}"
        + ("" if model.value_range is None else f", uint8 or floats in {model.value_range}"),
        "patches": f"{_by(model.grid)} of {_by(model.patch_size)}, {_patch_values(model)} numbers each",
        "encoder": _blocks(encoder, encoder.hidden_dim),
        "decoder": f"{_blocks(decoder, decoder_width)}; predicts {', '.join(model.objective.heads())}",
        "condition": _condition(model),
        **{f"{view.name} view": _view(view, model) for view in model.corruption.views},
    }
    if model.averages:
        rows["averages"] = ", ".join(f"decay {average.decay}" for average in model.averages)
    width = max(map(len, rows))
    return "\n".join(f"{name.ljust(width)}  {text}" for name, text in rows.items())


def summary(model, keras_summary, arguments):
    """Print the description, and Keras' table behind it; `print_fn` gets both."""
    print_fn = arguments.get("print_fn") or print
    print_fn(describe(model))
    return keras_summary(**arguments)


def _by(lengths):
    return " x ".join(map(str, lengths))


def _number(count, noun):
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def _patch_values(model):
    return math.prod(model.patch_size) * model.image_shape[-1]


def _blocks(part, width):
    return f"{_number(part.num_layers, 'block')}, {width} wide, {_number(part.num_heads, 'head')}"


def _condition(model):
    if model.condition_embedding is None:
        return "none"
    labels = "" if model.num_classes is None else f" and {model.num_classes} classes"
    return f"noise level{labels}, by {model.conditioning}"


def _view(view, model):
    share = "every image" if view.share is None else f"{view.share:.3g} of a batch"
    visible, total = view.num_visible(model.grid), model.num_patches
    seen = f"all {total} patches seen" if visible == total else f"{visible} of {total} patches seen"
    learned = ", ".join(
        f"{name} of {where} patches" for name, where in sorted(model.objective.reads(view.name).items(), reverse=True)
    )
    noise = "noise of masked patches" if view.shows_noise else "with noise" if view.is_noisy else "no noise"
    return f"{share}, {noise}, {seen}; learns {learned or 'nothing'}"
