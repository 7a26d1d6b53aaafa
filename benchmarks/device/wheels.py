"""The packages of a folder of wheels that this Python lacks, one a line: `python wheels.py FOLDER`."""

import importlib.metadata
import pathlib
import re
import sys

MAY_BE_COVERED = ("keras",)  # an older one can't run keras_umd


def missing(folder):
    """Names of packages, as `pip` takes them; the newest version of each counts.

    Args:
        folder: Path of a folder with `.whl` files.
    """
    newest = {}
    for path in sorted(pathlib.Path(folder).glob("*.whl")):
        name, version = path.name.split("-")[:2]
        name = re.sub(r"[-_.]+", "-", name).lower()
        newest[name] = max(newest.get(name, ()), numbers(version))
    return [name for name, version in newest.items() if is_missing(name, version)]


def is_missing(name, version):
    try:
        installed = numbers(importlib.metadata.version(name))
    except importlib.metadata.PackageNotFoundError:
        return True
    return name in MAY_BE_COVERED and installed < version


def numbers(version):
    """The numbers of a version, to compare: `"3.15.1rc1"` gives `(3, 15, 1)`."""
    return tuple(int(found) for found in re.findall(r"\d+", version.split("+")[0])[:3])


if __name__ == "__main__":
    print("\n".join(missing(sys.argv[1])))
