"""The paper's data sets for probes of a representation that was learned on ImageNet."""

import functools

from keras_umd.data import from_tfds

# Name and split in TFDS, of training and of test data. 4% of ImageNet are 51 images a class, enough to draw 10 from.
TRANSFER = {
    "STL-10": (("stl10", "train"), ("stl10", "test")),
    "Oxford Flowers": (("oxford_flowers102", "train"), ("oxford_flowers102", "test")),
    "DTD": (("dtd", "train"), ("dtd", "test")),
    "CIFAR-100": (("cifar100", "train"), ("cifar100", "test")),
    "Oxford Pets": (("oxford_iiit_pet", "train"), ("oxford_iiit_pet", "test")),
    "Food-101": (("food101", "train"), ("food101", "validation")),
    "Stanford Dogs": (("stanford_dogs", "train"), ("stanford_dogs", "test")),
    "ImageNet-v2": (("imagenet2012", "train[:4%]"), ("imagenet_v2/matched-frequency", "test")),
}


def transfer_datasets(image_size, batch_size=256, *, names=None, data_dir=None, **options):
    """The paper's eight data sets for 10-shot probes (section 5), for `evaluate_features`.

    They must have been prepared with TFDS. Each is opened in its turn.

    Args:
        image_size: Integer.
        batch_size: Integer.
        names: List of some of `keras_umd.evaluation.TRANSFER`. Defaults to all.
        data_dir: String or path, where TFDS keeps its data sets.
        **options: As in `keras_umd.data.from_tfds`.

    Returns:
        Dictionary from names to functions that return a pair of data sets, `(train, test)`.

    Raises:
        ValueError: for unknown names.
    """
    names = list(TRANSFER) if names is None else list(names)
    unknown = [name for name in names if name not in TRANSFER]
    if unknown:
        raise ValueError(f"`names` must be of {list(TRANSFER)}. Received: {unknown}")

    def open_pair(name):
        settings = {"image_size": image_size, "batch_size": batch_size, "training": False, "data_dir": data_dir}
        return tuple(from_tfds(*source, **settings, **options) for source in TRANSFER[name])

    return {name: functools.partial(open_pair, name) for name in names}
