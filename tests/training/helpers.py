"""Helpers of the tests of interrupted trainings."""

import keras


class Killed(Exception):
    pass


def kill():
    raise Killed


class KillAfter(keras.callbacks.Callback):
    """Kills a training after some batches."""

    def __init__(self, num_batches, kill=kill):
        super().__init__()
        self.left = num_batches
        self.kill = kill

    def on_train_batch_end(self, batch, logs=None):
        self.left -= 1
        if not self.left:
            self.kill()
