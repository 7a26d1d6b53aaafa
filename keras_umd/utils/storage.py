"""Files by path: on this machine, or in a bucket (`gs://`, `s3://`, ...), through fsspec."""

import contextlib
import os
import shutil
import tempfile

from keras_umd.utils.optional import import_optional


def is_remote(path):
    """Whether a path has a protocol, as `gs://bucket/run`: no folders that are flushed, no renames to rely on."""
    return "://" in os.fspath(path)


def _remote(path):
    """The file system of a remote path, and the path within it."""
    fsspec = import_optional("fsspec", "Paths with a protocol need fsspec: pip install fsspec, and gcsfs for gs://")
    return fsspec.core.url_to_fs(os.fspath(path))


def exists(path):
    if is_remote(path):
        system, path = _remote(path)
        system.invalidate_cache()  # another process may have written meanwhile
        return system.exists(path)
    return os.path.exists(path)


def names(folder):
    """The names in a folder; none where it isn't there."""
    if is_remote(folder):
        system, path = _remote(folder)
        system.invalidate_cache()
        paths = system.ls(path, detail=False) if system.exists(path) else ()
        return [path.rstrip("/").rsplit("/", 1)[-1] for path in paths]
    return os.listdir(folder) if os.path.isdir(folder) else []


def remove(path):
    """Remove a file, if it is there."""
    with contextlib.suppress(FileNotFoundError):
        if is_remote(path):
            system, path = _remote(path)
            system.rm_file(path)
        else:
            os.remove(path)


def remove_folder(path):
    """Remove a folder with all that is in it, if it is there."""
    if is_remote(path):
        system, path = _remote(path)
        with contextlib.suppress(FileNotFoundError):
            system.rm(path, recursive=True)
    else:
        shutil.rmtree(path, ignore_errors=True)


def upload(local, path):
    """Copy a local file to a remote path; object stores make it visible whole."""
    system, path = _remote(path)
    system.makedirs(path.rsplit("/", 1)[0], exist_ok=True)
    system.put_file(local, path)


@contextlib.contextmanager
def local_copy(path):
    """A context with a local path: of the file or folder itself, or of a copy that was downloaded."""
    if not is_remote(path):
        yield path
        return
    system, remote = _remote(path)
    with tempfile.TemporaryDirectory() as folder:
        local = os.path.join(folder, remote.rstrip("/").rsplit("/", 1)[-1])
        system.get(remote, local, recursive=system.isdir(remote))
        yield local
