"""Many images on disk: complete, balanced, and the same after an interruption."""

import pathlib

import numpy as np
import pytest

import keras_umd
from keras_umd import Corruption, NoiseSchedule, View, guidance, samplers
from keras_umd.corruption import masks
from keras_umd.corruption.noise import Gaussian
from tests.conftest import trained_like

OPTIONS = {"num_steps": 2, "seed": 3, "verbose": False}


@pytest.fixture
def model(shared_model):
    return trained_like(shared_model(num_classes=3))


@pytest.fixture
def expected(model):
    return model.generate(np.arange(10) % 3, num_steps=2, seed=3)


def test_the_npz_file_is_what_adms_evaluator_reads(model, expected, tmp_path):
    path = keras_umd.generate_to(model, tmp_path / "samples", num_images=10, batch_size=4, **OPTIONS)
    assert pathlib.Path(path).name == "samples_10x8x8x1.npz"
    with np.load(path) as arrays:
        assert sorted(arrays) == ["arr_0", "arr_1"]
        np.testing.assert_array_equal(arrays["arr_0"], expected)
        assert arrays["arr_0"].dtype == np.uint8
        np.testing.assert_array_equal(arrays["arr_1"], np.arange(10) % 3)
    assert sorted(p.name for p in (tmp_path / "samples").iterdir()) == ["manifest.json", "samples_10x8x8x1.npz"]
    assert model.generate_to(tmp_path / "samples", num_images=10, **OPTIONS) == path


class Killed(Exception):
    pass


@pytest.mark.parametrize("format", ["npz", pytest.param("png", marks=pytest.mark.host)])
def test_a_stopped_run_goes_on_with_another_batch_size(model, expected, tmp_path, monkeypatch, format):
    arguments = {"directory": tmp_path / "samples", "model": model, "num_images": 10, "format": format, **OPTIONS}
    generate, calls = model.generate, []

    def generate_twice(*args, **kwargs):
        calls.append(kwargs["image_indices"][0])
        if len(calls) == 3:
            raise Killed
        return generate(*args, **kwargs)

    monkeypatch.setattr(model, "generate", generate_twice)
    with pytest.raises(Killed):
        keras_umd.generate_to(batch_size=3, **arguments)
    if format == "npz":  # killed within a write
        (tmp_path / "samples" / "parts" / ".000000006.npy.tmp.npy").write_bytes(b"half")
    path = keras_umd.generate_to(batch_size=2, **arguments)
    assert calls == [0, 3, 6, 6, 8]
    if format == "npz":
        with np.load(path) as arrays:
            np.testing.assert_array_equal(arrays["arr_0"], expected)
    else:
        image = pytest.importorskip("PIL.Image")
        files = sorted(pathlib.Path(path).glob("*.png"))
        assert [file.name for file in files] == [f"{i:06}.png" for i in range(10)]
        np.testing.assert_array_equal(np.stack([np.asarray(image.open(file)) for file in files]), expected[..., 0])
        assert (pathlib.Path(path) / "labels.txt").read_text().split() == [str(i % 3) for i in range(10)]
    assert not (tmp_path / "samples" / "parts").exists()
    calls.clear()
    assert keras_umd.generate_to(batch_size=2, **arguments) == path
    assert calls == []


@pytest.mark.host
def test_a_directory_of_other_samples_is_refused(model, tmp_path):
    arguments = {"directory": tmp_path / "samples", "model": model, "num_images": 2, "batch_size": 2, **OPTIONS}
    keras_umd.generate_to(**arguments, sampler=samplers.DDIM(0.5), guidance=guidance.Interval(2.0, 0.1, 3.0))
    for changed in ({"sampler": "heun"}, {"guidance": 3.0}):
        with pytest.raises(ValueError, match="(?s)made otherwise.*'options'.*'eta': 0.5"):
            keras_umd.generate_to(**arguments, **changed)
    model.trainable_variables[0].assign(model.trainable_variables[0] + 1)
    with pytest.raises(ValueError, match="(?s)made otherwise.*'model'"):
        keras_umd.generate_to(**arguments, sampler=samplers.DDIM(0.5), guidance=guidance.Interval(2.0, 0.1, 3.0))
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.txt").write_text("")
    with pytest.raises(ValueError, match="must be empty"):
        keras_umd.generate_to(**{**arguments, "directory": tmp_path / "other"})


@pytest.mark.host
def test_a_wrong_option_leaves_the_directory_usable(model, tmp_path):
    arguments = {"directory": tmp_path / "samples", "model": model, "num_images": 2, "verbose": False}
    with pytest.raises(ValueError, match="num_steps=0"):
        keras_umd.generate_to(**arguments, num_steps=0)
    assert not (tmp_path / "samples").exists()
    keras_umd.generate_to(**arguments, num_steps=2)


@pytest.mark.host
def test_labels_may_be_given_or_left_out(model, shared_model, tmp_path):
    arguments = {"num_images": 3, "batch_size": 3, **OPTIONS}
    path = keras_umd.generate_to(model, tmp_path / "given", labels=[2, 2, 0], **arguments)
    with np.load(path) as arrays:
        np.testing.assert_array_equal(arrays["arr_0"], model.generate([2, 2, 0], num_steps=2, seed=3))
        np.testing.assert_array_equal(arrays["arr_1"], [2, 2, 0])
    latents = trained_like(shared_model(value_range=None))
    path = keras_umd.generate_to(latents, tmp_path / "latents", **arguments)
    with np.load(path) as arrays:
        assert sorted(arrays) == ["arr_0"]
        assert arrays["arr_0"].dtype == np.float32


@pytest.mark.host
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_images": 0}, "num_images=0"),
        ({"batch_size": 2.5}, "batch_size=2.5"),
        ({"format": "jpg"}, "format='jpg'"),
        ({"seed": None}, "seed=None"),
        ({"labels": [0]}, r"\(2,\).*shape \(1,\)"),
        ({"labels": [0, 5]}, "0 to 5"),
        ({"initial_noise": np.zeros((2, 8, 8, 1))}, "leave out `initial_noise`"),
    ],
)
def test_wrong_arguments_are_refused(model, tmp_path, arguments, message):
    with pytest.raises(ValueError, match=message):
        keras_umd.generate_to(model, tmp_path / "samples", **{"num_images": 2, **OPTIONS, **arguments})
    assert not (tmp_path / "samples").exists()


@pytest.mark.host
def test_samples_of_own_views_and_schedules_are_told_from_others(shared_model, tmp_path):
    def make(ratio, betas):
        view = View("noisy", Gaussian(), masks.Random(ratio))
        return shared_model(corruption=Corruption(NoiseSchedule.from_betas(betas), views=[view]))

    arguments = {"directory": tmp_path, "num_images": 2, "num_steps": 2, "verbose": False}
    path = make(0.5, [0.1, 0.2]).generate_to(**arguments)
    assert make(0.5, [0.1, 0.2]).generate_to(**arguments) == path
    for other in (make(0.25, [0.1, 0.2]), make(0.5, [0.1, 0.3])):
        with pytest.raises(ValueError, match="(?s)made otherwise.*'model'"):
            other.generate_to(**arguments)
