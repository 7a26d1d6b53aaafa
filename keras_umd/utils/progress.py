"""A bar that shows how far a loop over images is."""

import keras

from keras_umd.backend.processes import is_first_process


def progress_bar(num_images, verbose):
    """A callable that is told how many of `num_images` (`None`: unknown) are done, and shows Keras' bar if asked to.

    Args:
        num_images: Integer or `None`.
        verbose: Bool, or `"auto"`: as Keras' interactive logging is set. Of several processes, the first one shows it.
    """
    if verbose == "auto":
        verbose = keras.config.is_interactive_logging_enabled()
    if not verbose or not is_first_process():
        return lambda done: None
    return keras.utils.Progbar(num_images, unit_name="image").update
