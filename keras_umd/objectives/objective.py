"""What is trained: the errors of both predictions, each over the patches where it can be made."""

from keras import ops

from keras_umd.layers.masking import take_tokens
from keras_umd.layers.patches import patchify


def image_losses(views, predictions, patch_size):
    """The loss terms of every image: Eq. 5 for clean images, Eq. 4 for noisy ones.

    A clean image: the mean squared error of x_0 over its masked patches (MAE). A noisy image: that of the noise over
    its visible patches, and that of x_0 over its masked patches. Where nothing is masked, all patches count.

    Args:
        views: Dictionary as returned by `Corruption.corrupt`.
        predictions: Dictionary with a dictionary for each part, of what its view has: `x0`, predictions for the masked
            patches, and `eps`, of the noise for the visible ones, `(part, n, patch_dim)`; for all patches where none is
            masked.
        patch_size: Pair `(patch_height, patch_width)`.

    Returns:
        Dictionary of float32 tensors `(part,)` named `clean_x0_loss`, `noisy_eps_loss` and `noisy_x0_loss`, each
        present where its part is.
    """
    losses = {}
    for part, predicted in predictions.items():
        view = views[part]
        if "x0" in view:
            losses[f"{part}_x0_loss"] = _error(predicted["x0"], view["x0"], view.get("masked"), patch_size)
        if "noise" in view:
            losses[f"{part}_eps_loss"] = _error(predicted["eps"], view["noise"], view.get("visible"), patch_size)
    return losses


def total_loss(losses, batch_size):
    """The batch's loss (Eq. 6): a clean image counts its x_0 error, a noisy one the mean of its errors."""
    total = 0.0
    for part in ("clean", "noisy"):
        errors = [loss for name, loss in losses.items() if name.startswith(part)]
        if errors:
            total += ops.sum(sum(errors)) / len(errors)
    return total / ops.cast(ops.maximum(batch_size, 1), "float32")  # a replica may get nothing of the last batch


def _error(prediction, image, indices, patch_size):
    target = patchify(image, patch_size)
    if indices is not None:
        target = take_tokens(target, indices)
    error = ops.cast(prediction, "float32") - ops.cast(target, "float32")
    return ops.mean(ops.square(error), axis=(1, 2))  # (part,)
