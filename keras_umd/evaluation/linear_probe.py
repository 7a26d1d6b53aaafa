"""Probes that an optimizer trains: the linear probe, and the base of others."""

import keras
import numpy as np

from keras_umd.evaluation.features import ShuffledBatches, outputs_of
from keras_umd.evaluation.probes import Probe, blocks, checked_sets
from keras_umd.evaluation.results import describe_optimizer
from keras_umd.utils.checks import check_integers, check_numbers, check_positive_integers, require


class TrainedProbe(Probe):
    """A probe with weights that an optimizer trains: its settings, as of `LinearProbe`."""

    def __init__(self, epochs, batch_size, learning_rate, optimizer, num_runs, seed):
        check_positive_integers(epochs=epochs, batch_size=batch_size, num_runs=num_runs)
        check_numbers("(0, 1000]", learning_rate=learning_rate)
        require(
            optimizer is None or callable(optimizer),
            "`optimizer` must be a function from the number of steps to a Keras optimizer, or None.",
            optimizer=optimizer,
        )
        check_integers(0, seed=seed)
        self.epochs = int(epochs)
        self.batch_size = int(batch_size)
        self.learning_rate = learning_rate
        self.optimizer = optimizer
        self.num_runs = int(num_runs)
        self.seed = int(seed)


class LinearProbe(TrainedProbe):
    """BatchNorm without scale and offset, then Dense, trained on the features of all training images (MAE, appendix A).

    Example:

    >>> probe = evaluation.LinearProbe(epochs=20, batch_size=15)
    >>> accuracies = probe.accuracies((features[:45], feature_labels[:45]), (features[45:], feature_labels[45:]))

    Args:
        epochs: Integer.
        batch_size: Integer.
        learning_rate: Positive float. The peak of a cosine decay to 0, for SGD with momentum 0.9. Not with `optimizer`.
        optimizer: Function from the number of steps to another Keras optimizer.
        num_runs: Integer. Number of trainings, each from other weights and in another order.
        seed: Integer.
    """

    def __init__(self, epochs=100, batch_size=256, learning_rate=0.1, optimizer=None, num_runs=1, seed=0):
        super().__init__(epochs, batch_size, learning_rate, optimizer, num_runs, seed)

    name = "linear accuracy"

    def accuracies(self, train, test):
        """The accuracy on the test set after each run."""
        (features, labels), (test_features, test_labels) = checked_sets(train, test)
        num_classes = int(max(labels.max(), test_labels.max())) + 1
        accuracies = []
        for seed in range(self.seed, self.seed + self.num_runs):
            batches = ShuffledBatches(features.astype("float32"), labels, self.batch_size, seed)
            norm = keras.layers.BatchNormalization(center=False, scale=False, dtype="float32")
            linear = keras.layers.Dense(
                num_classes, kernel_initializer=keras.initializers.GlorotUniform(seed), dtype="float32"
            )
            inputs = keras.Input((features.shape[1],), dtype="float32")
            classifier = keras.Model(inputs, linear(norm(inputs)))  # a Sequential would follow the global dtype policy
            classifier.compile(
                self._optimizer(self.epochs * len(batches)),
                keras.losses.SparseCategoricalCrossentropy(from_logits=True, dtype="float32"),  # not the global floatx
            )
            classifier.fit(batches, epochs=self.epochs, shuffle=False, verbose=0)  # Keras shuffles by the global seed
            # The exact moments: moving averages lag far behind in a short training.
            norm.moving_mean.assign(features.mean(axis=0, dtype="float64"))
            norm.moving_variance.assign(features.var(axis=0, dtype="float64"))
            outputs = outputs_of(classifier, ((x, None) for x in blocks(test_features.astype("float32"))))
            scores = np.concatenate([scores for scores, *_ in outputs])
            accuracies.append(float(np.mean(scores.argmax(axis=1) == test_labels)))
        return accuracies

    def _optimizer(self, num_steps):
        if self.optimizer is not None:
            return self.optimizer(num_steps)
        return keras.optimizers.SGD(keras.optimizers.schedules.CosineDecay(self.learning_rate, num_steps), momentum=0.9)

    def get_config(self):
        return {
            "epochs": self.epochs,
            "batch_size": self.batch_size,
            "optimizer_for_1000_steps": describe_optimizer(self._optimizer(1000)),
            "num_runs": self.num_runs,
            "seed": self.seed,
        }
