"""Models, extractors and objectives as folders: on every backend, to the hubs and back, whole or refused."""

import contextlib
import hashlib
import inspect
import json
import os
import pathlib
import pickle
import resource
import shutil
import sys
import types

import keras
import numpy as np
import pytest

import keras_umd
from keras_umd import UMD, Corruption, FeatureExtractor, Objective, recipes, weights
from keras_umd.evaluation import Result
from keras_umd.models.presets import SHIPPED
from keras_umd.objectives import Term
from keras_umd.utils.atomic import DamagedFileError, write_json, write_manifest
from keras_umd.utils.preset_folder import check_is_safe
from keras_umd.utils.safetensors import read_safetensors, write_safetensors
from tests.conftest import array

# Of the file of `everywhere_equal`, whose values are NumPy's.
DIGEST = "e28a8457336894fe36f84b5a1dccf86755d09c616055ebd4856240c13dca515d"
# The first features that the shipped preset gives of two images of one grey value each, on JAX, where it was made.
FEATURES = [[0.02778, 0.18995, -0.1053, -0.68582], [0.34921, -0.81266, 0.73509, 1.96175]]


@keras.saving.register_keras_serializable("tests.presets")
class Towards(Term):
    """A term with a head of its own."""

    def __init__(self, view, hidden_dim, weight=1.0, **kwargs):
        super().__init__(view, weight, **kwargs)
        self.hidden_dim = hidden_dim
        self.head = keras.layers.Dense(2, name="head")
        self.head.build((None, hidden_dim))
        self.built = True

    def image_losses(self, outputs, target):
        return keras.ops.mean(keras.ops.square(self.head(outputs["representation"])), axis=-1)

    def get_config(self):
        return {**super().get_config(), "hidden_dim": self.hidden_dim}


def objective():
    """Two heads of one name, in two terms."""
    terms = [*Objective.denoising(Corruption()).terms, Towards("clean", 16), Towards("noisy", 16)]
    return Objective(terms)


def values_of(saved):
    return {name: array(variable) for name, variable in saved.preset_variables().items()}


def assert_same(loaded, saved):
    found, expected = values_of(loaded), values_of(saved)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value, err_msg=name)


def everywhere_equal(small_model, **settings):
    """A model, averages and a head included, whose values no backend has drawn."""
    model = small_model(num_classes=3, objective=objective(), dtype="float32", **settings)
    model.track_average([0.9, recipes.PowerProfile(0.1)])
    rng = np.random.default_rng(0)
    for name, variable in sorted(model.preset_variables().items()):
        is_count = name.endswith("num_updates")
        variable.assign(3.0 if is_count else (0.1 * rng.standard_normal(variable.shape)).astype("float32"))
    return model


def test_a_folder_is_the_same_whichever_backend_writes_it_and_whichever_loads_it(small_model, tmp_path):
    """Equal bytes on all three, so that each reads what the others write."""
    model = everywhere_equal(small_model)
    model.save_to_preset(tmp_path / "preset")
    content = (tmp_path / "preset" / "weights.safetensors").read_bytes()
    assert hashlib.sha256(content).hexdigest() == DIGEST
    loaded = UMD.from_preset(tmp_path / "preset")
    assert_same(loaded, model)
    assert loaded.get_config() == model.get_config()
    for which in ("average", recipes.PowerProfile(0.1), "raw"):
        for value, expected in zip(loaded.weight_values(which), model.weight_values(which), strict=True):
            np.testing.assert_array_equal(array(value), array(expected))


def test_the_shipped_preset_of_jax_gives_the_same_everywhere(tmp_path):
    model = UMD.from_preset("umd_digits")
    images = np.broadcast_to(np.array([0, 200], "uint8")[:, None, None, None], (2, 8, 8, 1))
    np.testing.assert_allclose(array(model.encode(images))[:, :4], FEATURES, atol=1e-4)
    model.save_to_preset(tmp_path / "again", dtype="float16")
    again, shipped = (
        (folder / "weights.safetensors").read_bytes() for folder in (tmp_path / "again", SHIPPED / "umd_digits")
    )
    assert again == shipped


@pytest.mark.host
def test_the_shipped_preset_makes_digits_at_once_and_is_small():
    model = UMD.from_preset("umd_digits")
    assert model.generate([3, 3], num_steps=2, seed=0).shape == (2, 8, 8, 1)
    files = {path.name: path.stat().st_size for path in (SHIPPED / "umd_digits").iterdir()}
    assert set(files) == {"README.md", "config.json", "manifest.json", "metadata.json", "weights.safetensors"}
    assert sum(files.values()) < 10**6
    card = (SHIPPED / "umd_digits" / "README.md").read_text()
    assert all(words in card for words in ("CC BY 4.0", "10-shot accuracy", "cc-by-4.0", "keras_umd", "CPU minutes"))
    assert "umd_digits" in repr(UMD.presets) and "He et al." in UMD.presets.papers()["mae"]
    fresh = UMD.from_preset("umd_digits", load_weights=False)
    assert not np.array_equal(array(fresh.encoder.cls_tokens), array(model.encoder.cls_tokens))


@pytest.mark.host
def test_names_are_configurations_as_before_and_have_no_weights():
    with pytest.raises(ValueError, match="The preset has no weights"):
        UMD.from_preset("umd_tiny_patch8_32", load_weights=True)
    with pytest.raises(ValueError, match="'umd_digits', the path of a folder, or 'hf://user/repo'"):
        UMD.from_preset("umd_letters")
    with pytest.raises(ValueError, match=r"load it by keras\.models\.load_model.*'runs/mine\.keras'"):
        UMD.from_preset("runs/mine.keras")
    with pytest.raises(FileNotFoundError, match="no/such/folder"):
        UMD.from_preset("no/such/folder")


@pytest.mark.host
def test_overrides_and_fresh_weights(small_model, tmp_path):
    model = everywhere_equal(small_model)
    model.save_to_preset(tmp_path / "preset")
    assert UMD.from_preset(tmp_path / "preset", remat=True).encoder.remat
    with pytest.raises(
        ValueError, match=r"load_weights=False\.\nshape of .*condition_embedding/label_embedding/table: "
    ):
        UMD.from_preset(tmp_path / "preset", num_classes=5)
    assert UMD.from_preset(tmp_path / "preset", load_weights=False, num_classes=5).num_classes == 5
    with pytest.raises(ValueError, match="unknown: condition_embedding/label_embedding/"):
        UMD.from_preset(tmp_path / "preset", num_classes=None)


@pytest.mark.host
def test_averages_alone_are_the_weights_of_a_smaller_preset(small_model, tmp_path):
    model = everywhere_equal(small_model)
    model.save_to_preset(tmp_path / "preset", weights=0.9, dtype="bfloat16")
    loaded = UMD.from_preset(tmp_path / "preset")
    assert not loaded.averages
    for value, expected in zip(loaded.weight_values("raw"), model.weight_values(0.9), strict=True):
        np.testing.assert_allclose(array(value), array(expected), rtol=2**-8)
    with pytest.raises(ValueError, match="`weights` must be"):
        model.save_to_preset(tmp_path / "other", weights=0.5)


@pytest.mark.host
@pytest.mark.usefixtures("thawed")
def test_quantised_models_and_lora_factors_stay_what_they_are(small_model, tmp_path):
    model = everywhere_equal(small_model)
    model.encoder.blocks[0].mlp_hidden.enable_lora(2)
    with pytest.raises(ValueError, match="call `compile` again"):
        model.save_to_preset(tmp_path / "lora")
    model.track_average([0.9])
    model.save_to_preset(tmp_path / "lora")
    loaded = UMD.from_preset(tmp_path / "lora")
    assert loaded.encoder.blocks[0].mlp_hidden.lora_enabled
    assert_same(loaded, model)
    other = everywhere_equal(small_model)
    other.quantize("int8", filters="mlp_hidden")
    other.save_to_preset(tmp_path / "int8")
    loaded = UMD.from_preset(tmp_path / "int8")
    assert_same(loaded, other)
    assert loaded.encoder.blocks[0].mlp_hidden.kernel.dtype == "int8"
    other.save_to_preset(tmp_path / "half", dtype="float16")
    assert (
        read_safetensors(tmp_path / "half" / "weights.safetensors", "")["encoder/block/mlp_hidden/kernel"].dtype
        == "int8"
    )


@pytest.mark.host
def test_extractors_and_objectives_are_saved_alike(small_model, tmp_path):
    model = everywhere_equal(small_model)
    extractor = model.feature_extractor(pooling="mean")
    extractor.save_to_preset(tmp_path / "extractor")
    loaded = FeatureExtractor.from_preset(tmp_path / "extractor")
    assert_same(loaded, extractor)
    assert (
        loaded.pooling == "mean" and FeatureExtractor.from_preset(tmp_path / "extractor", pooling=None).pooling is None
    )
    model.objective.save_to_preset(tmp_path / "objective")
    terms = Objective.from_preset(tmp_path / "objective")
    assert_same(terms, model.objective)
    assert "clean_towards_loss/head/kernel" in terms.preset_variables()
    with pytest.raises(ValueError, match="holds FeatureExtractor, and UMD.from_preset loads UMD"):
        UMD.from_preset(tmp_path / "extractor")
    with pytest.raises(ValueError, match="holds UMD|holds Objective"):
        FeatureExtractor.from_preset(tmp_path / "objective")


@pytest.mark.host
def test_a_subclass_is_loaded_as_itself(small_model, tmp_path):
    @keras.saving.register_keras_serializable("tests.presets")
    class Mine(UMD):
        pass

    model = Mine.from_config(small_model().get_config())
    model.save_to_preset(tmp_path / "mine")
    assert type(UMD.from_preset(tmp_path / "mine")) is Mine


@pytest.mark.host
def test_the_card_has_results_and_licence(small_model, tmp_path):
    results = [Result("fid", 3.21, {"samples": 500, "note": "a|b"}, {}, 0.1)]
    small_model().save_to_preset(tmp_path / "birds", results=results, license="cc-by-4.0", description="Birds.")
    card = (tmp_path / "birds" / "README.md").read_text()
    head, body = card.split("---\n")[1:]
    assert 'license: "cc-by-4.0"' in head and 'library_name: "keras"' in head
    assert "# birds\n\nBirds." in body and "| fid | 3.21 +- 0.1 | samples: 500, note: a\\|b |" in body
    metadata = json.loads((tmp_path / "birds" / "metadata.json").read_text())
    assert metadata["preprocessing"] == {"image_shape": [8, 8, 1], "value_range": [-1.0, 1.0]}
    assert metadata["results"][0]["value"] == 3.21 and metadata["versions"]["keras_umd"] == keras_umd.__version__
    (tmp_path / "birds" / "README.md").write_text("edited")  # as the owners of repositories do
    UMD.from_preset(tmp_path / "birds")


@pytest.mark.host
def test_nothing_is_overwritten_and_nothing_is_left_behind(small_model, tmp_path):
    model = small_model()
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "file").touch()
    with pytest.raises(FileExistsError, match="taken"):
        model.save_to_preset(tmp_path / "taken")
    model.encoder.cls_tokens.assign(array(model.encoder.cls_tokens) * np.nan)
    with pytest.raises(FloatingPointError, match="encoder/cls_tokens"):
        model.save_to_preset(tmp_path / "nan")
    model.encoder.cls_tokens.assign(np.full(model.encoder.cls_tokens.shape, 1e6))
    with pytest.raises(FloatingPointError, match="as float16"):
        model.save_to_preset(tmp_path / "large", dtype="float16")
    assert os.listdir(tmp_path) == ["taken"]


@pytest.fixture
def saved(small_model, tmp_path):
    small_model().save_to_preset(tmp_path / "preset", license="mit")
    return tmp_path / "preset"


@pytest.mark.host
@pytest.mark.parametrize("name", ["config.json", "metadata.json", "weights.safetensors", "manifest.json"])
def test_damage_and_missing_files_are_found(saved, name):
    whole = (saved / name).read_bytes()
    for content in (whole[:-1], whole[:20] + b"?" + whole[21:], b""):
        (saved / name).write_bytes(content)
        with pytest.raises(DamagedFileError, match=r"preset"):
            UMD.from_preset(saved)
    (saved / name).unlink()
    with pytest.raises(DamagedFileError, match=r"preset"):
        UMD.from_preset(saved)


def edited(folder, change):
    """A folder with another config, and right checksums: what an attacker would make."""
    config = json.loads((folder / "config.json").read_text())
    config.pop("sha256")
    change(config)
    write_json(folder / "config.json", config)
    with_right_checksums(folder)


def with_right_checksums(folder):
    if (folder / "README.md").exists():
        os.rename(folder / "README.md", folder.parent / "card")
    write_manifest(str(folder))


@pytest.mark.host
@pytest.mark.parametrize(
    "bad",
    [
        {"module": "os", "class_name": "system", "config": "touch exploited", "registered_name": None},
        {"module": "builtins", "class_name": "function", "config": "eval", "registered_name": "function"},
        {"class_name": "__lambda__", "config": {"value": "x"}},
        {"module": "keras.layers", "class_name": "Lambda", "config": {}, "registered_name": None},
        {"module": "keras.layers", "class_name": "TFSMLayer", "config": {}, "registered_name": "TFSMLayer"},
        {"module": "antigravity", "class_name": "Corruption", "config": {}, "registered_name": "other>Corruption"},
        # Under a name that is registered, but not the one that Keras would look up.
        {
            "module": "keras.utils",
            "class_name": "function",
            "config": "get_file",
            "registered_name": "keras_umd>Corruption",
        },
        {"class_name": "__lambda__", "config": {"value": "x"}, "registered_name": "keras_umd>Corruption"},
    ],
    ids=lambda bad: f"{bad['class_name']}, {bad.get('registered_name')}",
)
def test_a_config_that_names_code_is_refused(saved, bad, monkeypatch):
    monkeypatch.chdir(saved.parent)
    edited(saved, lambda config: config["config"].update(corruption=[{"x": bad}]))
    with pytest.raises(ValueError, match="names a class that isn't registered"):
        UMD.from_preset(saved)
    assert not (saved.parent / "exploited").exists()


@pytest.mark.host
def test_plain_layers_of_keras_are_taken_and_no_class_that_cannot_be_loaded_is_saved(small_model, tmp_path):
    layers = [keras.layers.Dense(2, kernel_initializer="zeros", activation="relu"), keras.layers.LayerNormalization()]
    check_is_safe([keras.saving.serialize_keras_object(layer) for layer in layers], "x")

    class Unregistered(Towards):
        pass

    terms = [*Objective.denoising(Corruption()).terms, Unregistered("clean", 16)]
    with pytest.raises(ValueError, match="isn't registered.*Unregistered"):
        small_model(objective=Objective(terms)).save_to_preset(tmp_path / "preset")
    assert not os.listdir(tmp_path)


@pytest.mark.host
@pytest.mark.parametrize(
    "settings",
    [
        {"hidden_dim": 2**40},
        {"hidden_dim": 2**14},
        {"num_layers": 2**40},
        {"decoder_layers": 2**40},
        {"decoder_hidden_dim": 2**40},
        {"num_classes": 2**40},
        {"num_cls_tokens": 2**40},
        {"image_shape": [2**20, 2**20, 1]},
        {"block": {"registers": 2**40}},
        {"corruption": {"num_timesteps": 2**40}},
        {"ema_decays": [0.9] * 10_000},
    ],
    ids=str,
)
def test_settings_of_a_network_far_larger_than_its_weights_are_refused_before_it_is_made(saved, settings):
    edited(saved, lambda config: config["config"].update(settings))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ValueError, match="are of a network with .* numbers or more, and its weights have"):
        UMD.from_preset(saved)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 2**15  # KiB


@pytest.mark.host
def test_settings_without_end_are_refused(saved):
    values = json.loads((saved / "config.json").read_text())
    values.pop("sha256")

    def load_nested(depth):
        nested = '{"a":' * depth + "1" + "}" * depth
        (saved / "config.json").write_text(json.dumps(values)[:-1] + f', "more": {nested}}}')
        with_right_checksums(saved)
        UMD.from_preset(saved)

    with pytest.raises(DamagedFileError, match="preset"):
        load_nested(100_000)
    with contextlib.suppress(DamagedFileError):  # near the limit of Python it may be read, and then is ignored
        load_nested(900)


@pytest.mark.host
@pytest.mark.parametrize(
    "content",
    [
        lambda array: (2**40).to_bytes(8, "little") + b"{}",
        lambda array: one_entry([2**40], [0, 2**42]) + bytes(64),
        lambda array: one_entry([2], [0, 8], "F64") + bytes(8),
        lambda array: one_entry([2], [0, 8], name="../encoder") + bytes(8),
        lambda array: array[:-8],
        lambda array: pickle.dumps(Exploit()),
    ],
    ids=["2^40 bytes", "2^40 numbers", "another type", "a path", "cut", "code"],
)
def test_weights_that_lie_are_refused_under_right_checksums(saved, content, monkeypatch):
    monkeypatch.chdir(saved.parent)
    path = saved / "weights.safetensors"
    path.write_bytes(content(path.read_bytes()))
    with_right_checksums(saved)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(DamagedFileError, match=r"weights\.safetensors.*elsewhere"):
        UMD.from_preset(saved)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 2**15  # KiB
    assert not (saved.parent / "exploited").exists()


def one_entry(shape, offsets, dtype="F32", name="encoder/cls_tokens"):
    text = json.dumps({name: {"dtype": dtype, "shape": shape, "data_offsets": offsets}}).encode()
    return len(text).to_bytes(8, "little") + text


class Exploit:
    def __reduce__(self):
        return pathlib.Path("exploited").touch, ()


@pytest.mark.host
@pytest.mark.parametrize("name", ["../secret", "more/../../secret", "/etc/passwd", "..\\secret"])
@pytest.mark.parametrize("entry", [{"bytes": 1, "sha256": "0"}, 3, {}, {"bytes": "1", "sha256": 0}], ids=str)
def test_a_manifest_lists_files_of_its_folder_and_no_others(saved, name, entry):
    (saved.parent / "secret").touch()
    manifest = json.loads((saved / "manifest.json").read_text())
    manifest.pop("sha256")
    manifest["files"][name] = entry
    write_json(saved / "manifest.json", manifest)
    with pytest.raises(DamagedFileError, match="the size and the SHA-256 of files in it"):
        UMD.from_preset(saved)


@pytest.mark.host
def test_weights_that_are_anothers_are_refused_by_name(saved):
    arrays = read_safetensors(saved / "weights.safetensors", "")
    arrays["encoder/cls_tokens"] = arrays["encoder/cls_tokens"].astype("int64")
    arrays["more"] = arrays.pop("encoder/norm/gamma")
    write_safetensors(saved / "weights.safetensors", arrays)
    edited(saved, lambda config: None)
    with pytest.raises(ValueError) as error:
        UMD.from_preset(saved)
    for problem in ("missing: encoder/norm/gamma", "unknown: more", "type of encoder/cls_tokens: int64 instead of"):
        assert problem in str(error.value)


class Hub:
    """Both clients, over folders on this machine. Its methods have the parameters of the real ones that are used."""

    def __init__(self, folder):
        self.folder, self.licences = folder, {}

    def snapshot_download(self, repo_id, *, revision=None, allow_patterns=None):
        folder = self.folder / f"{repo_id}@{revision or 'main'}"
        return shutil.copytree(folder, self.folder / "cache" / repo_id, dirs_exist_ok=True)

    def create_repo(self, repo_id, *, repo_type=None, exist_ok=False):
        assert repo_type == "model" and exist_ok
        self.folder.joinpath(repo_id).mkdir(parents=True, exist_ok=True)

    def upload_folder(self, *, repo_id, folder_path, revision=None, allow_patterns=None):
        assert (self.folder / repo_id).is_dir()
        target = self.folder / f"{repo_id}@{revision or 'main'}"
        target.mkdir(parents=True, exist_ok=True)
        for name in allow_patterns:
            shutil.copy(os.path.join(folder_path, name), target)

    def model_download(self, handle, path=None):
        return str(self.folder / handle)

    def model_upload(self, handle, local_model_dir, license_name=None):
        self.licences[handle] = license_name
        shutil.copytree(local_model_dir, self.folder / handle)


@pytest.fixture
def hub(tmp_path, monkeypatch):
    stand_in = Hub(tmp_path / "hub")
    for library, names in {
        "huggingface_hub": ("snapshot_download", "create_repo", "upload_folder"),
        "kagglehub": ("model_download", "model_upload"),
    }.items():
        module = types.ModuleType(library)
        module.__dict__.update({name: getattr(stand_in, name) for name in names})
        monkeypatch.setitem(sys.modules, library, module)
    return stand_in


@pytest.mark.host
@pytest.mark.parametrize("library", ["huggingface_hub", "kagglehub"])
def test_the_stand_in_takes_what_the_real_client_takes(library):
    real = pytest.importorskip(library)
    for name in {
        "huggingface_hub": ("snapshot_download", "create_repo", "upload_folder"),
        "kagglehub": ("model_download", "model_upload"),
    }[library]:
        known = inspect.signature(getattr(real, name)).parameters
        wanted = inspect.signature(getattr(Hub, name)).parameters.keys() - {"self"}
        assert wanted <= known.keys() or any(p.kind == p.VAR_KEYWORD for p in known.values())


@pytest.mark.host
@pytest.mark.parametrize(
    "uri", ["hf://me/birds", "hf://me/birds@v2", "kaggle://me/birds/keras/small", "kaggle://me/birds/keras/small/1"]
)
def test_a_preset_goes_to_a_hub_and_comes_back(hub, saved, uri):
    (saved / "secret").write_text("of the user")
    weights.upload(saved, uri)
    loaded = UMD.from_preset(uri)
    assert_same(loaded, UMD.from_preset(saved))
    if uri.startswith("kaggle"):
        assert hub.licences == {uri.removeprefix("kaggle://"): "mit"}
    else:
        assert not list(hub.folder.rglob("secret"))


@pytest.mark.host
@pytest.mark.parametrize("uri", ["hf://me", "hf://../birds", "kaggle://me/birds", "s3://me/birds", "hf://me/b c", ""])
def test_other_addresses_are_refused(hub, saved, uri):
    with pytest.raises(ValueError, match="A folder on a hub is"):
        weights.upload(saved, uri)
    assert not hub.folder.exists()


@pytest.mark.host
def test_what_is_no_preset_is_not_uploaded(hub, tmp_path):
    with pytest.raises(ValueError, match="no preset"):
        weights.upload(tmp_path, "hf://me/birds")
    assert not hub.folder.exists()


@pytest.mark.host
def test_a_missing_library_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(ImportError, match=r"pip install 'keras_umd\[hub\]'"):
        UMD.from_preset("hf://me/birds")


@pytest.mark.host
def test_a_remote_folder_holds_a_preset_as_well(small_model):
    pytest.importorskip("fsspec")
    model = small_model()
    model.save_to_preset("memory://presets/birds/")
    assert_same(UMD.from_preset("memory://presets/birds"), model)
    with pytest.raises(FileExistsError, match="birds"):
        model.save_to_preset("memory://presets/birds")
