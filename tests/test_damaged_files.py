"""Files of every kind that the library writes or reads outside of training, damaged: nothing loads silently."""

import hashlib
import io
import os
import pathlib
import resource
import shutil
import zipfile

import numpy as np
import pytest

from keras_umd import data, latents
from keras_umd.evaluation import FIDInception, Reference, Result, evaluate_images, inception
from keras_umd.evaluation.inception_blocks import Convolution
from keras_umd.evaluation.reference import stored_images
from keras_umd.latents import cache
from keras_umd.utils.atomic import DamagedFileError, read_json, write_json
from keras_umd.weights import load_small_vision
from tests.conftest import array, trained_like
from tests.data.conftest import photo
from tests.latents.helpers import tiny_autoencoder

pytestmark = pytest.mark.host

SAMPLING = {"num_images": 6, "num_steps": 1, "batch_size": 2, "seed": 3, "verbose": False}


def damaged(content, seed):
    """The same bytes with one damage: a flipped bit, zeros or noise in the place of some, or a missing end."""
    rng = np.random.default_rng(seed)
    kind, place = seed % 4, int(rng.integers(len(content)))
    if kind == 0:
        return content[:place] + bytes([content[place] ^ (1 << int(rng.integers(8)))]) + content[place + 1 :]
    if kind == 1:
        return content[:place]
    length = min(int(rng.integers(1, 64)), len(content) - place)
    return content[:place] + (bytes(length) if kind == 2 else rng.bytes(length)) + content[place + length :]


def assert_no_damage_is_silent(path, read, count=40):
    """`read()` gives what it gave, or raises an error that names the file; returns the share of the errors."""
    path = pathlib.Path(path)
    whole, expected, raised = path.read_bytes(), read(), 0
    contents = [damaged(whole, seed) for seed in range(count)]
    contents = [content for content in contents if content != whole]  # zeros in the place of zeros
    for content in contents:
        path.write_bytes(content)
        try:
            found = read()
        except DamagedFileError as error:
            assert path.name in str(error)
            assert any(word in str(error) for word in ("again", "anew", "elsewhere"))
            raised += 1
        else:
            np.testing.assert_equal(found, expected)
    path.write_bytes(whole)
    np.testing.assert_equal(read(), expected)
    return raised / len(contents)


@pytest.fixture
def model(shared_model):
    return trained_like(shared_model(num_classes=3))


@pytest.fixture(scope="module")
def network():
    """Two features of an image."""

    class Network:
        name = "two"
        weights = ()

        def predict_on_batch(self, images):
            images = np.asarray(images, "float32")
            return np.stack([images.mean((1, 2, 3)), images.std((1, 2, 3))], axis=1)

    return Network()


def test_samples_in_a_file(model, network, tmp_path):
    path = model.generate_to(tmp_path / "samples", **SAMPLING)
    reference = Reference([100.0, 50.0], np.eye(2), 20)

    def score():
        return evaluate_images(path, reference, network, ["frechet"], verbose=False)["frechet_distance"].value

    assert assert_no_damage_is_silent(path, score) == 1
    assert assert_no_damage_is_silent(path, lambda: model.generate_to(tmp_path / "samples", **SAMPLING)) == 1
    assert assert_no_damage_is_silent(tmp_path / "samples" / "manifest.json", score) > 0.6
    (tmp_path / "samples" / "manifest.json").unlink()  # as ADM's files: the checksums of ZIP are left
    assert assert_no_damage_is_silent(path, score) > 0.6


def test_samples_in_a_folder_of_images(model, network, tmp_path):
    directory = model.generate_to(tmp_path / "samples", format="png", **SAMPLING)
    reference, paths = Reference([100.0, 50.0], np.eye(2), 20), sorted((tmp_path / "samples").iterdir())
    assert [path.name for path in paths] == [
        *(f"{i:06}.png" for i in range(6)),
        "checksums.txt",
        "labels.txt",
        "manifest.json",
    ]

    def score():
        return evaluate_images(directory, reference, network, ["frechet"], verbose=False)["frechet_distance"].value

    for name in ("000004.png", "checksums.txt", "labels.txt"):
        assert assert_no_damage_is_silent(tmp_path / "samples" / name, score) == 1
    expected = {path.name: path.read_bytes() for path in paths}
    for seed, name in enumerate(["000000.png", "000005.png", "checksums.txt", "labels.txt"]):
        path = tmp_path / "samples" / name
        path.write_bytes(damaged(expected[name], seed))
        model.generate_to(directory, format="png", **SAMPLING)  # makes it again
        assert path.read_bytes() == expected[name]
        score()
    (tmp_path / "samples" / "000001.png").write_bytes(b"")  # as a power cut leaves it without a flush
    with pytest.raises(DamagedFileError, match=r"000001\.png"):
        score()
    model.generate_to(directory, format="png", **SAMPLING)
    assert (tmp_path / "samples" / "000001.png").read_bytes() == expected["000001.png"]


class Killed(Exception):
    pass


@pytest.fixture
def stopped(model, tmp_path, monkeypatch):
    """A directory with two parts of two images, of a run that was killed; and the indices of later `generate` calls."""
    generate, calls = model.generate, []

    def generate_or_stop(*args, **kwargs):
        calls.append(kwargs.get("image_indices", [None])[0])
        if calls == [0, 2, 4]:
            raise Killed
        return generate(*args, **kwargs)

    monkeypatch.setattr(model, "generate", generate_or_stop)
    with pytest.raises(Killed):
        model.generate_to(tmp_path / "samples", **SAMPLING)
    calls[:] = [None]
    return tmp_path / "samples", calls


@pytest.mark.parametrize("seed", range(8))
def test_damaged_parts_are_made_again_and_no_others(model, stopped, seed):
    directory, calls = stopped
    parts = sorted((directory / "parts").iterdir())
    assert [part.name for part in parts] == ["000000000.npy", "000000002.npy", "checksums.txt"]
    path = parts[seed % 2]
    path.write_bytes(damaged(path.read_bytes(), seed))
    (directory / "parts" / "mine.npy").write_bytes(b"the user's")
    with np.load(model.generate_to(directory, **SAMPLING)) as samples:
        assert calls[1:] == ([0, 4] if seed % 2 == 0 else [2, 4])
        np.testing.assert_array_equal(samples["arr_0"], model.generate(np.arange(6) % 3, num_steps=1, seed=3))
    assert [path.name for path in (directory / "parts").iterdir()] == ["mine.npy"]


@pytest.mark.parametrize("seed", range(8))
def test_a_damaged_list_of_checksums_costs_parts_and_nothing_else(model, stopped, seed):
    directory, _ = stopped
    path = directory / "parts" / "checksums.txt"
    path.write_bytes(damaged(path.read_bytes(), seed))
    with np.load(model.generate_to(directory, **SAMPLING)) as samples:
        np.testing.assert_array_equal(samples["arr_0"], model.generate(np.arange(6) % 3, num_steps=1, seed=3))
    assert sorted(path.name for path in directory.iterdir()) == ["manifest.json", "samples_6x8x8x1.npz"]


def test_a_full_disk_leaves_what_was_there(model, stopped, monkeypatch):
    directory, _ = stopped
    before = {path: path.read_bytes() for path in (directory / "parts").iterdir()}
    full = shutil.disk_usage(directory)._replace(free=100)
    with monkeypatch.context() as patch, pytest.raises(OSError, match="disk is full"):
        patch.setattr(shutil, "disk_usage", lambda path: full)
        model.generate_to(directory, **SAMPLING)
    assert {path: path.read_bytes() for path in (directory / "parts").iterdir()} == before
    model.generate_to(directory, **SAMPLING)


@pytest.fixture
def small_cache(tmp_path, monkeypatch):
    monkeypatch.setattr(cache, "SHARD_BYTES", 2_048)
    images = data.from_arrays(
        np.stack([photo(16, 16, i) for i in range(8)]), np.arange(8) % 3, batch_size=4, training=False
    )
    return pathlib.Path(latents.cache_latents(images, tiny_autoencoder(), tmp_path / "cache", verbose=False))


def test_caches_of_latents(small_cache):
    def read():
        return latents.from_latents(small_cache, batch_size=4, training=False).as_arrays(verbose=False)

    for path in sorted(small_cache.glob("*.npy")):
        assert assert_no_damage_is_silent(path, read) == 1
    assert assert_no_damage_is_silent(small_cache / "manifest.json", read) > 0.6


@pytest.mark.parametrize(
    "change",
    [
        lambda manifest: manifest.pop("latent_shape"),
        lambda manifest: manifest["shards"][0].pop("view"),
        lambda manifest: manifest["shards"][0].update(count=2**50),
        lambda manifest: manifest["shards"][0].update(moments="x"),
        lambda manifest: manifest.update(views=2**50, flip=None),
        lambda manifest: manifest["shards"][1].update(view=1),
        lambda manifest: manifest.update(shards=[[]]),
        lambda manifest: manifest["shards"].pop(),
    ],
)
def test_manifests_that_lie_are_named(small_cache, change):
    """With a checksum that is right, as of one who means it."""
    manifest = read_json(small_cache / "manifest.json")
    change(manifest)
    write_json(small_cache / "manifest.json", manifest)
    if len(manifest["shards"]) == 1 and manifest["shards"] != [[]]:  # a shorter cache, but a whole one
        assert latents.from_latents(small_cache, batch_size=4).num_images == 4
        return
    with pytest.raises(ValueError, match=r"manifest.*call `cache_latents` again"):
        latents.from_latents(small_cache, batch_size=4)


def test_references(tmp_path):
    rng = np.random.default_rng(0)
    features = rng.normal(size=(20, 4)).astype("float32")
    Reference(features.mean(0), np.cov(features.T), 20, features, "a network").save(tmp_path / "reference.npz")

    def read():
        return vars(Reference.load(tmp_path / "reference.npz"))

    assert assert_no_damage_is_silent(tmp_path / "reference.npz", read) > 0.6


def test_cards(tmp_path):
    path = tmp_path / "card.json"
    Result("fid", 2.5, {"num_images": 1000}, {"sampler": "DDIM", "seed": 0}, 0.25).save(path)
    assert assert_no_damage_is_silent(path, lambda: Result.load(path), count=100) > 0.6


@pytest.fixture
def small_inception(monkeypatch):
    """FID's network with one layer; returns its arrays."""
    monkeypatch.setattr(inception, "NETWORK", {"Conv2d_1a_3x3": Convolution("", 4, 7, 7, "valid")})
    rng = np.random.default_rng(0)
    norm = {f"Conv2d_1a_3x3.bn.{n}": (4,) for n in ("weight", "bias", "running_mean", "running_var")}
    shapes = {"Conv2d_1a_3x3.conv.weight": (4, 3, 7, 7), "fc.weight": (1008, 4), "fc.bias": (1008,), **norm}
    return {name: rng.uniform(0.5, 1, shape).astype("float32") for name, shape in shapes.items()}


def weights_of(path):
    return FIDInception(path).get_weights()


@pytest.mark.parametrize("zipped", [True, False])
def test_pytorchs_file_of_inception(small_inception, tmp_path, zipped):
    torch = pytest.importorskip("torch")
    tensors = {name: torch.from_numpy(value) for name, value in small_inception.items()}
    torch.save(tensors, tmp_path / "own.pth", _use_new_zipfile_serialization=zipped)
    digest = hashlib.sha256((tmp_path / "own.pth").read_bytes()).hexdigest()
    path = tmp_path / f"published-{digest[:8]}.pth"  # the older format has no checksums: its name must have one
    (tmp_path / "own.pth").rename(path)
    assert assert_no_damage_is_silent(path, lambda: weights_of(path)) == 1
    if zipped:
        path = path.rename(tmp_path / "own.pth")
        assert assert_no_damage_is_silent(path, lambda: weights_of(path)) > 0.6


class Exploit:
    def __reduce__(self):
        return pathlib.Path.write_text, (pathlib.Path("exploited"), "")


def test_a_pytorch_file_holds_tensors_and_nothing_else(small_inception, tmp_path, monkeypatch):
    torch = pytest.importorskip("torch")
    monkeypatch.chdir(tmp_path)
    tensors = {name: torch.from_numpy(value) for name, value in small_inception.items()}
    huge = torch.zeros(1).expand(2**40)
    for wrong, message in (
        (Exploit(), "own.pth is damaged, or of another kind.*elsewhere"),
        ({**tensors, "fc.bias": Exploit()}, "own.pth is damaged, or of another kind.*elsewhere"),
        ({**tensors, "fc.bias": [1.0]}, "dictionary of tensors, and nothing else"),
        (list(tensors.values()), "dictionary of tensors, and nothing else"),
        ({**tensors, "fc.bias": tensors["fc.bias"].to_sparse()}, "must be dense"),
        ({**tensors, "fc.bias": tensors["fc.bias"].bfloat16()}, "must be dense.*bfloat16"),
        ({**tensors, "fc.bias": huge}, r"fc\.bias: \(1099511627776,\), expected \(1008,\)"),
        ({**tensors, "fc.bias": tensors["fc.bias"] * np.nan}, "fc.bias must be finite floats"),
        ({**tensors, "Conv2d_1a_3x3.bn.running_var": -tensors["fc.bias"][:4]}, "running_var must be .* at least 0"),
    ):
        torch.save(wrong, tmp_path / "own.pth")
        with pytest.raises(ValueError, match=message):
            FIDInception(tmp_path / "own.pth")
    assert not (tmp_path / "exploited").exists()


def test_arrays_of_inception_and_of_the_authors(small_inception, golden_params, new_golden_model, tmp_path):
    np.savez(tmp_path / "own.npz", **small_inception)
    assert assert_no_damage_is_silent(tmp_path / "own.npz", lambda: weights_of(tmp_path / "own.npz")) > 0.6
    path, model = tmp_path / "params.npz", new_golden_model()
    np.savez(path, **golden_params())

    def read():
        load_small_vision(model, path)
        return [array(variable) for variable in model.trainable_variables]

    assert assert_no_damage_is_silent(path, read, count=12) > 0.6


def lying_header(shape):
    header = np.lib.format.header_data_from_array_1_0(np.zeros(1, "float32")) | {"shape": shape}
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, header)
    return file.getvalue()


def pickled(path):
    np.savez(path, mu=np.array([Exploit()], dtype=object), sigma=np.zeros(1))


def of_a_lie(path):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("mu.npy", lying_header((2**40,)) + bytes(64))
        archive.writestr("sigma.npy", lying_header((1, 1)) + bytes(4))


def of_a_bomb(path):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("mu.npy", "w") as file:
        file.write(lying_header((2**24,)))
        for _ in range(2**6):
            file.write(bytes(2**20))


@pytest.mark.parametrize("make", [pickled, of_a_lie, of_a_bomb])
def test_files_that_would_run_code_or_fill_the_memory_are_refused(tmp_path, monkeypatch, make):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("keras_umd.utils.arrays.SMALL_BYTES", 2**20)
    make(tmp_path / "reference.npz")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(DamagedFileError, match=r"reference\.npz.*elsewhere"):
        Reference.load(tmp_path / "reference.npz")
    with pytest.raises(DamagedFileError, match=r"reference\.npz.*elsewhere"):
        list(stored_images(tmp_path / "reference.npz", 1))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 2**15  # KiB
    assert not (tmp_path / "exploited").exists()


def test_what_is_no_regular_file_is_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "pipe.npz")
    (tmp_path / "zero.npz").symlink_to("/dev/zero")
    for name in ("pipe.npz", "zero.npz"):
        with pytest.raises(DamagedFileError, match=f"{name} must be a regular file"):
            Reference.load(tmp_path / name)
