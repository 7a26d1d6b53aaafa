"""The checkpoints of a run: folders with a manifest, of which the last ones and the best one are kept.

    checkpoints/000000012/state.npz       weights, averages, optimizer, seeds; or a folder of Orbax, `state.orbax`
                          place.json      epoch, batch, place in the data, losses
                          manifest.json   sizes and checksums, written last

A folder is written under another name, flushed, and renamed, so that a kill or a power cut leaves the one before. What
is damaged meanwhile is noticed by its checksum, and an older one is taken. In a bucket (`gs://`), the manifest alone,
which is written last, tells that a checkpoint is whole.
"""

import concurrent.futures
import contextlib
import math
import os
import warnings

from keras_umd.backend.processes import broadcast_from_first, is_first_process, wait_for_all
from keras_umd.training import state
from keras_umd.utils import storage
from keras_umd.utils.atomic import (
    MANIFEST,
    DamagedFileError,
    check_space,
    folder_written_whole,
    read_json,
    read_manifest,
    write_json,
    write_manifest,
)

ARRAYS, SHARDS, PLACE = "state.npz", "state.orbax", "place.json"


class Checkpoints:
    """The checkpoints in a folder.

    A checkpoint is written in the background, from a copy on the host, while the training goes on; weights that are
    sharded over processes are written before it goes on.

    Args:
        folder: String. Other files in it are left alone.
        keep: Integer, how many of the last checkpoints to keep; the one with the lowest loss stays, too.
    """

    def __init__(self, folder, keep):
        self.folder = folder
        self.keep = keep
        self._writer = None
        self._writing = None

    def numbers(self):
        """The numbers of the checkpoints that are there, damaged ones too, in ascending order."""
        return sorted(int(name) for name in storage.names(self.folder) if name.isdigit() and len(name) == 9)

    def path(self, number):
        return os.path.join(self.folder, f"{number:09}")

    def place(self, number):
        """What was given to `save`."""
        return read_json(os.path.join(self.path(number), PLACE), has_checksum=True)

    def save(self, model, place, wait=False):
        """Save the state of a compiled model. A collective: every process must call it.

        Args:
            model: `UMD`.
            place: Dictionary of JSON values, what `newest` gives back. Its `loss` decides which checkpoint is best.
            wait: Bool. Whether to return only when the checkpoint is on the disk.

        Raises:
            OSError, FloatingPointError: of this checkpoint or, in the background, of the one before.
        """
        self.wait()
        number = broadcast_from_first(max(self.numbers(), default=0) + 1)
        if state.is_spread_over_processes(model):
            self._save_shards(model, place, number)
            return
        if not is_first_process():
            return
        arrays = state.snapshot(model)
        if self._writer is None:
            self._writer = concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix="keras_umd_checkpoints")
        self._writing = self._writer.submit(self._write, number, arrays, place)
        if wait:
            self.wait()

    def _write(self, number, arrays, place):
        state.check_is_worth_saving(arrays)
        try:
            self._write_folder(number, arrays, place)
        except FileNotFoundError:  # the directory was moved or deleted while the training runs
            self._write_folder(number, arrays, place)

    def _write_folder(self, number, arrays, place):
        with self._written_whole(number) as temporary:
            check_space(temporary, sum(array.nbytes for array in arrays.values()))
            state.write_arrays(os.path.join(temporary, ARRAYS), arrays)
            _complete(temporary, place)
        self._remove_old(number, place)

    def _save_shards(self, model, place, number):
        with self._written_whole(number) if is_first_process() else contextlib.nullcontext() as temporary:
            wait_for_all()
            # To a bucket, Orbax writes itself, and verifies itself what it wrote.
            shards = self.path(number) if storage.is_remote(self.folder) else self._aside(number)
            state.write_shards(model, os.path.join(shards, SHARDS))
            wait_for_all()
            if is_first_process():
                _complete(temporary, place)
        if is_first_process():
            self._remove_old(number, place)
        wait_for_all()

    def _aside(self, number):
        """Where a checkpoint is written, which all processes must know."""
        return os.path.join(self.folder, f".{number:09}.tmp")

    def _written_whole(self, number):
        return folder_written_whole(self.path(number), self._aside(number))

    def _remove_old(self, number, place):
        """Remove what is neither among the last ones nor the best."""
        losses = {number: place["loss"]}
        for other in self.numbers()[:-1]:
            with contextlib.suppress(DamagedFileError, OSError):
                losses[other] = self.place(other).get("loss")
        best = min(losses, key=lambda other: math.inf if losses[other] is None else losses[other])
        for other in self.numbers()[: -self.keep]:
            if other != best:
                _remove(self.path(other))

    def wait(self):
        """Wait for the checkpoint that is being written, and raise what went wrong with it."""
        writing, self._writing = self._writing, None
        if writing is not None:
            writing.result()

    def close(self):
        """Wait for the writer and end its thread."""
        try:
            self.wait()
        finally:
            if self._writer is not None:
                self._writer.shutdown()
            self._writer = None

    def newest(self):
        """The number and place of the newest checkpoint that is whole, or `None` where there is no checkpoint.

        Warns of damaged ones, and names the one that is taken instead.

        Raises:
            DamagedFileError: where all are damaged.
        """
        damaged = []
        for number in reversed(self.numbers()):
            try:
                read_manifest(self.path(number))
                place = self.place(number)
            except (DamagedFileError, OSError) as error:
                damaged.append(str(error))
                continue
            if damaged:
                warnings.warn(
                    f"A damaged checkpoint is left out: {'; '.join(damaged)}. {self.path(number)} is whole, and taken "
                    "instead",
                    stacklevel=2,
                )
            return number, place
        if damaged:
            raise DamagedFileError(
                f"All checkpoints are damaged: {'; '.join(damaged)}. Copy a whole one into {self.folder}, or "
                "begin anew in another directory"
            )
        return None

    def load(self, model, number):
        """Assign the values of a checkpoint that `newest` found. A collective where it was written by all processes."""
        path = self.path(number)
        if SHARDS in storage.names(path):
            state.read_shards(model, os.path.join(path, SHARDS))
            return
        with storage.local_copy(os.path.join(path, ARRAYS)) as local, state.read_arrays(local) as arrays:
            state.restore(model, arrays)


def _complete(folder, place):
    write_json(os.path.join(folder, PLACE), place)
    write_manifest(folder)


def _remove(folder):
    """Remove a checkpoint, first its manifest, so that a part of it is no checkpoint; files of the user stay."""
    for name in (MANIFEST, ARRAYS, PLACE):
        storage.remove(os.path.join(folder, name))
    storage.remove_folder(os.path.join(folder, SHARDS))
    with contextlib.suppress(OSError):
        os.rmdir(folder)
