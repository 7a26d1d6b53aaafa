"""Files that last. That what they promise holds at power cuts is in `tests/faults`."""

import errno
import hashlib
import json
import os
import pathlib

import pytest

from keras_umd.utils import atomic

pytestmark = pytest.mark.host


def text(content):
    return lambda path: pathlib.Path(path).write_text(content)


def test_a_file_is_flushed_before_it_is_renamed_and_its_folder_after(tmp_path, monkeypatch):
    calls = []
    fsync, replace = os.fsync, os.replace

    def recorded_fsync(descriptor):
        calls.append(("fsync", os.path.basename(os.readlink(f"/proc/self/fd/{descriptor}"))))
        fsync(descriptor)

    def recorded_replace(source, target):
        calls.append(("replace", os.path.basename(target)))
        replace(source, target)

    monkeypatch.setattr(os, "fsync", recorded_fsync)
    monkeypatch.setattr(os, "replace", recorded_replace)
    atomic.write_whole(tmp_path / "a.txt", text("new"))
    assert calls == [("fsync", ".a.txt.tmp.txt"), ("replace", "a.txt"), ("fsync", tmp_path.name)]


def test_a_write_that_fails_leaves_the_file_of_before_and_nothing_else(tmp_path):
    path = tmp_path / "a.txt"
    atomic.write_whole(path, text("old"))

    def fail(temporary):
        text("half")(temporary)
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        atomic.write_whole(path, fail)
    assert path.read_text() == "old" and os.listdir(tmp_path) == ["a.txt"]
    with pytest.raises(OSError, match="bytes are needed") as error:
        atomic.write_whole(path, text("new"), needed_bytes=2**70)
    assert error.value.errno == errno.ENOSPC and path.read_text() == "old"


def test_json_comes_back_and_is_checked(tmp_path):
    path = tmp_path / "a.json"
    atomic.write_json(path, {"epoch": 3, "losses": [0.5, float("inf")], "names": {1: "é"}})
    assert atomic.read_json(path) == {"epoch": 3, "losses": [0.5, float("inf")], "names": {"1": "é"}}
    whole = path.read_bytes()
    for damaged in (whole.replace(b'"epoch": 3', b'"epoch": 9'), whole[:-3], b"", b"\x00" * len(whole), b"[1]"):
        path.write_bytes(damaged)
        with pytest.raises(atomic.DamagedFileError, match=r"a\.json"):
            atomic.read_json(path)
    path.write_text('{"epoch": 3}')
    assert atomic.read_json(path) == {"epoch": 3}  # of an older version
    with pytest.raises(atomic.DamagedFileError, match="lost its checksum"):
        atomic.read_json(path, has_checksum=True)


def test_a_manifest_knows_every_file(tmp_path):
    (tmp_path / "inner").mkdir()
    text("a")(tmp_path / "a.txt")
    text("b")(tmp_path / "inner" / "b.txt")
    with pytest.raises(atomic.DamagedFileError, match="incomplete"):
        atomic.read_manifest(tmp_path)
    atomic.write_manifest(tmp_path, step=7)
    manifest = atomic.read_manifest(tmp_path)
    assert manifest["step"] == 7
    assert manifest["files"]["inner/b.txt"] == {"bytes": 1, "sha256": hashlib.sha256(b"b").hexdigest()}

    for content, problem in (("c", "other contents"), ("bb", "2 bytes instead of 1")):
        text(content)(tmp_path / "inner" / "b.txt")
        with pytest.raises(atomic.DamagedFileError, match=rf"b\.txt has {problem}"):
            atomic.read_manifest(tmp_path)
    text("c")(tmp_path / "inner" / "b.txt")
    assert atomic.read_manifest(tmp_path, verify=False)["step"] == 7  # looks at sizes only
    (tmp_path / "inner" / "b.txt").unlink()
    with pytest.raises(atomic.DamagedFileError, match=r"b\.txt is missing"):
        atomic.read_manifest(tmp_path, verify=False)

    manifest_path = tmp_path / "manifest.json"
    values = json.loads(manifest_path.read_text())
    values["files"] = {}
    manifest_path.write_text(json.dumps(values))
    with pytest.raises(atomic.DamagedFileError, match="checksum"):
        atomic.read_manifest(tmp_path)
