"""Which files are images, as far as their names and kinds tell."""

import os

import numpy as np

from keras_umd.data.files import printable
from keras_umd.utils.checks import require

IMAGE_TYPES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm", ".npy")


class ImageFiles:
    """Lists image files, and notes what it leaves out.

    Args:
        left_out: `LeftOut`.
    """

    def __init__(self, left_out):
        self.left_out = left_out
        self._unreadable, self._counts = [], []  # folders, and the number of images in each of the others

    def below(self, directory):
        """The image files in a folder and all below it, folder by folder in the order of their names."""
        paths, seen, waiting = [], set(), [directory]
        while waiting:
            folder = waiting.pop()
            if os.path.realpath(folder) in seen:  # a link to a folder above would go on for ever
                continue
            seen.add(os.path.realpath(folder))
            try:
                with os.scandir(folder) as found:
                    entries = sorted(found, key=lambda entry: entry.name)
            except OSError:
                self._unreadable.append(folder)
                continue
            own = [entry.path for entry in entries if self._is_image(entry, directory)]
            folders = [entry.path for entry in entries if not entry.name.startswith(".") and _is_folder(entry)]
            waiting += reversed(folders)
            paths += own
            if own:
                self._counts.append(len(own))
        return paths

    def _is_image(self, entry, directory):
        """Whether to read it, as far as its name tells and its kind."""
        if entry.name.startswith("."):
            self.left_out.add("hidden files and folders", entry.path, quiet=True)
        elif _is_folder(entry):
            return False
        elif not entry.name.lower().endswith(IMAGE_TYPES):
            self.left_out.add(
                f"files in {printable(directory)} don't end in one of {IMAGE_TYPES}; they are left out", entry.path
            )
        elif _is_special(entry):
            self.left_out.add("pipes, devices or the like have names of images; they are left out", entry.path, 1)
        else:
            return True
        return False

    def count_unreadable(self):
        """Note the folders that can't be opened; each counts as so many images as the others have on average."""
        share = max(1, round(float(np.mean(self._counts)))) if self._counts else 1
        for folder in self._unreadable:
            self.left_out.add("folders can't be opened; what is in them is left out", folder, share)


def _is_folder(entry):
    try:
        return entry.is_dir()
    except OSError:
        return False


def _is_special(entry):
    """Whether it is there, and neither a folder nor a regular file; most file systems tell with the name."""
    try:
        return not entry.is_file() and os.path.exists(entry.path)
    except OSError:
        return False


def matching_files(paths, find):
    """The files that match patterns.

    Args:
        paths: String with wildcards, or list of strings or paths.
        find: Function from a pattern to the names that match it.

    Raises:
        ValueError: for a pattern that no file matches.
    """
    patterns = [paths] if isinstance(paths, (str, os.PathLike)) else paths
    found = []
    for pattern in map(os.fspath, patterns):
        matches = sorted(find(pattern))
        require(matches, "`paths` must name files.", f"{pattern!r}, which matches none")
        found += matches
    require(found, "`paths` must name files.", f"paths={paths!r}")
    return found
