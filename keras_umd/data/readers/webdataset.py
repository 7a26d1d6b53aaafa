"""Images in WebDataset's tar files."""

import glob
import os
import tarfile

import numpy as np

from keras_umd.data.readers.folder import IMAGE_TYPES, matching_files
from keras_umd.data.settings import Settings, checked_labels, names_or_numbers, random_access_dataset
from keras_umd.utils.checks import require


def from_webdataset(paths, *, image_size, batch_size, class_names=None, **options):
    """Images in WebDataset's tar files, with a class index in the `.cls` file beside each, without TensorFlow.

    Args:
        paths: String with wildcards, or list of strings or paths. Local files, uncompressed.
        image_size: Integer or pair `(height, width)`.
        batch_size: Integer.
        class_names: List of strings. Defaults to "0", "1", ...
        **options: As of `from_folder`, without `loader`.

    Returns:
        `ImageDataset`.
    """
    settings = Settings(image_size, batch_size, **options)
    paths = matching_files(paths, glob.glob)
    source = TarSource(paths, settings.labels)
    sizes = {os.path.basename(path): os.path.getsize(path) for path in paths}
    return random_access_dataset(settings, source, names_or_numbers(class_names, source.labels), f"tar files {sizes}")


class TarSource:
    """Tar files in WebDataset's convention: files whose names agree up to the first dot are one record.

    The files are read through once for their tables of contents, then record by record in any order.

    Args:
        paths: List of strings.
        with_labels: Bool. Whether each record has a `.cls` file with a class index.
    """

    def __init__(self, paths, with_labels=True):
        self.paths = paths
        self._places, self._names, labels = [], [], []
        for number, path in enumerate(paths):
            for stem, record in _records_of(number, path).items():
                if len(record.get("images", ())) != 1 or (with_labels and "label" not in record):
                    raise ValueError(
                        "Each record must have one image, and a label in a .cls file or labels=False. Received: "
                        f"{path}: {stem} with {len(record.get('images', ()))} images, label: {record.get('label')}"
                    )
                self._places += record["images"]
                self._names.append(f"{path}: {stem}")
                labels.append(record.get("label"))
        require(self._places, "There must be images in the tar files.", f"paths={paths} with none")
        self._places = np.asarray(self._places)
        self.labels = checked_labels(labels, len(labels)) if with_labels else None

    def __len__(self):
        return len(self._places)

    def read(self, record):
        number, offset, size = map(int, self._places[record])
        with open(self.paths[number], "rb") as file:
            file.seek(offset)
            return file.read(size), None if self.labels is None else self.labels[record]

    def name(self, record):
        return self._names[record]


def _records_of(number, path):
    """The places of the images and the label of each record in tar file `number`, as far as it has them."""
    records = {}
    try:
        with tarfile.open(path, "r:") as archive:
            for member in archive:
                folder, name = os.path.split(member.name)
                stem, _, end = name.partition(".")
                if not member.isfile() or not stem:
                    continue
                key = os.path.join(folder, stem)
                if f".{end.lower()}" in IMAGE_TYPES:
                    records.setdefault(key, {}).setdefault("images", []).append(
                        (number, member.offset_data, member.size)
                    )
                elif end.lower() == "cls":
                    text = archive.extractfile(member).read()
                    if not text.strip().isdigit():
                        raise ValueError(
                            f"A .cls file must hold a class index. Received: {path}: {member.name}: {text!r}"
                        )
                    records.setdefault(key, {})["label"] = int(text)
    except tarfile.TarError as error:
        raise ValueError(f"A tar file must be whole and not compressed. Received: {path}: {error}") from error
    return records
