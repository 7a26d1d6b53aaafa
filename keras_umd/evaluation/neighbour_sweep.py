"""Nearest neighbours over many k and temperatures, from one search."""

import itertools

import numpy as np

from keras_umd.evaluation.nearest_neighbours import TEST_BLOCK, directions, votes_of
from keras_umd.evaluation.probes import Probe, checked_sets
from keras_umd.utils.checks import as_integers, check_integers, check_numbers, is_list, require

KS = (5, 10, 20, 50, 100, 200)
TEMPERATURES = (0.02, 0.04, 0.07, 0.1, 0.2)
MOST_HELD_OUT = 10_000


class KNNSweep(Probe):
    """`KNNProbe` with the k and the temperature that do best on a held-out part of the training images.

    Tables of the field report the best over k and temperature. To choose them on the test images would flatter; here
    a tenth of the training images chooses, and the test images, with all training images as neighbours, judge.

    Example:

    >>> probe = evaluation.KNNSweep(ks=(5, 10), temperatures=(0.04, 0.07))
    >>> accuracies = probe.accuracies((features[:45], feature_labels[:45]), (features[45:], feature_labels[45:]))
    >>> k, temperature = probe.chosen                              # on a part of the training features

    Args:
        ks: List of positive integers, the numbers of neighbours. Those above the number of images are left out.
        temperatures: List of positive floats.
        seed: Integer, which chooses the held-out images.

    Attributes:
        chosen: Pair `(k, temperature)` of the last `accuracies`; `None` before.
    """

    name = "best k-NN accuracy"

    def __init__(self, ks=KS, temperatures=TEMPERATURES, seed=0):
        require(len(as_integers(1, ks=ks)), "`ks` must be at least one integer.", ks=ks)
        is_right = is_list(temperatures) and len(temperatures)
        require(is_right, "`temperatures` must be a list of positive numbers.", temperatures=temperatures)
        for temperature in temperatures:
            check_numbers("(0, inf)", temperatures=temperature)
        check_integers(0, seed=seed)
        self.ks = sorted({int(k) for k in ks})
        self.temperatures = [float(temperature) for temperature in temperatures]
        self.seed = int(seed)
        self.chosen = None

    def accuracies(self, train, test):
        """The accuracy on the test set with the settings that did best on held-out training images: a list of one."""
        (features, labels), test = checked_sets(train, test)
        order = np.random.default_rng(self.seed).permutation(len(features))
        num_held_out = min(max(1, len(features) // 10), MOST_HELD_OUT)
        require(len(features) > num_held_out + min(self.ks), f"There are {len(features)} training images.", ks=self.ks)
        held_out, kept = order[:num_held_out], order[num_held_out:]
        scores = self.sweep((features[kept], labels[kept]), (features[held_out], labels[held_out]))
        self.chosen = max(scores, key=scores.get)  # of equals the first: the smaller k
        return [self._scores((features, labels), test, [self.chosen])[self.chosen]]

    def sweep(self, train, test):
        """The accuracy of many settings on the test set.

        Args:
            train, test: Pairs of features `(n, dim)` and labels `(n,)`.

        Returns:
            Dictionary from pairs `(k, temperature)` to accuracies.
        """
        train, test = checked_sets(train, test)
        settings = [(k, t) for k, t in itertools.product(self.ks, self.temperatures) if k <= len(train[0])]
        require(settings, f"There are {len(train[0])} training images.", ks=self.ks)
        return self._scores(train, test, settings)

    def _scores(self, train, test, settings):
        (features, labels), (test_features, test_labels) = train, test
        most = max(k for k, _ in settings)
        features, test_features = directions(features), directions(test_features)
        num_classes = int(labels.max()) + 1
        num_right = dict.fromkeys(settings, 0)
        for start in range(0, len(test_features), TEST_BLOCK):
            part = slice(start, start + TEST_BLOCK)
            cosines = test_features[part] @ features.T  # (block, n)
            nearest = np.argpartition(-cosines, most - 1, axis=1)[:, :most]
            near = np.take_along_axis(cosines, nearest, axis=1)
            order = np.argsort(-near, axis=1, kind="stable")  # the k nearest are the first k
            near, near_labels = np.take_along_axis(near, order, 1), labels[np.take_along_axis(nearest, order, 1)]
            for k, temperature in settings:
                sums = votes_of(near[:, :k], near_labels[:, :k], temperature, num_classes)
                num_right[k, temperature] += int(np.sum(sums.argmax(axis=1) == test_labels[part]))
        return {setting: right / len(test_labels) for setting, right in num_right.items()}

    def get_config(self):
        return {"ks": self.ks, "temperatures": self.temperatures, "seed": self.seed}
