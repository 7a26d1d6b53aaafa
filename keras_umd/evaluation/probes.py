"""Probes, which judge features by the accuracy of a simple classifier: few-shot, nearest neighbours, linear."""

import keras
import numpy as np

from keras_umd.evaluation.features import ShuffledBatches, outputs_of
from keras_umd.evaluation.results import describe_optimizer
from keras_umd.utils.checks import (
    as_numbers,
    check_integers,
    check_numbers,
    check_positive_integers,
    require,
)
from keras_umd.utils.configurable import Configurable

BIAS_FEATURE = 100.0
MAX_CLASSES = 1_000_000  # a vector of the features' width each
BLOCK = 8192  # feature vectors that are converted to float64 at a time
TEST_BLOCK = 512  # test images that look for their neighbours at a time


class Probe(Configurable):
    """Base of the probes: a simple classifier on features. Subclasses have a `name`, a string.

    `get_config` has all settings that influence the result: the arguments, which subclasses keep as attributes.

    Example:

    >>> class NearestMean(evaluation.Probe):
    ...     name = "nearest mean accuracy"
    ...
    ...     def accuracies(self, train, test):
    ...         means = np.stack([train[0][train[1] == label].mean(axis=0) for label in range(3)])
    ...         found = ((test[0][:, None] - means) ** 2).sum(axis=2).argmin(axis=1)
    ...         return [float(np.mean(found == test[1]))]
    >>> print(evaluation.evaluate_features(model.feature_extractor(), (train, test), NearestMean(), verbose=False))
    | nearest mean accuracy |
    | --------------------- |
    | ...                   |
    """

    name: str | None = None

    def accuracies(self, train, test):
        """Train and judge the classifier.

        Args:
            train, test: Pairs of features `(n, dim)` and labels `(n,)`.

        Returns:
            List of floats in [0, 1], the accuracy of each draw or run.
        """
        raise NotImplementedError


def check_labelled(features, labels):
    """Return features and labels as arrays, or raise a ValueError for shapes that don't fit."""
    as_numbers(features=features, finite=False)
    as_numbers(labels=labels)
    features, labels = np.asarray(features), np.asarray(labels)
    require(
        labels.dtype.kind in "iu" and labels.min(initial=0) >= 0,
        "`labels` must be class indices, integers of at least 0.",
        f"labels of type {labels.dtype}, from {labels.min(initial=0)} on",
    )
    require(
        features.ndim == 2 and len(features) and labels.shape == features.shape[:1],
        "Features must have shape (n, dim) and labels (n,), n at least 1.",
        f"features of shape {features.shape}, labels of shape {labels.shape}",
    )
    are_finite = np.isfinite(features).all(axis=1)
    require(
        are_finite.all(),
        "Features must be finite; look for NaN in the weights of the encoder.",
        f"NaN or infinite values in {np.sum(~are_finite)} of {len(features)} features",
    )
    return features, labels


def checked_sets(train, test):
    """The features and labels of training and of test data, as arrays."""
    for name, pair in (("train", train), ("test", test)):
        is_pair = isinstance(pair, (tuple, list)) and len(pair) == 2
        is_pair = is_pair and all(hasattr(part, "__len__") and not isinstance(part, (str, bytes)) for part in pair)
        require(is_pair, f"`{name}` must be a pair of features (n, dim) and labels (n,).", f"{name}={pair!r:.200}")
    (features, labels), (test_features, test_labels) = check_labelled(*train), check_labelled(*test)
    require(
        features.shape[1] == test_features.shape[1],
        "`train` and `test` must have features of one width.",
        f"train with {features.shape[1]}, test with {test_features.shape[1]}",
    )
    return (features, labels), (test_features, test_labels)


class RidgeClassifier:
    """Linear classifier by ridge regression to one-hot targets, as in the paper and big_vision's few-shot evaluator.

    Features are standardized with mean and standard deviation of the training set, a constant feature of 100 serves as
    the bias, targets are -1 and 1, and the weights are `(A'A + l2 I)^-1 A'y`. All in float64: in float32 the solution
    is off by up to 5e-3.

    Example:

    >>> classifier = evaluation.RidgeClassifier()
    >>> classifier.fit(features[:45], feature_labels[:45])
    >>> accuracy = classifier.accuracy(features[45:], feature_labels[45:])

    Args:
        l2: Positive float. Strength of the ridge penalty, on the bias too.
    """

    def __init__(self, l2=1024.0):
        check_numbers("(0, inf)", l2=l2)
        self.l2 = l2

    def fit(self, features, labels, num_classes=None):
        """Solve for the weights.

        Args:
            features: Array of shape `(n, dim)`.
            labels: Int array of shape `(n,)`.
            num_classes: Integer. Defaults to the largest label plus one.

        Returns:
            The classifier itself, with `weights` of shape `(dim + 1, num_classes)`.
        """
        features, labels = check_labelled(features, labels)
        check_integers(int(labels.max()) + 1, MAX_CLASSES, optional=True, num_classes=num_classes)
        num_classes = int(labels.max()) + 1 if num_classes is None else num_classes
        self._mean = features.mean(axis=0, dtype="float64")
        squares = sum(((block - self._mean) ** 2).sum(axis=0) for block in _blocks(features))
        self._deviation = np.sqrt(squares / len(features)) + 1e-5
        n, dim = len(features), features.shape[1] + 1
        if n < dim:  # the dual form: the same solution from the smaller linear system
            a, targets = self._design(features), _targets(labels, num_classes)
            self.weights = a.T @ np.linalg.solve(a @ a.T + self.l2 * np.eye(n), targets)
        else:
            gram, moments = self.l2 * np.eye(dim), np.zeros((dim, num_classes))
            for block, block_labels in zip(_blocks(features), _blocks(labels), strict=True):
                a = self._design(block)
                gram += a.T @ a
                moments += a.T @ _targets(block_labels, num_classes)
            self.weights = np.linalg.solve(gram, moments)
        return self

    def scores(self, features):
        """Scores of shape `(n, num_classes)`; the largest is the predicted class."""
        features = as_numbers(features=features, finite=False)
        require(
            features.ndim == 2 and features.shape[1] == len(self._mean),
            f"`features` must have shape (n, {len(self._mean)}), as those of `fit`.",
            f"features of shape {features.shape}",
        )
        return self._design(features) @ self.weights

    def accuracy(self, features, labels):
        """Share of `features` whose largest score is that of their label; a float in [0, 1]."""
        features, labels = check_labelled(features, labels)
        return float(
            np.mean(np.concatenate([self.scores(block).argmax(axis=1) for block in _blocks(features)]) == labels)
        )

    def _design(self, features):
        standardized = (features - self._mean) / self._deviation
        return np.concatenate([standardized, np.full((len(features), 1), BIAS_FEATURE)], axis=1)


class FewShotProbe(Probe):
    """The paper's probe: a `RidgeClassifier` fitted to a few labelled images of each class.

    Example:

    >>> probe = evaluation.FewShotProbe(shots=10, num_draws=3)
    >>> accuracies = probe.accuracies((features[:45], feature_labels[:45]), (features[45:], feature_labels[45:]))
    >>> len(accuracies)
    3

    Args:
        shots: Integer. Images of each class, drawn at random without replacement; `None` for all.
        num_draws: Integer. Number of draws, each with a fit; 1 where all images are used.
        l2: Positive float, see `RidgeClassifier`.
        seed: Integer, for the draws.
    """

    def __init__(self, shots=10, num_draws=5, l2=1024.0, seed=0):
        check_integers(1, optional=True, shots=shots)
        check_positive_integers(num_draws=num_draws)
        check_integers(0, seed=seed)
        self.shots = None if shots is None else int(shots)
        self.num_draws = int(num_draws) if shots is not None else 1
        self.l2 = l2
        self.seed = int(seed)
        self.classifier = RidgeClassifier(l2)

    @property
    def name(self):
        return "ridge accuracy" if self.shots is None else f"{self.shots}-shot accuracy"

    def accuracies(self, train, test):
        """The accuracy on the test set after each draw.

        Raises:
            ValueError: if a class has fewer than `shots` training images, or features and labels don't fit.
        """
        (features, labels), test = checked_sets(train, test)
        num_classes = int(max(labels.max(), test[1].max())) + 1
        draws = (self._chosen(labels, draw) for draw in range(self.num_draws))
        return [self.classifier.fit(features[i], labels[i], num_classes).accuracy(*test) for i in draws]

    def _chosen(self, labels, draw):
        if self.shots is None:
            return slice(None)
        members = {label: np.flatnonzero(labels == label) for label in np.unique(labels)}
        for label, images in members.items():
            require(
                len(images) >= self.shots, f"Class {label} has {len(images)} training images.", f"shots={self.shots}"
            )
        rng = np.random.default_rng([self.seed, draw])
        return np.concatenate([rng.choice(images, self.shots, replace=False) for images in members.values()])


def _targets(labels, num_classes):
    return 2.0 * (labels[:, None] == np.arange(num_classes)) - 1.0


def _blocks(array):
    return (array[start : start + BLOCK] for start in range(0, len(array), BLOCK))


class KNNProbe(Probe):
    """Classifies each test image by a weighted vote of its nearest training images.

    Neighbours are found by cosine similarity; a vote weighs exp(similarity / temperature), as in Wu et al., 2018, and
    DINO.

    Example:

    >>> probe = evaluation.KNNProbe(k=5)
    >>> accuracies = probe.accuracies((features[:45], feature_labels[:45]), (features[45:], feature_labels[45:]))

    Args:
        k: Integer. Number of neighbours.
        temperature: Positive float.
    """

    def __init__(self, k=20, temperature=0.07):
        check_positive_integers(k=k)
        check_numbers("(0, inf)", temperature=temperature)
        self.k = int(k)
        self.temperature = temperature

    @property
    def name(self):
        return f"{self.k}-NN accuracy"

    def accuracies(self, train, test):
        """The accuracy on the test set, a list of one: nothing is random."""
        (features, labels), (test_features, test_labels) = checked_sets(train, test)
        require(self.k <= len(features), f"There are {len(features)} training images.", f"k={self.k}")
        features, test_features = directions(features), directions(test_features)
        num_classes = int(labels.max()) + 1
        num_right = 0
        for start in range(0, len(test_features), TEST_BLOCK):
            part = slice(start, start + TEST_BLOCK)
            cosines = test_features[part] @ features.T  # (block, n)
            nearest = np.argpartition(-cosines, self.k - 1, axis=1)[:, : self.k]
            cosines = np.take_along_axis(cosines, nearest, axis=1)
            sums = votes_of(cosines, labels[nearest], self.temperature, num_classes)
            num_right += np.sum(sums.argmax(axis=1) == test_labels[part])
        return [float(num_right / len(test_features))]


def votes_of(cosines, labels, temperature, num_classes):
    """The votes for each class, `(n, num_classes)`, of neighbours with `cosines` and `labels` `(n, k)`."""
    votes = np.exp((cosines - cosines.max(axis=1, keepdims=True)) / temperature)
    places = np.arange(len(votes))[:, None] * num_classes + labels
    sums = np.bincount(places.ravel(), votes.ravel(), minlength=len(votes) * num_classes)
    return sums.reshape(-1, num_classes)


def directions(features):
    """Features of length 1, in float64."""
    features = features.astype("float64")
    return features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)


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
            outputs = outputs_of(classifier, ((x, None) for x in _blocks(test_features.astype("float32"))))
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
