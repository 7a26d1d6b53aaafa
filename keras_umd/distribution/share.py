"""This process' shard of the data."""

import keras

from keras_umd.backend.processes import num_processes, process_index
from keras_umd.utils.checks import check_positive_integers


def share(batch_size):
    """This process' shard of each batch and of the images, as arguments of the functions of `keras_umd.data`.

    Example:

    >>> train = data.from_folder("photos", image_size=8, **distribution.share(batch_size=2))

    Args:
        batch_size: Integer, of all processes together.

    Returns:
        Dictionary with `batch_size`, `shard_index` and `num_shards`.

    Raises:
        ValueError: if the devices can't have equal parts of the batch.
    """
    check_positive_integers(batch_size=batch_size)
    batch_size = int(batch_size)
    distribution = keras.distribution.distribution()
    if distribution is None:
        shard_index, num_shards = process_index(), num_processes()
        num_parts = num_shards
    else:
        num_parts = distribution.num_model_replicas
        shard_index, num_shards = distribution.data_shard_id, min(num_processes(), num_parts)
    if batch_size % num_parts:
        raise ValueError(
            f"`batch_size` must be divisible by {num_parts}, the devices that share it. "
            f"Received: batch_size={batch_size}"
        )
    return {"batch_size": batch_size // num_shards, "shard_index": shard_index, "num_shards": num_shards}
