"""Callbacks for long runs."""

import os

import keras


def standard(directory, save_freq="epoch"):
    """What a long training needs: it raises at NaN, goes on where it was stopped, and leaves its model and its losses.

    Example:

    >>> model.fit(images, epochs=800, callbacks=keras_umd.callbacks.standard("runs/umd"))

    Args:
        directory: String or path. Gets `model.keras`, written after each epoch; `history.csv`; and while the training
            runs `backup/`, from which the same script goes on after it was stopped.
        save_freq: `"epoch"`, or an integer, the steps between two backups.

    Returns:
        List of Keras callbacks.
    """
    os.makedirs(directory, exist_ok=True)
    return [
        keras.callbacks.TerminateOnNaN(raise_error=True),  # a plain stop would save NaN and drop the backup
        keras.callbacks.BackupAndRestore(os.path.join(directory, "backup"), save_freq=save_freq),
        keras.callbacks.ModelCheckpoint(os.path.join(directory, "model.keras")),
        keras.callbacks.CSVLogger(os.path.join(directory, "history.csv"), append=True),
    ]
