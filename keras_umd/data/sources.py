"""Records that can be read in any order: arrays, folders of images, tar files, random-access files of TFDS."""

import os
import tarfile
import warnings

import numpy as np

IMAGE_TYPES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm")


class ArraySource:
    """Images and labels in memory, or in a memory-mapped file."""

    def __init__(self, images, labels=None):
        if getattr(images, "ndim", 0) != 4 or images.dtype != np.uint8 or images.shape[-1] not in (1, 3):
            raise ValueError(
                "`images` must be a uint8 array (n, height, width, 1 or 3). "
                f"Received: {type(images).__name__} of shape {getattr(images, 'shape', None)} "
                f"and type {getattr(images, 'dtype', None)}"
            )
        self.images = images
        self.labels = None if labels is None else checked_labels(labels, len(images))

    def __len__(self):
        return len(self.images)

    def read(self, record):
        return self.images[record], None if self.labels is None else self.labels[record]

    def name(self, record):
        return f"image {record}"


class FolderSource:
    """Image files: those of each sub-folder are a class, or all of a folder without sub-folders are one set.

    Args:
        directory: String or path.
        with_labels: Bool. Whether the sub-folders are classes.
    """

    def __init__(self, directory, with_labels=True):
        directory = os.fspath(directory)
        if not os.path.isdir(directory):
            raise ValueError(f"`directory` must be a folder with images. Received: directory={_shown(directory)}")
        self.class_names, self.labels = None, None
        if with_labels:
            self.class_names = sorted(entry.name for entry in os.scandir(directory) if _is_shown(entry))
            if not self.class_names:
                raise ValueError(
                    "With labels, there must be a sub-folder for each class; labels=False takes images alone. "
                    f"Received: directory={_shown(directory)} without sub-folders"
                )
            files = [_image_files(os.path.join(directory, name)) for name in self.class_names]
            empty = [_shown(name) for name, paths in zip(self.class_names, files, strict=True) if not paths]
            if empty:
                raise ValueError(
                    f"Every class must have images, files that end in one of {IMAGE_TYPES}. "
                    f"Received: directory={_shown(directory)} with none in {empty[:5]}"
                )
            self.labels = np.repeat(np.arange(len(files), dtype="int32"), [len(paths) for paths in files])
            self.paths = [path for paths in files for path in paths]
        else:
            self.paths = _image_files(directory)
        if not self.paths:
            raise ValueError(
                f"There must be image files, which end in one of {IMAGE_TYPES}. "
                f"Received: directory={_shown(directory)} with none"
            )

    def __len__(self):
        return len(self.paths)

    def read(self, record):
        return read_file(self.paths[record]), None if self.labels is None else self.labels[record]

    def name(self, record):
        return self.paths[record]


class TarSource:
    """Tar files in WebDataset's convention: files with the same name but for its end are one record.

    The files are read through once for their tables of contents, then record by record in any order.

    Args:
        paths: List of strings.
        with_labels: Bool. Whether each record has a `.cls` file with a class index.
    """

    def __init__(self, paths, with_labels=True):
        self.paths = paths
        self._places, self._names, labels = [], [], []
        for number, path in enumerate(paths):
            with tarfile.open(path, "r:") as archive:
                records = {}
                for member in archive:
                    stem, _, end = member.name.rpartition(".")
                    if not member.isfile():
                        continue
                    if f".{end.lower()}" in IMAGE_TYPES:
                        records.setdefault(stem, {})["image"] = (number, member.offset_data, member.size)
                    elif end == "cls" and with_labels:
                        records.setdefault(stem, {})["label"] = int(archive.extractfile(member).read())
            for stem, record in records.items():
                if "image" not in record or (with_labels and "label" not in record):
                    raise ValueError(
                        "Each record must have an image, and a label in a .cls file or labels=False. "
                        f"Received: {path}: {stem} with only {sorted(record)}"
                    )
                self._places.append(record["image"])
                self._names.append(f"{path}: {stem}")
                labels.append(record.get("label"))
        if not self._places:
            raise ValueError(f"There must be images in the tar files. Received: paths={paths} with none")
        self._places = np.asarray(self._places)
        self.labels = np.asarray(labels, "int32") if with_labels else None

    def __len__(self):
        return len(self._places)

    def read(self, record):
        number, offset, size = map(int, self._places[record])
        label = None if self.labels is None else self.labels[record]
        with open(self.paths[number], "rb") as file:
            file.seek(offset)
            return file.read(size), label

    def name(self, record):
        return self._names[record]


class RandomAccessSource:
    """A data source of TFDS (`builder.as_data_source`), which reads array_record files without TensorFlow."""

    def __init__(self, data_source, image_key, label_key):
        self.data_source = data_source
        self.image_key = image_key
        self.label_key = label_key

    def __len__(self):
        return len(self.data_source)

    def read(self, record):
        features = self.data_source[int(record)]
        return features[self.image_key], None if self.label_key is None else int(features[self.label_key])

    def name(self, record):
        return f"record {record}"


def checked_labels(labels, num_images):
    """Class indices as an int32 array of shape `(num_images,)`."""
    labels = np.asarray(labels)
    if labels.shape not in {(num_images,), (num_images, 1)} or labels.dtype.kind not in "iu" or labels.min() < 0:
        raise ValueError(
            f"`labels` must be class indices of shape ({num_images},). "
            f"Received: labels of shape {labels.shape} and type {labels.dtype}"
        )
    return labels.reshape(-1).astype("int32")


def read_file(path):
    with open(path, "rb") as file:
        return file.read()


def _image_files(directory):
    """The image files in a folder and all below it, in the order of their names."""
    paths, others, seen = [], [], set()
    for folder, folders, names in os.walk(directory, followlinks=True):
        folders.sort()
        if os.path.realpath(folder) in seen:  # by a link
            folders.clear()
            continue
        seen.add(os.path.realpath(folder))
        for name in sorted(names):
            if not name.startswith("."):
                chosen = paths if name.lower().endswith(IMAGE_TYPES) else others
                chosen.append(os.path.join(folder, name))
    if others:
        warnings.warn(
            f"{len(others)} files in {_shown(directory)} don't end in one of {IMAGE_TYPES} and are left out: "
            f"{_shown(others[0])}{', ...' if len(others) > 1 else ''}",
            stacklevel=5,
        )
    return paths


def _is_shown(entry):
    return entry.is_dir() and not entry.name.startswith(".")


def _shown(name):
    """A file name that can be printed, whatever its bytes are."""
    return name.encode(errors="backslashreplace").decode()
