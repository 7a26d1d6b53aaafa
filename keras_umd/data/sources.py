"""Records that can be read in any order: arrays, folders of images, tar files, random-access files of TFDS."""

import os
import tarfile
import warnings

import numpy as np

from keras_umd.data.decoding import BadImage

IMAGE_TYPES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm")


class ArraySource:
    """Images and labels in memory, or in a memory-mapped file."""

    def __init__(self, images, labels=None):
        is_array = isinstance(images, np.ndarray) and images.ndim == 4 and images.size > 0
        if not is_array or images.dtype != np.uint8 or images.shape[-1] not in (1, 3):
            raise ValueError(
                "`images` must be a NumPy array of uint8 images (n, height, width, 1 or 3), and not empty. "
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
            entries = list(os.scandir(directory))
            self.class_names = sorted(entry.name for entry in entries if _is_shown(entry))
            stray = sorted(e.name for e in entries if e.name.lower().endswith(IMAGE_TYPES) and not e.is_dir())
            if not self.class_names:
                raise ValueError(
                    "With labels, there must be a sub-folder for each class; labels=False takes images alone. "
                    f"Received: directory={_shown(directory)} without sub-folders"
                )
            files = [_image_files(os.path.join(directory, name)) for name in self.class_names]
            _warn_of(stray, f"images in {_shown(directory)} are in no sub-folder and so have no class")
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
            try:
                records = self._contents(number, path)
            except tarfile.TarError as error:
                raise ValueError(f"A tar file must be whole and not compressed. Received: {path}: {error}") from error
            for stem, record in records.items():
                if len(record.get("images", ())) != 1 or (with_labels and "label" not in record):
                    raise ValueError(
                        "Each record must have one image, and a label in a .cls file or labels=False. Received: "
                        f"{path}: {stem} with {len(record.get('images', ()))} images, label: {record.get('label')}"
                    )
                self._places += record["images"]
                self._names.append(f"{path}: {stem}")
                labels.append(record.get("label"))
        if not self._places:
            raise ValueError(f"There must be images in the tar files. Received: paths={paths} with none")
        self._places = np.asarray(self._places)
        self.labels = checked_labels(labels, len(labels)) if with_labels else None

    @staticmethod
    def _contents(number, path):
        """Of each record, the places of its images and its label, as far as it has them."""
        records = {}
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
        return records

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
        try:
            features = self.data_source[int(record)]
        except Exception as error:  # its readers raise many kinds
            raise BadImage(f"can't be read: {error}") from error
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
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        if os.path.realpath(folder) in seen:  # by a link
            folders.clear()
            continue
        seen.add(os.path.realpath(folder))
        for name in sorted(names):
            if not name.startswith("."):
                chosen = paths if name.lower().endswith(IMAGE_TYPES) else others
                chosen.append(os.path.join(folder, name))
    _warn_of(others, f"files in {_shown(directory)} don't end in one of {IMAGE_TYPES}")
    return paths


def _warn_of(left_out, why):
    if left_out:
        more = ", ..." if len(left_out) > 1 else ""
        warnings.warn(f"{len(left_out)} {why}; they are left out: {_shown(left_out[0])}{more}", stacklevel=5)


def _is_shown(entry):
    return entry.is_dir() and not entry.name.startswith(".")


def _shown(name):
    """A file name that can be printed, whatever its bytes are."""
    return name.encode(errors="backslashreplace").decode()
