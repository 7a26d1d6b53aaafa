"""Images in WebDataset's tar files."""

import glob
import os
import tarfile

import numpy as np

from keras_umd.data.files import LeftOut, open_regular, regular_files
from keras_umd.data.image_files import IMAGE_TYPES, matching_files
from keras_umd.data.limits import DEFAULT_LIMITS
from keras_umd.data.settings import Settings, checked_labels, names_or_numbers, random_access_dataset
from keras_umd.utils.checks import require

MAX_HEADER = 2**20  # bytes of a long name or of extended attributes, which tarfile would read at once
MAX_LABEL = 32  # bytes of a .cls file
LOOKED_AT = 2**20  # bytes behind the end of an archive


def from_webdataset(paths, *, image_size, batch_size, class_names=None, **options):
    """Images in WebDataset's tar files, with a class index in the `.cls` file beside each, without TensorFlow.

    Records without a label, without an image or with several, links and what else is no regular file are left out,
    counted and named; `max_bad_share` bounds them. A file that is damaged between its records is an error.

    Example:

    >>> train = data.from_webdataset("shards/train-*.tar", image_size=64, batch_size=1024)              # doctest: +SKIP

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
    paths = regular_files(matching_files(paths, glob.glob))
    source = TarSource(paths, settings.labels, settings.limits)
    source.left_out.warn()
    source.left_out.check(len(source), settings.on_error, settings.max_bad_share)
    require(len(source), "There must be images in the tar files.", f"paths={paths} with none")
    sizes = {os.path.basename(path): os.path.getsize(path) for path in paths}
    class_names = names_or_numbers(class_names, source.labels, settings.limits)
    return random_access_dataset(settings, source, class_names, f"tar files {sizes}")


class TarSource:
    """Tar files in WebDataset's convention: files whose names agree up to the first dot are one record.

    The files are read through once for their tables of contents, then record by record in any order.

    Args:
        paths: List of strings.
        with_labels: Bool. Whether each record has a `.cls` file with a class index.
        limits: `Limits`.

    Raises:
        ValueError: for a damaged file.
    """

    def __init__(self, paths, with_labels=True, limits=DEFAULT_LIMITS):
        self.paths = paths
        self.left_out = LeftOut()
        self._places, self._names, labels = [], [], []
        for number, path in enumerate(paths):
            for stem, record in _records_of(path, limits, self.left_out).items():
                images, label = record.get("images", ()), record.get("label")
                name = f"{path}: {stem}"
                if len(images) != 1 or (with_labels and label is None):
                    self.left_out.add(
                        "records don't have one image, and a label in a .cls file or labels=False; they are left out",
                        f"{name} with {len(images)} images, label: {label}",
                        1,
                    )
                    continue
                self._places.append((number, *images[0]))
                self._names.append(name)
                labels.append(label)
            limits.check_records(len(self._names), path)
        self._places = np.asarray(self._places, "int64")
        self.labels = checked_labels(labels, len(labels)) if with_labels and labels else None

    def __len__(self):
        return len(self._places)

    def read(self, record):
        number, offset, size = map(int, self._places[record])
        with open_regular(self.paths[number]) as file:
            file.seek(offset)
            return file.read(size), None if self.labels is None else self.labels[record]

    def name(self, record):
        return self._names[record]


class _Member(tarfile.TarInfo):
    """A member of an archive whose header can be believed; tarfile ends in silence at one that is damaged."""

    @classmethod
    def frombuf(cls, buf, encoding, errors):
        try:
            member = super().frombuf(buf, encoding, errors)
        except (tarfile.EmptyHeaderError, tarfile.EOFHeaderError):
            raise  # the end
        except tarfile.HeaderError as error:
            raise ValueError(f"a header is damaged: {error}") from error
        is_content = member.type in tarfile.SUPPORTED_TYPES and member.type not in EXTENDED_TYPES
        if member.size < 0 or (member.size > MAX_HEADER and not is_content):
            raise ValueError(f"a header says that it has {member.size} bytes")
        return member


EXTENDED_TYPES = (
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
)


def _records_of(path, limits, left_out):
    """The places of the images `(offset, size)` and the label of each record of a tar file, as far as it has them."""
    records = {}
    try:
        with tarfile.open(path, "r:", tarinfo=_Member) as archive:
            for member in archive:
                if member.size < 0:  # in an extended header; tarfile would go back, again and again
                    raise ValueError(f"{member.name} has {member.size} bytes")
                _note_member(records, archive, member, path, limits, left_out)
                archive.members.clear()  # else it keeps all of them
            end = archive.offset
    except OSError:
        raise
    except Exception as error:  # tarfile raises many kinds
        raise ValueError(f"A tar file must be whole and not compressed. Received: {path}: {error}") from error
    with open_regular(path) as file:
        file.seek(end)
        require(
            not file.read(LOOKED_AT).strip(b"\0"),
            "A tar file must end where its data end; a header in it is damaged, or it is several in one.",
            f"{path} with more behind byte {end}",
        )
    return records


def _note_member(records, archive, member, path, limits, left_out):
    """Put a member of an archive into its record."""
    folder, name = os.path.split(member.name)
    stem, _, end = name.partition(".")
    is_image, is_label = f".{end.lower()}" in IMAGE_TYPES, end.lower() == "cls"
    if not stem or member.isdir() or not (is_image or is_label):
        return
    name = f"{path}: {member.name}"
    if not member.isfile() or member.issparse():
        left_out.add("links, or what else is no regular file, in archives; they are left out", name, int(is_image))
        return
    record = records.setdefault(os.path.join(folder, stem), {})
    if is_image:
        record.setdefault("images", []).append((member.offset_data, member.size))
        return
    text = archive.extractfile(member).read(MAX_LABEL) if member.size <= MAX_LABEL else b""
    if text.strip().isdigit() and int(text) < limits.max_classes:
        record["label"] = int(text)
    else:
        shown = repr(text) if text else f"{member.size} bytes"
        left_out.add(f".cls files hold no class index below {limits.max_classes}", f"{name}: {shown}")
