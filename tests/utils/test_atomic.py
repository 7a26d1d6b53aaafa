"""Files that last. That what they promise holds at power cuts is in `tests/faults`."""

import errno
import hashlib
import json
import os
import pathlib

import ml_dtypes
import numpy as np
import pytest

from keras_umd.utils import arrays, atomic

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


@pytest.mark.parametrize("aside", [None, ".own.tmp"])
def test_a_folder_has_its_name_when_it_is_whole_and_leaves_nothing_otherwise(aside, tmp_path):
    folder, aside = tmp_path / "a", aside and str(tmp_path / aside)
    if aside:
        os.mkdir(aside)
        text("of a process that was killed")(os.path.join(aside, "old.txt"))
    failing = atomic.folder_written_whole(str(folder), aside)
    with pytest.raises(ValueError, match="while it is written"), failing as inner:
        text("half")(os.path.join(inner, "a.txt"))
        assert os.listdir(inner) == ["a.txt"] and not folder.exists()
        raise ValueError("while it is written")
    assert not os.listdir(tmp_path)
    with atomic.folder_written_whole(f"{folder}/", aside) as inner:
        text("whole")(os.path.join(inner, "a.txt"))
        atomic.write_manifest(inner)
    assert os.listdir(tmp_path) == ["a"] and "a.txt" in atomic.read_manifest(str(folder))["files"]
    assert folder.stat().st_mode & 0o755 == 0o755
    with pytest.raises(OSError, match="not empty"), atomic.folder_written_whole(str(folder), aside):
        pass
    assert os.listdir(tmp_path) == ["a"] and (folder / "a.txt").read_text() == "whole"


def test_types_that_numpy_has_no_names_for_come_back_from_its_files(tmp_path):
    values = np.array([0.5, -2.0, 3.0], ml_dtypes.bfloat16)
    np.savez(tmp_path / "a.npz", value=values, plain=arrays.as_numpy_type(values), integer=np.arange(3))
    with np.load(tmp_path / "a.npz", allow_pickle=False) as read:
        found = arrays.with_type(read["value"], "bfloat16")
        assert found.dtype == values.dtype and (found == values).all()
        assert read["plain"].dtype == "float32" and (read["plain"] == values.astype("float32")).all()
        assert (arrays.with_type(read["integer"], "int64") == np.arange(3)).all()
    spoilt = np.array([1.0, np.nan, 1e300]).astype
    types = ("float64", "float32", "float16", ml_dtypes.bfloat16, ml_dtypes.float8_e4m3fn)
    with np.errstate(over="ignore"):
        assert not any(arrays.is_finite(spoilt(dtype)) for dtype in types)
    assert arrays.is_finite(values) and arrays.is_finite(np.arange(3)) and arrays.is_finite(np.array([1e300]))


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
