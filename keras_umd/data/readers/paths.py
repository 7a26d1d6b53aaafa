"""Files by names and patterns."""

import os

IMAGE_TYPES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm")


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
        if not matches:
            raise ValueError(f"`paths` must name files. Received: {pattern!r}, which matches none")
        found += matches
    if not found:
        raise ValueError(f"`paths` must name files. Received: paths={paths!r}")
    return found


def read_file(path):
    with open(path, "rb") as file:
        return file.read()
