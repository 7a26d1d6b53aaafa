"""A callback that ends a training by the clock."""

import time

import keras

from keras_umd.utils.checks import check_bools, check_numbers


class StopAfter(keras.callbacks.Callback):
    """Ends a `fit` when its time is over, in the middle of an epoch too.

    The rate of a training that is cut short hasn't come to its end: plan the steps, as `recipes.small` does, and let
    this be for the machine that turns out slower.

    Example:

    >>> model.fit(images, batch_size=8, epochs=2, callbacks=[callbacks.StopAfter(minutes=15)])

    Args:
        minutes: Positive float, counted from the beginning of `fit`.
        cpu: Bool. Whether to count the time that the process's threads have computed rather than that of the wall, so
            that other work on the machine doesn't matter.

    Attributes:
        seconds: Float, how long the last `fit` took by this clock.
    """

    def __init__(self, minutes, *, cpu=False):
        super().__init__()
        check_numbers("(0, inf)", minutes=minutes)
        check_bools(cpu=cpu)
        self.minutes, self.cpu = minutes, cpu
        self.seconds = 0.0

    def _clock(self):
        return time.process_time() if self.cpu else time.monotonic()

    def on_train_begin(self, logs=None):
        self._began = self._clock()

    def on_train_batch_end(self, batch, logs=None):
        if self._clock() - self._began >= 60 * self.minutes:
            self.model.stop_training = True

    def on_train_end(self, logs=None):
        self.seconds = self._clock() - self._began
