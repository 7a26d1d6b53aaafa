"""Power cuts, simulated: of everything that a training wrote, only what it had flushed is left.

A recorder notes each flush: of a file, its contents; of a folder, its names. A cut behind the n-th flush leaves of each
folder the names that were flushed last, and of each file behind them the contents that were flushed last, or nothing.
"""

import os
import random
import shutil

import numpy as np
import pytest

from keras_umd.training.checkpoints import Checkpoints
from keras_umd.utils import atomic
from tests.faults import IN_FULL
from tests.faults.train import make_data, train

pytestmark = [pytest.mark.host, pytest.mark.slow]


class Recorder:
    """What would be on the disk behind each flush."""

    def __init__(self, root):
        self.root = os.path.realpath(root)
        self.contents = {}  # of each inode
        self.names = {self.root: {}}  # of each folder's inode: name -> inode and whether it is a folder
        self.states = []
        self.fsync = os.fsync

    def __call__(self, descriptor):
        self.fsync(descriptor)
        path = os.readlink(f"/proc/self/fd/{descriptor}")
        if not path.startswith(self.root):
            return
        if os.path.isdir(path):
            entries = {entry.name: (entry.inode(), entry.is_dir()) for entry in os.scandir(path)}
            self.names[os.stat(path).st_ino] = entries
        else:
            with open(path, "rb") as file:
                self.contents[os.stat(path).st_ino] = file.read()
        self.states.append((dict(self.contents), dict(self.names), os.stat(self.root).st_ino))

    @staticmethod
    def restore(state, target):
        """Write what a state holds into a folder that is there."""
        contents, names, root = state

        def write(inode, path):
            for name, (other, is_folder) in names.get(inode, {}).items():
                inner = os.path.join(path, name)
                if is_folder:
                    os.mkdir(inner)
                    write(other, inner)
                else:
                    with open(inner, "wb") as file:
                        file.write(contents.get(other, b""))

        write(root, target)


def test_the_newest_flushed_checkpoint_is_always_whole(tmp_path, monkeypatch):
    make_data(tmp_path / "data")
    disk = tmp_path / "disk"
    disk.mkdir()
    recorder = Recorder(disk)
    completed = []
    replace = os.replace

    def recorded_replace(source, path):
        replace(source, path)
        if os.path.dirname(path).endswith("checkpoints"):
            completed.append((len(recorder.states), int(os.path.basename(path))))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", recorder)
        patch.setattr(os, "replace", recorded_replace)
        whole = train("arrays", tmp_path / "data", str(disk / "run")).get_weights()
    assert len(recorder.states) > 100

    cuts = range(len(recorder.states)) if IN_FULL else random.Random(0).sample(range(len(recorder.states)), 25)
    resumed = set(random.Random(1).sample(sorted(cuts), 24 if IN_FULL else 2))
    for cut in cuts:
        after = tmp_path / "after"
        shutil.rmtree(after, ignore_errors=True)
        after.mkdir()
        recorder.restore(recorder.states[cut], after)
        found = Checkpoints(str(after / "run" / "checkpoints"), keep=3).newest()  # a warning of damage is an error here
        # The rename of a checkpoint is followed by the flush of its folder, which makes it last.
        flushed = [number for place, number in completed if place < cut]
        assert (found[0] if found else 0) >= max(flushed, default=0)
        if os.path.exists(after / "run" / "run.json"):
            atomic.read_json(after / "run" / "run.json")
        if os.path.exists(after / "run" / "model.keras"):
            assert os.path.getsize(after / "run" / "model.keras") > 0
        if cut in resumed:
            for value, expected in zip(
                train("arrays", tmp_path / "data", str(after / "run")).get_weights(), whole, strict=True
            ):
                np.testing.assert_array_equal(value, expected)
    print(f"{len(cuts)} power cuts, {len(resumed)} of them trained to the end")
