"""Losses for TensorBoard, W&B and MLflow."""

import os

import keras

from keras_umd.backend.processes import is_first_process
from keras_umd.training.run_files import Events
from keras_umd.utils.checks import check_one_of, is_list
from keras_umd.utils.optional import import_optional


def of(names, directory):
    """The callbacks that send the losses to all of `names`; none in processes that aren't the first.

    Args:
        names: List of `"tensorboard"`, `"wandb"` and `"mlflow"`, or one of them.
        directory: String, the folder of the run.
    """
    names = names if is_list(names) else (names,)
    for name in names:
        check_one_of(tuple(MAKERS), log_to=name)
    return [MAKERS[name](directory) for name in dict.fromkeys(names)] if is_first_process() else []


class _TensorBoard(keras.callbacks.Callback):
    """Writes losses and rate of each epoch; Keras' own callback needs TensorFlow on every backend."""

    def __init__(self, directory):
        super().__init__()
        self.directory = os.path.join(directory, "tensorboard")
        self._events = None
        import_optional(
            "tensorboard.summary.writer.event_file_writer",
            "Logs for TensorBoard need tensorboard: pip install 'keras-umd[plots]'",
        )

    def on_epoch_begin(self, epoch, logs=None):
        if self._events is None:  # not before: a callback that resumes may still change the step
            self._events = Events(self.directory, self._step())

    def on_epoch_end(self, epoch, logs=None):
        rate = float(keras.ops.convert_to_numpy(self.model.optimizer.learning_rate))
        values = {name: float(value) for name, value in (logs or {}).items()}
        self._events.add_scalars(self._step(), {**values, "learning_rate": rate})

    def on_train_end(self, logs=None):
        if self._events is not None:
            self._events.writer.close()
        self._events = None

    def _step(self):
        return int(keras.ops.convert_to_numpy(self.model.optimizer.iterations))


def _wandb(directory):
    module = import_optional("wandb.integration.keras", "Logs for Weights & Biases need wandb: pip install wandb")
    return module.WandbMetricsLogger()


def _mlflow(directory):
    module = import_optional("mlflow.keras", "Logs for MLflow need mlflow: pip install mlflow")
    return module.MlflowCallback()


MAKERS = {"tensorboard": _TensorBoard, "wandb": _wandb, "mlflow": _mlflow}
