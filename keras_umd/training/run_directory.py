"""The directory of a run: what it is a run of, how far it is, and that only one process trains in it."""

import json
import os
import platform
import threading
import time

import keras

from keras_umd.backend.devices import backend_version
from keras_umd.utils import storage
from keras_umd.utils.atomic import DamagedFileError, make_folder, read_json, write_json

try:
    import fcntl
except ImportError:  # Windows, where a beating heart alone tells that a run is alive
    fcntl = None  # type: ignore[assignment]

RUN_FILE = "run.json"
OWN_FILES = ("model.keras", "history.csv", "checkpoints", "backup")  # what a run would write over
_locks: dict = {}  # of this process, by thread and path
HEARTBEAT_SECONDS = 10.0
PATIENCE_SECONDS = 45.0  # without a heartbeat for so long, a run on another host is dead


class RunDirectory:
    """`run.json`: the settings of a run, versions, and its state; written by the first process.

    Args:
        directory: String.
    """

    def __init__(self, directory):
        self.directory = directory
        self._path = os.path.join(directory, RUN_FILE)
        self.values = None
        self.finished_epochs = 0  # of a run that has ended, perhaps before the last one, as by early stopping

    def open(self, settings, resume):
        """Begin a run, or go on with the one that is there.

        Args:
            settings: Dictionary of what must be the same when the run goes on.
            resume: `True`, `False` or `"force"`, as of `callbacks.standard`.

        Raises:
            ValueError: names what differs, what is in the way, or that there is a run already.
        """
        settings = _without_names(json.loads(json.dumps(settings, default=lambda value: type(value).__name__)))
        if not storage.exists(self._path):
            found = [name for name in OWN_FILES if storage.exists(os.path.join(self.directory, name))]
            if found and resume != "force":
                raise ValueError(
                    f"{self.directory} has no {RUN_FILE}, but files that a run would write over. Take another folder, "
                    f"move them away, or pass resume='force' to write over them. Received: a directory with {found}"
                )
            self.values = {"settings": settings, "state": "running", "starts": []}
        else:
            self.values = self._read()
            if resume is False:
                raise ValueError(
                    f"{self.directory} holds a run; with resume=False, take a directory without one. "
                    f"Received: directory={self.directory!r}, a run that is {self.values['state']}"
                )
            differing = list(differences(self.values["settings"], settings))
            if differing and resume != "force":
                raise ValueError(
                    f"The run in {self.directory} was begun with other settings. Take these again, another folder, or "
                    f"resume='force' to go on with the new ones. Received, after what was: {'; '.join(differing)}"
                )
            if self.values["state"] == "finished":
                self.finished_epochs = self.values["epochs"]
            self.values.update(settings=settings, state="running")
        self.values["starts"] = [*self.values["starts"], _start()]
        self.write()

    def _read(self):
        try:
            values = read_json(self._path, has_checksum=True)
            if not {"settings", "state", "starts"} <= set(values):
                raise DamagedFileError(f"{self._path} is not the file of a run")
        except DamagedFileError as error:
            raise DamagedFileError(
                f"{error}. The checkpoints in {self.directory} have everything that the training needs: delete "
                f"{RUN_FILE} and pass resume='force' to go on with them"
            ) from error
        return values

    def write(self, **values):
        """Update the file."""
        self.values.update(values, heartbeat=time.strftime("%Y-%m-%d %H:%M:%S%z"))
        make_folder(self.directory)
        write_json(self._path, self.values)


def _start():
    """When, where and with which versions a run begins or goes on."""
    return {
        "time": time.strftime("%Y-%m-%d %H:%M:%S%z"),
        "host": platform.node(),
        "process": os.getpid(),
        "backend": backend_version(),
        "keras": keras.__version__,
        "python": platform.python_version(),
    }


def _without_names(values):
    """JSON values without the names that Keras numbers through the process, as `adam_w_1`."""
    if isinstance(values, list):
        return [_without_names(value) for value in values]
    if not isinstance(values, dict):
        return values
    return {name: _without_names(value) for name, value in values.items() if name != "name"}


def differences(before, now, path=""):
    """Yields a line for each setting that differs between two trees of JSON values."""
    if isinstance(before, dict) and isinstance(now, dict):
        for name in sorted({*before, *now}, key=str):
            yield from differences(before.get(name), now.get(name), f"{path}.{name}" if path else name)
    elif before != now:
        yield f"{path}: {_short(before)} -> {_short(now)}"


def _short(value):
    text = json.dumps(value)
    return text if len(text) <= 100 else f"{text[:97]}..."


class RunLock:
    """Keeps a second process from training in the same directory.

    The operating system drops the lock of a process that ends, however it ends. Where hosts don't share its locks, the
    file's time tells whether the other is alive: it must move within `PATIENCE_SECONDS`, on whatever clock. Buckets
    have no locks, and nothing keeps a second run out.

    Args:
        directory: String.
    """

    def __init__(self, directory):
        self._path = os.path.join(directory, "run.lock")
        self._file = None

    def acquire(self):
        """Take the lock.

        Raises:
            ValueError: names host and process of the run that has it.
        """
        if storage.is_remote(self._path):
            return
        self._key = threading.get_ident(), os.path.realpath(self._path)
        # Another `fit` of this thread can't run any more: it failed, and Keras told it nothing.
        _locks.pop(self._key, self).release()
        make_folder(os.path.dirname(self._path))
        file = open(self._path, "a+")  # noqa: SIM115 (it stays open, and locked)
        try:
            self._lock(file)
            file.seek(0)
            self._wait_for_another_host(file.read())
        except BaseException:
            file.close()
            raise
        file.truncate(0)
        file.write(json.dumps({"host": platform.node(), "process": os.getpid()}))
        file.flush()
        self._file = file
        _locks[self._key] = self
        self._stop = threading.Event()
        threading.Thread(target=self._beat, args=(self._stop,), daemon=True).start()

    def _lock(self, file):
        try:
            if fcntl is not None:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise ValueError(self._message(file.read())) from None
        except OSError:  # a file system without locks
            pass

    def _wait_for_another_host(self, holder):
        """Wait whether the run of another host still beats; it gave up its lock if its file is empty."""
        if not holder or (fcntl is not None and f'"host": "{platform.node()}"' in holder):
            return
        seen, began = os.path.getmtime(self._path), time.monotonic()
        while time.monotonic() - began < PATIENCE_SECONDS:
            if os.path.getmtime(self._path) != seen:
                raise ValueError(self._message(holder))
            time.sleep(min(1.0, PATIENCE_SECONDS / 10))

    def _message(self, holder):
        return (
            "Two runs can't share a directory; take another one, or stop the run that has it. "
            f"Received: {os.path.dirname(self._path)}, in use by {holder or 'a run that is just starting'}"
        )

    def _beat(self, stop):
        while not stop.wait(HEARTBEAT_SECONDS):
            try:
                os.utime(self._path)
            except OSError:
                return  # the directory was deleted

    def release(self):
        """Give the lock back; does nothing without one."""
        if self._file is not None:
            _locks.pop(self._key, None)
            self._stop.set()
            try:
                self._file.truncate(0)
            finally:
                self._file.close()
                self._file = None
