"""A judge of small images: a classifier that is trained on the real ones."""

import itertools

import keras
import numpy as np

from keras_umd.evaluation.features import ShuffledBatches
from keras_umd.utils.checks import as_integers, check_bools, check_integers, check_positive_integers, require

PEAK = 2e-3
SMALLEST = 4  # side of the last maps
MOMENTUM = 0.9  # of means and variances: Keras' 0.99 would know little after an epoch of few images
SHIFT = 8  # images are shifted by up to an eighth of their side


def train_classifier(images, labels, *, width=32, epochs=15, batch_size=64, flip=True, seed=0, verbose=True):
    """Train a residual network on real images, to judge generated ones in its features.

    Distances in these features have a scale of their own and are not FID: they compare models on one data set, by the
    same classifier. Its classes tell whether a generated image shows its label.

    Example:

    >>> network = evaluation.train_classifier(images, labels, width=4, epochs=1, verbose=False)
    >>> reference = evaluation.Reference.of(network, images)

    Args:
        images: uint8 array of shape `(n, height, width, channels)`.
        labels: Int array of shape `(n,)`.
        width: Integer. Channels of the first maps; they double whenever maps are halved. The features are four to
            eight times as many.
        epochs: Integer.
        batch_size: Integer.
        flip: Bool. Whether to train on mirrored images, too. Images are shifted in any case.
        seed: Integer, of weights and batches.
        verbose: Bool. Whether to show progress bars.

    Returns:
        Keras model from images to a dictionary of `features` `(batch, dim)` and `logits` `(batch, classes)`.
    """
    check_positive_integers(width=width, epochs=epochs, batch_size=batch_size)
    check_integers(0, seed=seed)
    check_bools(flip=flip, verbose=verbose)
    images, labels = np.asarray(images), np.asarray(labels)
    require(
        images.ndim == 4 and images.dtype == np.uint8 and len(images),
        "`images` must be uint8 of shape (n, height, width, channels).",
        f"images of shape {images.shape} and type {images.dtype}",
    )
    is_right = labels.shape == images.shape[:1]
    require(is_right, "`labels` must have one for each image.", f"{len(images)} images, labels of shape {labels.shape}")
    as_integers(0, labels=labels)
    network = Builder(int(seed)).network(images.shape[1:], int(labels.max()) + 1, int(width))
    batches = ShiftedBatches(images, labels, batch_size, flip, seed)
    rate = keras.optimizers.schedules.CosineDecay(PEAK, epochs * len(batches))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    trained = keras.Model(network.input, network.output["logits"])
    trained.compile(keras.optimizers.AdamW(rate, weight_decay=0.02), loss, metrics=["accuracy"])
    trained.fit(batches, epochs=epochs, shuffle=False, verbose=int(verbose))
    return network


class ShiftedBatches(ShuffledBatches):
    """Full batches in a random order, of images that are shifted, their borders repeated, and perhaps mirrored."""

    def __init__(self, images, labels, batch_size, flip, seed):
        super().__init__(images, labels.astype("int32"), batch_size, seed)
        self.flip = flip

    def __getitem__(self, index):
        images, labels = super().__getitem__(index)
        return np.stack([self._shifted(image) for image in images]), labels

    def _shifted(self, image):
        height, width = image.shape[:2]
        margins = height // SHIFT, width // SHIFT
        padded = np.pad(image, ((margins[0],) * 2, (margins[1],) * 2, (0, 0)), mode="edge")
        top, left = (self.rng.integers(0, 2 * margin + 1) for margin in margins)
        shifted = padded[top : top + height, left : left + width]
        return shifted[:, ::-1] if self.flip and self.rng.random() < 0.5 else shifted


class Builder:
    """Makes the layers of the network; weights follow the seed and no global one.

    Args:
        seed: Integer.
    """

    def __init__(self, seed):
        self.seeds = itertools.count(1000 * seed)

    def network(self, image_shape, num_classes, width):
        layers = keras.layers
        inputs = keras.Input(image_shape)
        x = layers.Rescaling(1 / 127.5, offset=-1)(inputs)
        x = self.convolved(x, width, strides=2 if min(image_shape[:2]) >= 32 else 1)
        while min(x.shape[1:3]) > SMALLEST:
            x = self.block(x, width)
            width = 2 * width
            x = self.block(x, width, strides=2)
        x = self.block(x, width)
        features = layers.GlobalAveragePooling2D(name="features")(x)
        x = layers.Dropout(0.2, seed=next(self.seeds))(features)
        logits = layers.Dense(num_classes, name="logits", kernel_initializer=self.initializer())(x)
        return keras.Model(inputs, {"features": features, "logits": logits}, name="classifier")

    def block(self, x, width, strides=1):
        """Two convolutions beside a direct path, whose maps are averaged where they are halved."""
        direct = x
        if strides > 1:
            direct = self.convolution(keras.layers.AveragePooling2D(2, padding="same")(x), width, kernel_size=1)
        x = self.convolved(x, width, strides)
        x = self.normalized(self.convolution(x, width))
        return keras.layers.ReLU()(keras.layers.Add()([x, direct]))

    def convolved(self, x, width, strides=1):
        return keras.layers.ReLU()(self.normalized(self.convolution(x, width, strides=strides)))

    def normalized(self, x):
        return keras.layers.BatchNormalization(momentum=MOMENTUM)(x)

    def convolution(self, x, width, kernel_size=3, strides=1):
        initializer = self.initializer()
        options = {"strides": strides, "padding": "same", "use_bias": False, "kernel_initializer": initializer}
        return keras.layers.Conv2D(width, kernel_size, **options)(x)

    def initializer(self):
        return keras.initializers.HeNormal(next(self.seeds))
