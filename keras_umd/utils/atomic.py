"""Files that last: there whole or not at all, whenever the process or the machine stops, and to be verified.

A file is written under another name, flushed to the disk, and renamed; then its folder is flushed, without which a
power cut can undo the rename. JSON files hold a checksum of themselves; a folder's `manifest.json` holds the size and
SHA-256 of its other files, and is written last: a folder without one isn't complete.
"""

import contextlib
import errno
import hashlib
import json
import os
import re
import shutil
import tempfile

from keras_umd.utils import storage

FORMAT = 1
MANIFEST = "manifest.json"


class DamagedFileError(ValueError):
    """A file isn't what was written: it is missing, cut, or has other bytes."""


def write_whole(path, write, needed_bytes=0):
    """Write a file atomically, so that it survives a power cut; a remote one, at once.

    Args:
        path: String or path.
        write: Function that writes the file whose path it gets; that has the same suffix.
        needed_bytes: Integer. Refuses to begin where the disk has less space than this.

    Raises:
        OSError: where the disk is full, or can't be written. The file of before, if any, is unchanged.
    """
    path = os.fspath(path)
    folder, name = os.path.split(path)
    if storage.is_remote(path):
        with tempfile.TemporaryDirectory() as staged:
            check_space(staged, needed_bytes)
            write(os.path.join(staged, name))
            storage.upload(os.path.join(staged, name), path)
        return
    temporary = os.path.join(folder, f".{name}.tmp{os.path.splitext(name)[1]}")
    check_space(folder, needed_bytes)
    try:
        write(temporary)
        flush(temporary)
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.remove(temporary)
        raise
    flush(folder or ".")


def write_text(path, text):
    """Write a text file, atomically."""

    def write(temporary):
        with open(temporary, "w", encoding="utf-8") as file:
            file.write(text)

    write_whole(path, write)


@contextlib.contextmanager
def folder_written_whole(folder, aside=None):
    """A context with an empty folder on this machine, whose files are those of `folder` at its end.

    It gets the name `folder`, so that it survives a power cut. In a bucket no rename is relied on: its files are copied
    there, the manifest last, which makes them whole. After an error in the context, nothing is left of it.

    Args:
        folder: String, a folder that isn't there yet, or is empty; or a remote one.
        aside: String, where to write meanwhile; it is emptied of what a process that was killed has left. Defaults to a
            name of its own beside `folder`, which no other process takes.
    """
    is_remote, folder = storage.is_remote(folder), folder.rstrip("/\\")
    parent, name = os.path.split(folder if is_remote else os.path.abspath(folder))
    if is_remote:
        aside = tempfile.mkdtemp()
    elif aside is None:
        make_folder(parent)
        aside = tempfile.mkdtemp(prefix=f".{name}.", dir=parent)
        os.chmod(aside, 0o755)  # others couldn't read what `mkdtemp` makes
    else:
        storage.remove_folder(aside)
        make_folder(aside)
    try:
        yield aside
        if is_remote:
            for file in sorted(os.listdir(aside), key=lambda name: name == MANIFEST):
                storage.upload(os.path.join(aside, file), f"{folder}/{file}")
        else:
            os.replace(aside, folder)
            flush(parent)
    finally:
        storage.remove_folder(aside)


def make_folder(path):
    """Make a folder with its parents, so that they survive a power cut; does nothing where it exists."""
    if storage.is_remote(path):
        return  # object stores have none
    path = os.path.abspath(path)
    if not os.path.isdir(path):
        make_folder(os.path.dirname(path))
        os.makedirs(path, exist_ok=True)
        flush(os.path.dirname(path))


def flush(path):
    """Flush a file, or the names in a folder, to the disk."""
    if os.name == "nt" and os.path.isdir(path):
        return  # Windows flushes names by itself, and opens no folders
    descriptor = os.open(path, os.O_RDONLY if os.path.isdir(path) else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def check_space(folder, needed_bytes):
    """An OSError where the disk of `folder` has less space than `needed_bytes`."""
    free = shutil.disk_usage(folder or ".").free
    if free < needed_bytes:
        raise OSError(
            errno.ENOSPC,
            f"The disk is full: {needed_bytes:,} bytes are needed and {free:,} are free; what was there before is "
            "unchanged",
            os.fspath(folder),
        )


def write_json(path, values):
    """Write JSON, atomically: a dictionary with a checksum of itself for `read_json`, a list as it is."""
    values = json.loads(json.dumps(values))  # keys as they will be read: integers become strings
    if isinstance(values, dict):
        values["sha256"] = _digest(values)
    write_text(path, json.dumps(values, indent=1))


def read_json(path, remedy="Take a copy of it from elsewhere", has_checksum=False):
    """The dictionary that `write_json` wrote.

    Args:
        path: String or path.
        remedy: String, what errors tell to do.
        has_checksum: Bool. Whether a file without a checksum is damaged, too: a flipped bit can hit the word itself.
            Else it is one of an older version, and is taken as it is.

    Raises:
        DamagedFileError: names the file, for anything but JSON of a dictionary, and for another checksum.
    """
    path = os.fspath(path)
    try:
        with storage.local_copy(path) as local, open(local, encoding="utf-8") as file:
            values = json.load(file)
    except (ValueError, RecursionError) as error:
        raise DamagedFileError(f"{path} is damaged, and no JSON file any more: {error}. {remedy}") from error
    if not isinstance(values, dict):
        raise DamagedFileError(f"{path} must hold a JSON object. {remedy}. Received: a {type(values).__name__}")
    if has_checksum and "sha256" not in values:
        raise DamagedFileError(f"{path} is damaged: it has lost its checksum. {remedy}")
    expected = values.pop("sha256", None)
    if expected is not None and _digest(values) != expected:
        raise DamagedFileError(
            f"{path} is damaged, or was edited: its contents have another checksum than it says. {remedy}; or, after "
            "an edit on purpose, delete its line 'sha256'"
        )
    return values


def _digest(values):
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def checksum(path):
    """The SHA-256 of a file, as hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def entry_of(path):
    """Size and checksum of a file, for a manifest."""
    return {"bytes": os.path.getsize(path), "sha256": checksum(path)}


def what_is_wrong(path, entry, verify=True):
    """Why a file isn't the one of its manifest's entry, or `None`.

    Args:
        path: String.
        entry: Dictionary, of `entry_of`.
        verify: Bool. Whether to read it; else only its size is compared.
    """
    if not os.path.isfile(path):
        return f"{path} is missing"
    size = os.path.getsize(path)
    if size != entry["bytes"]:
        return f"{path} has {size:,} bytes instead of {entry['bytes']:,}"
    if verify and checksum(path) != entry["sha256"]:
        return f"{path} has other contents than were written"
    return None


def write_manifest(folder, **values):
    """Complete a folder: flush its files, then write `manifest.json` with their sizes and checksums."""
    files = {}
    for root, _, names in os.walk(folder):
        for name in sorted(names):
            path = os.path.join(root, name)
            if name.startswith(".") or (root == folder and name == MANIFEST):
                continue
            flush(path)
            files[os.path.relpath(path, folder).replace(os.sep, "/")] = entry_of(path)
        flush(root)
    write_json(os.path.join(folder, MANIFEST), {"format": FORMAT, "files": files, **values})


def read_manifest(folder, verify=True):
    """The manifest of a folder whose files are those that were written.

    Args:
        folder: String.
        verify: Bool. Whether to read all files; else only their sizes are compared.

    Raises:
        DamagedFileError: names the file, and what is wrong with it.
    """
    path = os.path.join(folder, MANIFEST)
    if not storage.exists(path):
        raise DamagedFileError(f"{folder} is incomplete: it has no {MANIFEST}, which is written last")
    manifest = read_json(path, has_checksum=True)
    if manifest.get("format") != FORMAT or not isinstance(manifest.get("files"), dict):
        raise DamagedFileError(f"{path} must be of format {FORMAT}. Received: format={manifest.get('format')!r}")
    for name, entry in manifest["files"].items():
        path = os.path.join(folder, name)
        if not _is_entry(entry) or os.path.isabs(name) or ".." in re.split(r"[/\\]", name):
            raise DamagedFileError(
                f"The manifest of {folder} must have the size and the SHA-256 of files in it. "
                f"Received: {name!r}: {entry!r}"
            )
        if not storage.exists(path):
            raise DamagedFileError(f"{path} is missing")
        with storage.local_copy(path) as local:
            if problem := what_is_wrong(local, entry, verify):
                raise DamagedFileError(problem.replace(local, path))
    return manifest


def _is_entry(entry):
    """Whether it is what `entry_of` gives."""
    return isinstance(entry, dict) and isinstance(entry.get("bytes"), int) and isinstance(entry.get("sha256"), str)
