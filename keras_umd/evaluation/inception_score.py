"""How certain, and how varied, a classifier finds generated images (Salimans et al., 2016)."""

import numpy as np

from keras_umd.utils.checks import check_positive_integers


def inception_score(probabilities, splits=10):
    """exp of the mean KL divergence of p(class | image) from p(class): between 1 and the number of classes.

    High when the classifier is sure of each image and the images together are of many classes. It knows no reference,
    so it can't see that images of a class are all the same. It may be called Inception score only for the classifier of
    the original, FID's own Inception network; it rises with the number of images, of which 50,000 are usual.

    Args:
        probabilities: Float array of shape `(n, classes)` of values in [0, 1], each row adding up to 1. See `softmax`.
        splits: Positive integer, at most n. Consecutive parts, each with a score of its own: the images must be in no
            order, by class for example.

    Returns:
        Two floats: mean and standard deviation of the scores of the parts.

    Raises:
        ValueError: for anything but probabilities, and for fewer images than parts.
    """
    check_positive_integers(splits=splits)
    probabilities = np.asarray(probabilities)
    if probabilities.ndim != 2 or len(probabilities) < splits:
        raise ValueError(
            "`probabilities` must have shape (n, classes), with at least one image for each of the splits. "
            f"Received: probabilities of shape {probabilities.shape}, splits={splits}"
        )
    # Written so that NaN fails; float16 adds up to 1 within a thousandth.
    if not (probabilities.min() >= 0 and np.abs(probabilities.sum(axis=1, dtype="float64") - 1).max() < 1e-3):
        raise ValueError(
            "`probabilities` must be at least 0 and add up to 1 for each image; take the softmax of logits first. "
            f"Received: values from {probabilities.min()} to {probabilities.max()}"
        )
    n, scores = len(probabilities), []
    for i in range(splits):
        part = probabilities[i * n // splits : (i + 1) * n // splits].astype("float64")
        # The mean divergence from the mean is what the mean's entropy has more than the rows have on average.
        scores.append(np.exp(_entropy(part.mean(axis=0)) - _entropy(part).mean()))
    return float(np.mean(scores)), float(np.std(scores))


def softmax(logits):
    """Probabilities in float64, of logits of any float type and of shape `(..., classes)`."""
    logits = np.asarray(logits, "float64")
    exponentials = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return exponentials / exponentials.sum(axis=-1, keepdims=True)


def _entropy(probabilities):
    # 0 log 0 = 0
    return -np.sum(probabilities * np.log(np.where(probabilities > 0, probabilities, 1)), axis=-1)
