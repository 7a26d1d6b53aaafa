"""The Inception Score of generated images (Salimans et al., 2016)."""

import numpy as np

from keras_umd.utils.checks import check_positive_integers


def inception_score(probabilities, splits=10):
    """Exponential of the mean KL divergence of p(class | image) from p(class): from 1 to the number of classes.

    It is high when the classifier is sure of each image and the images are of many classes. Without a reference, it
    doesn't notice when all images of a class are the same. It may be called Inception score only for the original
    classifier, FID's own Inception network. It rises with the number of images; 50,000 are usual.

    Args:
        probabilities: Float array of shape `(n, classes)` of values in [0, 1], with rows that sum to 1.
        splits: Positive integer, at most n. Number of consecutive parts, each with a score of its own. The images must
            be shuffled: sorted by class, each part would have few classes.

    Returns:
        Two floats: mean and standard deviation over the parts.

    Raises:
        ValueError: for values that are no probabilities, and for fewer images than parts.
    """
    check_positive_integers(splits=splits)
    probabilities = np.asarray(probabilities)
    if probabilities.ndim != 2 or len(probabilities) < splits:
        raise ValueError(
            "`probabilities` must have shape (n, classes), with at least one image for each of the splits. "
            f"Received: probabilities of shape {probabilities.shape}, splits={splits}"
        )
    # `not (a and b)`, so that NaN fails; float16 sums to 1 within a thousandth.
    if not (probabilities.min() >= 0 and np.abs(probabilities.sum(axis=1, dtype="float64") - 1).max() < 1e-3):
        raise ValueError(
            "`probabilities` must be at least 0 and add up to 1 for each image; take the softmax of logits first. "
            f"Received: values from {probabilities.min()} to {probabilities.max()}"
        )
    n, scores = len(probabilities), []
    for i in range(splits):
        part = probabilities[i * n // splits : (i + 1) * n // splits].astype("float64")
        # The mean KL divergence from the mean is the entropy of the mean minus the mean of the entropies.
        scores.append(np.exp(_entropy(part.mean(axis=0)) - _entropy(part).mean()))
    return float(np.mean(scores)), float(np.std(scores))


def softmax(logits):
    """Probabilities in float64, from logits of shape `(..., classes)` and any float type."""
    logits = np.asarray(logits, "float64")
    exponentials = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return exponentials / exponentials.sum(axis=-1, keepdims=True)


def _entropy(probabilities):
    # 0 log 0 = 0
    return -np.sum(probabilities * np.log(np.where(probabilities > 0, probabilities, 1)), axis=-1)
