"""Files on the disk as strangers leave them: only regular ones are read, and what is left out has a name."""

import os
import stat
import warnings

from keras_umd.data.limits import BadImage
from keras_umd.utils.checks import require

NUM_NAMED = 3  # files or images in a message


def open_regular(path):
    """A regular file, open to read its bytes; a pipe would wait for ever, a device never end.

    Raises:
        BadImage: for anything but a regular file.
        OSError: for a file that can't be opened.
    """
    # Without waiting for who writes to a pipe; the kind is asked of what is open, not of what had that name before.
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise BadImage("not a regular file")
    return open(descriptor, "rb")


def read_file(path, limits):
    """The bytes of a regular file.

    Raises:
        BadImage: for anything but a regular file, and for one of too many bytes.
        OSError: for a file that can't be read.
    """
    with open_regular(path) as file:
        limits.check_bytes(os.fstat(file.fileno()).st_size)
        data = file.read(limits.max_bytes + 1)  # files of the kernel have no size
    limits.check_bytes(len(data))
    return data


def why_not_read(path, limits):
    """Why `read_file` would refuse a file without opening it; empty for one that it would read."""
    try:
        status = os.stat(path)
        if not stat.S_ISREG(status.st_mode):
            raise BadImage("not a regular file")
        limits.check_bytes(status.st_size)
    except (BadImage, OSError) as error:
        return str(error)
    return ""


def regular_files(paths):
    """The same paths; raises a ValueError for a folder, a pipe or a device among them."""
    for path in paths:
        require(stat.S_ISREG(os.stat(path).st_mode), "`paths` must name regular files.", printable(path))
    return paths


class LeftOut:
    """What a reader leaves out before it reads images: names, by reason.

    Attributes:
        names: Dictionary from reasons to lists of names.
        num_lost: Integer, the images among them, as far as that is known.
    """

    def __init__(self):
        self.names = {}
        self.num_lost = 0
        self._quiet = set()

    def add(self, why, name, num_images=0, *, quiet=False):
        """Note a name.

        Args:
            why: String, continues "12 files ...".
            name: String.
            num_images: Integer, how many images are lost with it.
            quiet: Bool. Whether it needs no warning: files that are hidden on purpose.
        """
        self.names.setdefault(why, []).append(name)
        self.num_lost += num_images
        if quiet:
            self._quiet.add(why)

    def _texts(self):
        loud = {why: names for why, names in self.names.items() if why not in self._quiet}
        return [f"{len(names)} {why}: {first_of((name,) for name in names)}" for why, names in loud.items()]

    def warn(self):
        """Warn of what is left out."""
        for text in self._texts():
            warnings.warn(f"{text} (`not_read` has all of them)", stacklevel=5)

    def check(self, num_images, on_error, max_bad_share):
        """Raise a ValueError if too many images are lost.

        Args:
            num_images: Integer, images that aren't left out.
            on_error, max_bad_share: As of `from_folder`.
        """
        if not self.num_lost:
            return
        require(
            on_error == "skip",
            "Images can't be read; on_error='skip' would leave them out.",
            "; ".join(self._texts()),
        )
        num_all = self.num_lost + num_images
        require(
            self.num_lost <= max_bad_share * num_all,
            f"More than max_bad_share={max_bad_share} of the images can't be read.",
            f"{self.num_lost} of {num_all} images, as far as they can be counted; " + "; ".join(self._texts()),
        )


def printable(name):
    """A name that can be printed, whatever its bytes are."""
    return str(name).encode(errors="backslashreplace").decode()


def first_of(items, num_items=None):
    """The first names, with the reasons where there are any, and dots if `num_items` are more."""
    items = sorted(items)
    num_items = len(items) if num_items is None else num_items
    named = [
        "".join((printable(name), *(f" ({reason})" for reason in reasons))) for name, *reasons in items[:NUM_NAMED]
    ]
    return ", ".join(named) + (", ..." if num_items > len(named) else "")
