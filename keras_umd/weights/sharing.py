"""Presets to the hubs."""

import os

from keras_umd.utils import hub
from keras_umd.utils.checks import check_instances, check_paths
from keras_umd.utils.preset_folder import FILES, read_description


def upload(folder, uri):
    """Copy a preset to the Hugging Face Hub or to Kaggle, by the hub's own library, which also signs in.

    The folder is compared with its checksums before; the model card is taken as it is, and may be edited.

    Example:

    >>> model.save_to_preset("presets/birds", license="cc-by-4.0")
    >>> keras_umd.weights.upload("presets/birds", "hf://user/birds")                                    # doctest: +SKIP
    >>> keras_umd.UMD.from_preset("hf://user/birds")                                                    # doctest: +SKIP

    Args:
        folder: String or path, of a folder that `save_to_preset` wrote.
        uri: String, `"hf://user/repo"`, with `@branch` behind it for another than the main one, or
            `"kaggle://user/model/framework/variation"`, of which the framework is `keras`.

    Raises:
        ValueError: for another address.
        DamagedFileError: a ValueError, for a folder that isn't what was written.
        ImportError: if the hub's library isn't installed.
    """
    check_paths(folder=folder)
    check_instances(str, "an address, as 'hf://user/repo'", uri=uri)
    folder = os.fspath(folder)
    hub.check_uri(uri)
    hub.upload(uri, folder, FILES, read_description(folder)["license"])
