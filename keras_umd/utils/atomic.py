"""Files that are there whole or not at all, whenever the process is stopped."""

import json
import os
import pathlib


def write_whole(path, write):
    """Write a file under another name, then give it its own.

    Args:
        path: String.
        write: Function that writes the file whose path it gets.
    """
    folder, name = os.path.split(path)
    temporary = os.path.join(folder, f".{name}.tmp{os.path.splitext(name)[1]}")
    write(temporary)
    os.replace(temporary, path)


def write_json(path, values):
    """Write JSON values."""
    write_whole(path, lambda temporary: pathlib.Path(temporary).write_text(json.dumps(values, indent=1)))
