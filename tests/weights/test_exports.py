"""Exported programs: what they compute, and what is refused. `tests/interop/test_exports.py` runs their files."""

import keras
import numpy as np
import pytest

from keras_umd import weights
from keras_umd.backend.exporting import BACKENDS, FORMATS
from keras_umd.models.adaptation import plain_copy
from keras_umd.sampling.settings import Settings
from keras_umd.weights.exporting import PARTS
from keras_umd.weights.programs import DenoiserProgram, EncoderProgram, SamplerProgram
from keras_umd_cli import main, tables
from tests.conftest import array, trained_like

NOISE = np.random.default_rng(0).normal(size=(3, 8, 8, 1)).astype("float32")
LABELS = np.array([0, 2, 1], "int32")


def outputs(program, *inputs):
    """Of the program as it is called where it is traced: by position, in the order of its inputs."""
    tensors = [
        keras.ops.convert_to_tensor(x, spec.dtype) for x, spec in zip(inputs, program.input_specs(), strict=True)
    ]
    made = program(*tensors)
    assert list(made) == program.output_names == sorted(made)
    return {name: array(x) for name, x in made.items()}


def test_the_encoder_takes_bytes(small_model, images):
    extractor = trained_like(small_model(num_layers=2)).feature_extractor(pooling="mean")
    made = outputs(EncoderProgram(extractor), images[:3])
    np.testing.assert_array_equal(made["features"], array(extractor(images[:3])))
    several = trained_like(small_model(num_layers=2)).feature_extractor(layer=[2, 1])
    made = outputs(EncoderProgram(several), images[:3])
    for name, expected in zip(("features_2", "features_1"), several(images[:3]), strict=True):
        np.testing.assert_array_equal(made[name], array(expected))


@pytest.mark.parametrize("settings", [{"num_classes": 3}, {}, {"conditioning": None}, {"value_range": None}])
def test_the_denoiser_is_the_network(small_model, settings):
    model = trained_like(small_model(**settings))
    times, labels = np.array([1.0, 30.5, 900.0], "float32"), LABELS if model.num_classes else None
    inputs = [x for x in (times, labels) if x is not None] if model.condition_embedding else []
    made = outputs(DenoiserProgram(model), NOISE, *inputs)
    expected = model.estimate(NOISE, times, labels)
    assert set(made) == set(expected)
    for name in made:
        np.testing.assert_allclose(made[name], array(expected[name]), atol=1e-5)


@pytest.mark.parametrize(
    ("model_settings", "sampling"),
    [
        ({"num_classes": 3}, {"sampler": 0.0, "guidance": 3.0}),
        ({"num_classes": 3, "conditioning": "token"}, {"sampler": "dpmpp_2m", "dtype": "float32"}),
        ({"value_range": None}, {"sampler": "heun", "num_steps": 3}),
    ],
)
def test_the_sampler_is_generate(small_model, model_settings, sampling):
    model = trained_like(small_model(**model_settings))
    sampling = {"num_steps": 2, **sampling}
    labels = None if model.num_classes is None else LABELS
    expected = model.generate(labels, initial_noise=NOISE, **sampling)
    inputs = [NOISE] if labels is None else [NOISE, labels]
    made = outputs(SamplerProgram(model, Settings(**sampling)), *inputs)["images"]
    assert made.dtype == expected.dtype
    np.testing.assert_allclose(made.astype("float64"), expected, atol=1 if made.dtype == "uint8" else 1e-4)


@pytest.mark.host
def test_what_is_exported_is_the_average_in_plain_float32(small_model, images):
    model = trained_like(small_model(dtype="mixed_bfloat16"))
    model.encoder.blocks[0].mlp_hidden.enable_lora(2, b_initializer="ones")
    model.track_average(0.5)
    model.averages[0].update()
    averaged = plain_copy(model, "average", dtype="float32")
    for variable in model.network_weights:
        variable.assign(array(variable) + 0.1)
    copy = plain_copy(model, "average", dtype="float32")
    for variable, expected in zip(copy.network_weights, averaged.network_weights, strict=True):
        assert "lora" not in variable.path
        np.testing.assert_array_equal(array(variable), array(expected))
    features = array(copy.encode(images[:2]))
    np.testing.assert_allclose(features, array(model.encode(images[:2])).astype("float32"), atol=0.1)
    assert np.abs(features - array(plain_copy(model, "raw", dtype="float32").encode(images[:2]))).max() > 0.1


def test_a_format_that_cannot_be_written_is_refused_with_its_reason(small_model, tmp_path):
    backend, model = keras.backend.backend(), small_model()
    for name, of_format in FORMATS.items():
        assert set(of_format.reasons) | set(of_format.packages) == set(BACKENDS)
        if backend in of_format.reasons:
            with pytest.raises(ValueError) as error:
                weights.export(model, tmp_path / f"new/encoder{of_format.suffix}", format=name)
            assert of_format.reasons[backend] in str(error.value) and "KERAS_BACKEND=" in str(error.value)
    if backend == "jax":
        with pytest.raises(ValueError, match=r"jax2onnx has no loop.*KERAS_BACKEND=tensorflow or KERAS_BACKEND=torch"):
            weights.export(model, tmp_path / "sampler.onnx", "sampler")
    assert not list(tmp_path.iterdir())


@pytest.mark.host
def test_what_no_program_can_do_is_refused(small_model, tmp_path):
    model, path = small_model(), tmp_path / "a.onnx"
    extractor = model.feature_extractor()
    for arguments, message in (
        ((model, "a.tflite"), "must end in '.onnx'"),
        ((model, path, "decoder"), "what='decoder'"),
        ((model, path, "encoder", "pickle"), "format='pickle'"),
        (("model", path), "model='model'"),
        ((extractor, path, "sampler"), "is exported as it is"),
        ((extractor, path, "encoder", "onnx", "raw"), "is exported as it is"),
        ((model.feature_extractor(timesteps=5), path), "timesteps=5"),
        ((model, path, "encoder", "onnx", 0.3), "weights=0.3"),
    ):
        with pytest.raises(ValueError, match=message):
            weights.export(*arguments)
    for options, message in (
        ({"sampler": 1.0}, "gets all of its noise at the start"),
        ({"guidance": 2.0}, "a model with classes"),
        ({"num_steps": 0}, "num_steps=0"),
    ):
        with pytest.raises(ValueError, match=message):
            weights.export(model, path, "sampler", **options)
    with pytest.raises(TypeError, match=r"no argument 'seed'. It takes num_steps"):
        weights.export(model, path, "sampler", seed=0)


@pytest.mark.host
def test_a_missing_converter_is_named_with_its_command(small_model, tmp_path, monkeypatch):
    monkeypatch.setitem(FORMATS["onnx"].packages, keras.backend.backend(), ("no_such_package",))
    with pytest.raises(ImportError, match="pip install no_such_package"):
        weights.export(small_model(), tmp_path / "a.onnx")


@pytest.mark.host
def test_the_command_line_has_the_same_choices(capsys):
    assert (tuple(FORMATS), tuple(PARTS)) == (tables.FORMATS, tables.PARTS)
    assert main(["export", "umd_digits", "--what", "sampler", "--format", "litert", "--dry-run"]) == 0
    assert 'path = "runs/umd_digits/exports/sampler.tflite"' in capsys.readouterr().out


@pytest.mark.backends("tensorflow")
def test_a_saved_model_serves_batches_of_any_size_by_names(small_model, tmp_path):
    tf = pytest.importorskip("tensorflow")
    model = trained_like(small_model(num_classes=3))
    weights.export(model, tmp_path / "sampler", "sampler", "saved_model", num_steps=2, guidance=2.0)
    loaded = tf.saved_model.load(str(tmp_path / "sampler"))
    expected = model.generate(LABELS, initial_noise=NOISE, num_steps=2, sampler=0.0, guidance=2.0)
    for n in (1, 3):
        made = loaded.signatures["serving_default"](noise=tf.constant(NOISE[:n]), labels=tf.constant(LABELS[:n]))
        assert np.abs(made["images"].numpy().astype(int) - expected[:n]).max() <= 1


@pytest.mark.backends("torch")
@pytest.mark.filterwarnings("ignore")
def test_a_program_of_pytorch_takes_batches_of_any_size(small_model, images, tmp_path):
    torch = pytest.importorskip("torch")
    model = trained_like(small_model())
    weights.export(model, tmp_path / "encoder.pt2", format="torch")
    program = torch.export.load(tmp_path / "encoder.pt2").module()
    for n in (1, 5):
        made = program(torch.as_tensor(images[:n]))["features"].detach().numpy()
        np.testing.assert_allclose(made, array(model.encode(images[:n])), atol=1e-5)
