"""Files of weights: what is right is read exactly, and what is not, or was made to hurt, is refused."""

import base64
import json
import os
import pathlib
import pickle
import re
import resource
import zipfile

import ml_dtypes
import numpy as np
import pytest

from keras_umd.utils.atomic import DamagedFileError
from keras_umd.utils.safetensors import read_safetensors, write_safetensors
from keras_umd.weights import read_weights
from tests.test_damaged_files import assert_no_damage_is_silent

pytestmark = pytest.mark.host

ARRAYS = {
    "a.weight": np.arange(6, dtype="float32").reshape(2, 3),
    "b": np.array([1, -2], "int8"),
    "c": np.array(2.5, "float16"),
    "d": np.zeros((0, 3), "float32"),
    "e": np.array([True, False]),
    "f": np.arange(3),
    "g": np.array([1.5, -2], ml_dtypes.bfloat16),
}
# ARRAYS and the metadata {"format": "np"}, as safetensors 0.8.0 saves them.
OF_THE_LIBRARY = base64.b85decode(
    "umJ!700000dm>+7ZDn*}WMOn+Utc0Rdm?6Ua&2LBB03^&a3XyyB4#2wdm?0Xd2nSSIwDCnG$Je_b7*03Wg<FTGhHkqWMOn+UvFk+b7gdMB05_z"
    "EHX4*eJmnjE_Y>VXJ~XHI(s5yba`-PB03^QGcqD9B6DbAaAhJoTQV#&T`VGGVRT_%Z)Rq5Wpr~QI$JU{EHpS>eJmnmB075_WOR9OWg<EvMl&)Z"
    "EFyDgVQ^(4I$JO-GhHkqWMOn+UvFk+b7gdMB05_%I4m?cU41MfXCgX#B4l)VaAhJoB0@$nHX<w{b7*03Wg<FTGF>bpWMOn+UvFk+b7gdMB05_%"
    "I4m_XU41MfV<I|xB4l)VaAhJoB1SPbA}k_vXkl<=B05`LEFxrKbYWj_W@d9`baNs)TQxE)H8fp)EFxkeI(s5yba`-PB03^TI3g?}b7*03Wg<FT"
    "GF>bpWMOn+UvFk+b7gdMB05_&G%PhXU41MfWg<FzB4l)VaAhJoB0^73Od>2Ib7*03Wg<FTGF>bpWMOn+UvFk+b7gdMB05_&HY_zbU44BZARr(h"
    "00000000000RR91000000ssI20000000000004kL0000$002Nh004kM005vsz&`-M06_u%0RR"
)


def assert_equal(found, expected):
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        assert found[name].dtype == array.dtype and found[name].shape == array.shape, name
        np.testing.assert_array_equal(found[name].astype("float64"), array.astype("float64"))


def test_a_file_of_the_safetensors_library_is_read(tmp_path):
    (tmp_path / "theirs.safetensors").write_bytes(OF_THE_LIBRARY)
    assert_equal(read_weights(tmp_path / "theirs.safetensors"), ARRAYS)


def test_what_is_written_is_read_again_and_by_the_safetensors_library(tmp_path):
    path = tmp_path / "ours.safetensors"
    write_safetensors(path, ARRAYS, {"format": "np"})
    assert_equal(read_safetensors(path, "again"), ARRAYS)
    begins = [entry["data_offsets"][0] for entry in header_of(path).values() if "data_offsets" in entry]
    assert header_of(path)["__metadata__"] == {"format": "np"} and len(set(begins)) >= 6
    library = pytest.importorskip("safetensors.numpy")
    assert library.load_file(path).keys() == ARRAYS.keys()


def header_of(path):
    content = pathlib.Path(path).read_bytes()
    return json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])


def test_types_that_the_format_lacks_are_refused(tmp_path):
    with pytest.raises(ValueError, match="texts of type"):
        write_safetensors(tmp_path / "x.safetensors", {"texts": np.array(["a"])})
    assert not os.listdir(tmp_path)


def test_pytorch_files_and_npz_files_are_read(tmp_path):
    torch = pytest.importorskip("torch")
    tensors = {"model": {"w": torch.arange(3.0), "b": torch.ones(2, dtype=torch.bfloat16)}, "step": torch.tensor(3)}
    torch.save(tensors, tmp_path / "x.pth")
    expected = {"model.w": np.arange(3, dtype="float32"), "model.b": np.ones(2, "float32"), "step": np.array(3)}
    assert_equal(read_weights(tmp_path / "x.pth"), expected)
    np.savez(tmp_path / "x.npz", **expected)
    assert_equal(read_weights(tmp_path / "x.npz"), expected)


@pytest.mark.parametrize("name", ["x", "x.txt", "x.safetensors.gz", "x.pkl"])
def test_other_suffixes_are_refused(name):
    with pytest.raises(ValueError, match="`path` must end in one of"):
        read_weights(name)


def safetensors(header, data=b""):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


def entry(shape=(2,), dtype="F32", offsets=(0, 8)):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}


BAD = {
    "empty": b"",
    "short": b"\x01\x00",
    "a header of 2^40 bytes": (2**40).to_bytes(8, "little") + b"{}",
    "a header longer than the file": (2**20).to_bytes(8, "little") + b"{}",
    "no JSON": safetensors(b"{"),
    "no text": safetensors(b"\xff\xfe"),
    "a list": safetensors([]),
    "deep": safetensors(b'{"a":' * 100_000),
    "no entry": safetensors({"a": 3}),
    "no shape": safetensors({"a": {"dtype": "F32", "data_offsets": [0, 0]}}),
    "2^40 numbers": safetensors({"a": entry((2**40,))}, bytes(8)),
    "2^40 numbers, and bytes": safetensors({"a": entry((2**40,), offsets=(0, 2**42))}, bytes(8)),
    "sizes whose product overflows": safetensors({"a": entry((2**33, 2**33))}, bytes(8)),
    "a negative size": safetensors({"a": entry((-2,))}, bytes(8)),
    "a size of text": safetensors({"a": entry(("2",))}, bytes(8)),
    "a bool for a size": safetensors({"a": entry((True, 2))}, bytes(8)),
    "another type": safetensors({"a": entry(dtype="F64")}, bytes(8)),
    "no type": safetensors({"a": entry(dtype="object")}, bytes(8)),
    "a list for a type": safetensors({"a": entry(dtype=["F32"])}, bytes(8)),
    "cut": safetensors({"a": entry()}, bytes(7)),
    "too long": safetensors({"a": entry()}, bytes(9)),
    "backwards": safetensors({"a": entry(offsets=(8, 0))}, bytes(8)),
    "a gap": safetensors({"a": entry(offsets=(4, 12))}, bytes(12)),
    "twice the same bytes": safetensors({"a": entry(), "b": entry()}, bytes(8)),
    "a name twice": safetensors(b'{"a":%b,"a":%b}' % ((json.dumps(entry()).encode(),) * 2), bytes(8)),
    "a path": safetensors({"../a": entry()}, bytes(8)),
    "a path from the root": safetensors({"/etc/a": entry()}, bytes(8)),
    "a path of Windows": safetensors({"a\\b": entry()}, bytes(8)),
    "no bools": safetensors({"a": entry((8,), "BOOL")}, b"\x02" * 8),
}


@pytest.mark.parametrize("content", BAD.values(), ids=BAD)
def test_safetensors_that_lie_are_refused_and_memory_stays_flat(tmp_path, content):
    path = tmp_path / "x.safetensors"
    path.write_bytes(content)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(DamagedFileError, match=r"x\.safetensors.*elsewhere"):
        read_weights(path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 2**15  # KiB


def test_no_damage_of_a_header_passes(tmp_path):
    """The format has no checksums: of the arrays, those of a preset's manifest are compared."""
    path = tmp_path / "x.safetensors"
    write_safetensors(path, {"a": np.zeros((3, 5), "float32")})
    whole = path.read_bytes()
    for place in range(len(whole)):
        path.write_bytes(whole[:place])
        with pytest.raises(DamagedFileError):
            read_weights(path)


class Exploit:
    def __reduce__(self):
        return pathlib.Path("exploited").touch, ()


def with_code(path):
    import torch

    torch.save({"w": torch.zeros(1), "x": Exploit()}, path)


def plain_pickle(path):
    path.write_bytes(pickle.dumps(Exploit()))


def cut(path):
    import torch

    torch.save({"w": torch.zeros(100)}, path)
    path.write_bytes(path.read_bytes()[:-60])


def of_nothing_but_numbers(path):
    import torch

    torch.save({"epoch": 3}, path)


def with_a_path(path):
    import torch

    torch.save({"../w": torch.zeros(1)}, path)


def of_one_number_for_many(path):
    import torch

    torch.save({"w": torch.zeros(1).expand(2**40)}, path)


def of_a_large_promise(path):
    """1000 numbers that are called 2^40, in the ZIP's pickle."""
    import torch

    torch.save({"w": torch.zeros(1000)}, path)
    with zipfile.ZipFile(path) as archive:
        entries = {info.filename: archive.read(info) for info in archive.infolist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in entries.items():
            archive.writestr(name, promising(content) if name.endswith("data.pkl") else content)


def of_an_older_large_promise(path):
    """The same in the format without a ZIP."""
    import torch

    torch.save({"w": torch.zeros(1000)}, path, _use_new_zipfile_serialization=False)
    path.write_bytes(promising(path.read_bytes()))


def promising(content):
    """With 2^40 in the place of 1000, as pickles write integers."""
    small, large = b"M" + (1000).to_bytes(2, "little"), b"\x8a\x06" + (2**40).to_bytes(6, "little")
    assert small in content
    return content.replace(small, large)


def of_another_type(path):
    import torch

    torch.save({"w": torch.zeros(2, dtype=torch.complex64)}, path)


def of_sparse_numbers(path):
    import torch

    torch.save({"w": torch.eye(3).to_sparse()}, path)


def of_itself(path):
    import torch

    values = {"w": torch.zeros(1)}
    values["again"] = values
    torch.save(values, path)


def of_a_billion_names(path):
    """Thirty dictionaries, each of which has the one before twice."""
    import torch

    values = {"w": torch.zeros(1)}
    for _ in range(30):
        values = {"a": values, "b": values}
    torch.save(values, path)


@pytest.mark.parametrize(
    "make",
    [
        with_code,
        plain_pickle,
        cut,
        of_nothing_but_numbers,
        with_a_path,
        of_one_number_for_many,
        of_a_large_promise,
        of_an_older_large_promise,
        of_another_type,
        of_sparse_numbers,
        of_itself,
        of_a_billion_names,
    ],
)
def test_pytorch_files_that_run_code_or_lie_are_refused(tmp_path, monkeypatch, make):
    pytest.importorskip("torch")
    monkeypatch.chdir(tmp_path)
    make(tmp_path / "x.pth")
    assert_refused(tmp_path / "x.pth")


def assert_refused(path):
    """An error names the file and the remedy, memory stays flat, and nothing in the file has run."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(DamagedFileError, match=rf"{re.escape(path.name)}.*elsewhere"):
        read_weights(path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 2**15  # KiB
    assert not (path.parent / "exploited").exists()


def npz_with_code(path):
    np.savez(path, w=np.array([Exploit()], dtype=object))


def npz_with_a_path(path):
    with zipfile.ZipFile(path, "w") as archive, archive.open("../w.npy", "w") as file:
        np.lib.format.write_array(file, np.zeros(2))


def npz_that_is_cut(path):
    np.savez(path, w=np.zeros(100))
    path.write_bytes(path.read_bytes()[:-60])


def npz_with_a_header(*shape, dtype="<f4", content=bytes(64)):
    def make(path):
        with zipfile.ZipFile(path, "w") as archive, archive.open("w.npy", "w") as file:
            header = {"shape": shape, "fortran_order": False, "descr": dtype}
            np.lib.format.write_array_header_1_0(file, header)
            file.write(content)

    return make


BAD_NPZ = {
    "code": npz_with_code,
    "a pickle of another kind": npz_with_a_header(1, dtype="|O", content=pickle.dumps(Exploit())),
    "a path": npz_with_a_path,
    "cut": npz_that_is_cut,
    "2^40 numbers": npz_with_a_header(2**40),
    "sizes whose product overflows": npz_with_a_header(2**33, 2**33),
    "another type": npz_with_a_header(16, dtype="<f8"),
    "no type": npz_with_a_header(16, dtype="os.system"),
}


@pytest.mark.parametrize("make", BAD_NPZ.values(), ids=BAD_NPZ)
def test_npz_files_that_run_code_or_lie_are_refused(tmp_path, monkeypatch, make):
    monkeypatch.chdir(tmp_path)
    make(tmp_path / "x.npz")
    assert_refused(tmp_path / "x.npz")


def test_no_damage_of_an_npz_file_is_silent(tmp_path):
    np.savez(tmp_path / "x.npz", w=np.arange(100.0))
    assert assert_no_damage_is_silent(tmp_path / "x.npz", lambda: read_weights(tmp_path / "x.npz"), count=12) > 0.6
