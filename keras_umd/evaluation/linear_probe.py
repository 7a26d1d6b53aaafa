"""The full linear probe: a linear classifier, trained by gradient descent on all labels."""

import keras
import numpy as np

from keras_umd.evaluation.batches import ShuffledBatches, batches_of
from keras_umd.evaluation.features import outputs_of
from keras_umd.evaluation.probes import Probe, check_labelled
from keras_umd.evaluation.provenance import describe_optimizer
from keras_umd.utils.checks import check_positive_integers


class LinearProbe(Probe):
    """BatchNorm without scale and offset, then Dense, trained on the features of all training images (MAE, appendix A).

    Args:
        epochs: Integer.
        batch_size: Integer.
        learning_rate: Positive float. The peak of a cosine decay to 0, for SGD with momentum 0.9. Not with `optimizer`.
        optimizer: Function from the number of steps to another Keras optimizer.
        num_runs: Integer. Number of trainings, each from other weights and in another order.
        seed: Integer.
    """

    def __init__(self, epochs=100, batch_size=256, learning_rate=0.1, optimizer=None, num_runs=1, seed=0):
        check_positive_integers(epochs=epochs, batch_size=batch_size, num_runs=num_runs)
        self.epochs = epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.optimizer = optimizer
        self.num_runs = num_runs
        self.seed = seed

    name = "linear accuracy"

    def accuracies(self, train, test):
        """The accuracy on the test set after each run."""
        (features, labels), (test_features, test_labels) = check_labelled(*train), check_labelled(*test)
        num_classes = int(max(labels.max(), test_labels.max())) + 1
        accuracies = []
        for run in range(self.num_runs):
            seed = self.seed + run
            batches = ShuffledBatches(features.astype("float32"), labels, self.batch_size, seed)
            norm = keras.layers.BatchNormalization(center=False, scale=False, dtype="float32")
            kernel = keras.initializers.GlorotUniform(seed)
            linear = keras.layers.Dense(num_classes, kernel_initializer=kernel, dtype="float32")
            inputs = keras.Input((features.shape[1],), dtype="float32")
            classifier = keras.Model(inputs, linear(norm(inputs)))  # a Sequential would follow the global dtype policy
            loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
            classifier.compile(self._optimizer(self.epochs * len(batches)), loss)
            classifier.fit(batches, epochs=self.epochs, shuffle=False, verbose=0)  # Keras shuffles by the global seed
            # The exact moments: moving averages lag far behind in a short training.
            norm.moving_mean.assign(features.mean(axis=0, dtype="float64"))
            norm.moving_variance.assign(features.var(axis=0, dtype="float64"))
            outputs = outputs_of(classifier, batches_of(test_features.astype("float32"), 4096))
            scores = np.concatenate([scores for scores, _, _ in outputs])
            accuracies.append(float(np.mean(scores.argmax(axis=1) == test_labels)))
        return accuracies

    def _optimizer(self, num_steps):
        if self.optimizer is not None:
            return self.optimizer(num_steps)
        decay = keras.optimizers.schedules.CosineDecay(self.learning_rate, num_steps)
        return keras.optimizers.SGD(decay, momentum=0.9)

    def get_config(self):
        return {
            "epochs": self.epochs,
            "batch_size": self.batch_size,
            "optimizer_for_1000_steps": describe_optimizer(self._optimizer(1000)),
            "num_runs": self.num_runs,
            "seed": self.seed,
        }
