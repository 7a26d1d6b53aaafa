"""Encoders and masked autoencoders of other codebases, against recorded outputs; `make interop` has the networks."""

import json

import keras
import numpy as np
import pytest

from keras_umd import Corruption
from keras_umd.layers import Block
from keras_umd.utils.atomic import DamagedFileError
from keras_umd.weights import from_mae, from_vit, read_weights, to_timm, to_transformers
from tests.conftest import array, assert_close, in_one_program, trained_like

pytestmark = pytest.mark.usefixtures("op_by_op")

MAE = {"num_heads": 3, "decoder_heads": 4}
VIT = {"num_heads": 3, "standardized": "imagenet"}


@pytest.fixture(scope="module")
def recorded(golden):
    return golden("vits")


def of(recorded, name, sign="/"):
    """The arrays below a name, by the rest of theirs."""
    return {key.removeprefix(name + sign): value for key, value in recorded.items() if key.startswith(name + sign)}


def outputs(model, images, noise):
    draws = model.corruption.draw(images.shape, model.patch_size, 0)
    x, y = model.make_views(images, draws={**draws, "mask_noise": keras.ops.convert_to_tensor(noise)})
    outputs = in_one_program(model)(x)
    (view, *_), (name, *_) = x["views"].items(), model.objective.loss_names
    return view, outputs[view[0]], np.mean(array(model.objective.image_losses(outputs, y)[name]))


def test_a_masked_autoencoder_has_the_recorded_loss_predictions_and_features(recorded):
    model = from_mae(of(recorded, "mae"), **MAE)
    (name, view), predicted, loss = outputs(model, recorded["images"], recorded["noise"])
    assert loss == pytest.approx(float(recorded["mae.loss/normalised"]), rel=1e-6)
    logits = np.take_along_axis(recorded["mae.logits"], array(view["masked"])[..., None].astype("int64"), axis=1)
    assert_close(predicted["pixels"], logits, 1e-5)
    assert_close(predicted["representation"], recorded["mae.cls_token"], 1e-5)


def test_it_goes_on_as_umd_from_the_recorded_loss(recorded):
    images, noise = (np.repeat(recorded[name], 2, axis=0) for name in ("images", "noise"))
    model = from_mae(of(recorded, "mae"), normalize=False, corruption=Corruption.umd(), num_classes=3, **MAE)
    _, _, loss = outputs(model, images, noise)  # every second image stays clean
    assert loss == pytest.approx(float(recorded["mae.loss/plain"]), rel=1e-6)
    assert model.objective.loss_names == ["clean_pixels_loss", "noisy_x0_loss", "noisy_eps_loss"]


@pytest.mark.host
def test_its_training_moves_every_weight_but_the_positions(recorded):
    model = from_mae(of(recorded, "mae"), corruption=Corruption.umd(), seed=0, **MAE)
    before = {v.path: array(v) for v in model.network_weights}
    model.compile("sgd")
    # In the second step the condition matters, too: its modulation began at zero.
    model.fit(np.repeat(recorded["images"], 4, axis=0), batch_size=8, epochs=2, verbose=0)
    same = {v.path for v in model.network_weights if np.array_equal(before[v.path], array(v))}
    assert {path for path in same if "key/bias" not in path} == {
        "encoder/position_embedding/positions",
        "decoder/position_embedding/positions",
    }
    learned = from_mae(of(recorded, "mae"), block=Block(mlp="exact_gelu", epsilon=1e-12), **MAE)
    assert learned.decoder.position_embedding.positions.trainable


def test_an_encoder_has_the_recorded_tokens(recorded):
    expected = recorded["vit.tokens"]
    arrays, images = of(recorded, "vit"), recorded["images"]
    for pooling, tokens in (("cls", expected[:, 0]), (None, expected[:, 3:]), ("mean", expected[:, 3:].mean(axis=1))):
        assert_close(from_vit(arrays, pooling=pooling, **VIT)(images), tokens, 1e-5)
    as_it_comes = from_vit(arrays, **{**VIT, "standardized": None}, pooling=None)
    means, deviations = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    floats = ((images / 255 - means) / deviations).astype("float32")
    assert_close(as_it_comes(floats), expected[:, 3:], 1e-5)


def equal(first, second):
    return all(np.array_equal(a, b) for a, b in zip(first.get_weights(), second.get_weights(), strict=True))


@pytest.mark.host
def test_names_of_checkpoints_and_of_every_version_are_read(recorded, capsys):
    vit, mae = of(recorded, "vit"), of(recorded, "mae")
    expected = from_vit(vit, **VIT)
    head = {"head.weight": np.zeros((7, 24)), "head.bias": np.zeros(7)}
    assert equal(expected, from_vit({f"module.{name}": value for name, value in {**vit, **head}.items()}, **VIT))
    assert "Apache-2.0" in (text := capsys.readouterr().out) and "Left out: head.bias, head.weight." in text
    encoder = {name.removeprefix("vit."): value for name, value in mae.items() if not name.startswith("decoder")}
    expected = from_vit(encoder, **VIT)
    of_hub = {renamed(name, FILES): value for name, value in encoder.items()}
    assert "encoder.layer.1.attention.attention.query.weight" in of_hub
    assert equal(expected, from_vit(of_hub, **VIT))
    timms = fused({renamed(name, FILES | TIMM): value for name, value in encoder.items()})
    assert "blocks.1.attn.qkv.weight" in timms
    own = from_vit(timms, block=Block(mlp="exact_gelu", epsilon=1e-12), **VIT)
    assert equal(expected, own)


# From the names of transformers' models to those of its files, and from these to timm's.
FILES = {
    "layers.": "encoder.layer.",
    "attention.q_proj": "attention.attention.query",
    "attention.k_proj": "attention.attention.key",
    "attention.v_proj": "attention.attention.value",
    "attention.o_proj": "attention.output.dense",
    "mlp.fc1": "intermediate.dense",
    "mlp.fc2": "output.dense",
}
TIMM = {
    "encoder.layer.": "blocks.",
    "attention.attention.": "attn.",
    "attention.output.dense": "attn.proj",
    "intermediate.dense": "mlp.fc1",
    "output.dense": "mlp.fc2",
    "layernorm_before": "norm1",
    "layernorm_after": "norm2",
    "layernorm": "norm",
    "embeddings.patch_embeddings.projection": "patch_embed.proj",
    "embeddings.cls_token": "cls_token",
    "embeddings.position_embeddings": "pos_embed",
    "decoder.decoder_layers.": "decoder_blocks.",
    "decoder.": "",
}


def renamed(name, table):
    name = name.removeprefix("vit.")
    for old, new in table.items():
        if not (old == "layers." and "decoder" in name):
            name = name.replace(old, new)
    return name


def fused(arrays):
    """With queries, keys and values in one array."""
    result = {name: value for name, value in arrays.items() if ".attn." not in name or ".proj." in name}
    for name in arrays:
        if ".attn.query." in name:
            parts = [arrays[name.replace("query", part)] for part in ("query", "key", "value")]
            result[name.replace("query", "qkv")] = np.concatenate(parts)
    return result


@pytest.mark.host
def test_a_masked_autoencoder_by_the_names_of_its_authors(recorded):
    theirs = fused({renamed(name, FILES | TIMM): value for name, value in of(recorded, "mae").items()})
    assert {"decoder_blocks.0.attn.qkv.bias", "decoder_pos_embed", "mask_token"} <= set(theirs)
    models = []
    for arrays in (of(recorded, "mae"), {f"model.{name}": value for name, value in theirs.items()}):
        keras.utils.set_random_seed(0)  # for the head that MAE doesn't have
        models.append(from_mae(arrays, block=Block(mlp="exact_gelu", positions="sincos"), **MAE))
    assert equal(*models)


@pytest.mark.host
def test_the_place_of_a_class_token_is_its_own(recorded):
    """In the encoder, and in the decoder, where a network learned one."""
    arrays = {name: value.astype("float32") for name, value in of(recorded, "mae").items()}
    arrays["decoder.decoder_pos_embed"][0, 0] = np.linspace(-1, 1, 16)
    model, images = from_mae(arrays, **MAE), recorded["images"]
    place = arrays["vit.embeddings.position_embeddings"][0, 0] + arrays["vit.embeddings.cls_token"][0, 0]
    np.testing.assert_array_equal(array(model.encoder.cls_tokens)[0], place)
    decoder, seen = model.decoder, np.random.default_rng(0).normal(size=(2, 5, 24)).astype("float32")
    visible, masked = np.arange(4)[None].repeat(2, 0), np.arange(4, 16)[None].repeat(2, 0)
    placed, _ = decoder._placed(seen[:, 0], seen[:, 1:], visible, masked)
    tokens = seen @ arrays["decoder.decoder_embed.weight"].T + arrays["decoder.decoder_embed.bias"]
    mask_tokens = np.broadcast_to(arrays["decoder.mask_token"], (2, 12, 16))
    expected = np.concatenate([tokens, mask_tokens], axis=1) + arrays["decoder.decoder_pos_embed"]
    assert_close(placed, expected, 1e-6)
    assert np.isfinite(array(model.encode(images))).all()


@pytest.mark.host
def test_images_of_another_size_get_interpolated_positions(recorded):
    extractor = from_vit(of(recorded, "vit"), image_shape=(24, 16, 3), **VIT)
    smaller = from_vit(of(recorded, "vit"), **VIT).encoder.position_embedding
    np.testing.assert_array_equal(array(extractor.encoder.position_embedding.positions), smaller.interpolated((6, 4)))
    model = from_mae(of(recorded, "mae"), image_shape=(24, 16, 3), **MAE)
    assert model.encode(np.zeros((1, 24, 16, 3), "uint8")).shape == (1, 24)


def without(name):
    return lambda arrays: arrays.pop(name)


def with_array(name, *shape):
    return lambda arrays: arrays.update({name: np.zeros(shape, "float32")})


@pytest.mark.host
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (without("norm.bias"), "missing: norm.bias"),
        (without("blocks.1.norm2.weight"), "missing: blocks.1.norm2.weight"),
        (without("pos_embed"), "an array pos_embed of 3 axes.* Received: none"),
        (with_array("patch_embed.proj.weight", 24, 48), r"patch_embed.proj.weight of 4 axes.*\(24, 48\)"),
        (with_array("norm.weight", 5), r"shape of norm.weight: \(5,\) instead of \(24,\)"),
        (with_array("blocks.0.mlp.fc1.weight", 48, 24), r"fc1.weight: \(48, 24\) instead of \(96, 24\)"),
        (with_array("blocks.0.attn.qkv.weight", 71, 24), r"qkv.weight: \(71, 24\) instead of \(72, 24\)"),
        (with_array("blocks.99999.norm1.weight", 24), "unknown: blocks.99999.norm1.weight"),
        (with_array("blocks.0.attn.q_norm.weight", 8), "q_norm.weight .a LayerNorm of queries and keys"),
        (with_array("blocks.0.mlp.w12.weight", 8), "w12.weight .another MLP"),
        (with_array("fc_norm.weight", 24), "fc_norm.weight .a LayerNorm behind the mean"),
        (with_array("decoder_embed.weight", 16, 24), "decoder_embed.weight .a decoder, which weights.from_mae reads"),
        (with_array("pos_embed", 1, 18, 24), "aren't those of a square image; give the `image_shape`"),
        (lambda arrays: arrays.update(cls_token=np.full((1, 1, 24), np.nan)), "no finite numbers: cls_token"),
        (lambda arrays: [arrays.pop(name) for name in list(arrays) if "blocks" in name], "must hold the blocks"),
    ],
)
def test_misfits_are_named_before_a_model_is_made(recorded, change, message):
    arrays = of(recorded, "vit")
    arrays = {name: value for name, value in arrays.items() if not name.startswith("head")}
    change(arrays)
    with pytest.raises(ValueError, match=f"(?s){message}"):
        from_vit(arrays, **VIT)


@pytest.mark.host
@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda vit, mae: from_vit(vit, standardized="imagenet"), "no published network is 24 wide: give `num_heads`"),
        (lambda vit, mae: from_vit(vit, **{**VIT, "standardized": "clip"}), "`standardized` must be .*clip"),
        (lambda vit, mae: from_vit(vit, **{**VIT, "standardized": ((0, 0), 1)}), "for the 3 channels"),
        (
            lambda vit, mae: from_vit(vit, block=Block(rope=True), **VIT),
            r"otherwise be that of the file.*rope=True",
        ),
        (lambda vit, mae: from_vit(vit, num_layers=3, **VIT), r"can't be replaced. Received: \['num_layers'\]"),
        (lambda vit, mae: from_vit(3, **VIT), "`source` must be the path"),
        (lambda vit, mae: from_vit(vit, value_range="8 bits", **VIT), "`value_range` must be a pair.*8 bits"),
        (lambda vit, mae: from_mae(mae, standardized=None, value_range=(0, 1), **MAE), r"be left out.*\(0, 1\)"),
        (lambda vit, mae: from_mae(vit, **MAE), "one class token, and neither registers nor LayerScale"),
        (lambda vit, mae: from_mae(mae, num_heads=3), "no published network is 16 wide: give `decoder_heads`"),
        (lambda vit, mae: from_mae(mae, corruption=Corruption.dit(), **MAE), "`corruption` must have clean images"),
        (lambda vit, mae: from_mae(mae, conditioning="token", **MAE), "must be 'adaln_zero', which begins as"),
        (lambda vit, mae: from_mae(of(mae, "vit", "."), **MAE), "an encoder alone is for weights.from_vit"),
        (lambda vit, mae: from_mae({**mae, "vit.more": np.zeros(1)}, **MAE), "unknown: more"),
        (lambda vit, mae: from_mae({**mae, "decoder.mask_token": np.zeros(16)}, **MAE), r"mask_token: \(16,\)"),
    ],
)
def test_wrong_arguments_and_other_networks_are_refused(recorded, make, message):
    with pytest.raises(ValueError, match=f"(?s){message}"):
        make(of(recorded, "vit"), of(recorded, "mae"))


@pytest.mark.host
def test_a_cut_file_is_refused(recorded, tmp_path):
    np.savez(tmp_path / "vit.npz", **of(recorded, "vit"))
    (tmp_path / "cut.npz").write_bytes((tmp_path / "vit.npz").read_bytes()[:-1000])
    with pytest.raises(DamagedFileError, match=r"cut\.npz"):
        from_vit(tmp_path / "cut.npz", **VIT)
    assert equal(from_vit(tmp_path / "vit.npz", **VIT), from_vit(of(recorded, "vit"), **VIT))


# To others. What timm and transformers make of the folders is shown by `make interop`; here they come back.


@pytest.mark.host
@pytest.mark.parametrize(
    ("write", "settings"),
    [
        (to_timm, {"num_classes": 3}),
        (to_timm, {"num_cls_tokens": 0, "block": Block(registers=2, bottleneck=3, layer_scale=0.1)}),
        (to_transformers, {"block": Block(mlp="exact_gelu", epsilon=1e-4, layer_scale=0.1)}),
        (to_transformers, {"conditioning": None}),
    ],
)
def test_what_is_written_comes_back(small_model, images, tmp_path, write, settings):
    """With AdaLN, too, whose modulation for clean images becomes a part of the weights."""
    model = trained_like(small_model(num_layers=2, **settings))
    write(model, tmp_path / "out", standardized=(0.2, 0.7))
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert (config.get("hidden_act") or config["model_args"]["act_layer"]) in ("gelu", "gelu_tanh", "gelu_pytorch_tanh")
    block = Block(mlp=model.block.mlp, epsilon=model.block.epsilon, registers=model.block.registers)
    block = block.replaced(layer_scale=1.0 if write is to_timm and model.block.layer_scale else None)
    arguments = {"standardized": (0.2, 0.7), "num_heads": 2, "block": block}
    again = from_vit(tmp_path / "out" / "model.safetensors", **arguments)
    assert_close(again(images), array(model.encode(images)), 1e-5)
    with pytest.raises(FileExistsError, match="isn't an empty folder"):
        write(model, tmp_path / "out")
    again.save(tmp_path / "again.keras")
    loaded = keras.models.load_model(tmp_path / "again.keras")
    np.testing.assert_array_equal(array(loaded(images)), array(again(images)))


@pytest.mark.host
@pytest.mark.parametrize(
    ("write", "settings", "message"),
    [
        (to_timm, {"conditioning": "token"}, "the token of a condition"),
        (to_timm, {"block": Block(rope=True)}, "other than .* must be the defaults"),
        (to_timm, {"block": Block(mlp="swiglu")}, "must be the defaults"),
        (to_timm, {"block": Block(epsilon=1e-4)}, "epsilon of 1e-6"),
        (to_timm, {"num_cls_tokens": 2}, "one class token or none"),
        (to_transformers, {"num_cls_tokens": 0}, "one class token"),
        (to_transformers, {"block": Block(registers=1)}, "no registers"),
        (to_transformers, {"value_range": None}, "`standardized` must be None"),
    ],
)
def test_encoders_that_fit_no_vit_are_refused(small_model, tmp_path, write, settings, message):
    with pytest.raises(ValueError, match=message):
        write(small_model(**settings), tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.host
def test_other_features_than_the_last_clean_ones_are_refused(small_model, tmp_path):
    model = small_model(num_layers=2)
    wrong = {"last block": {"layer": 1}, "noised before": {"timesteps": 5}, "a pooling": {"pooling": "cls+mean"}}
    for message, settings in wrong.items():
        with pytest.raises(ValueError, match=message):
            to_timm(model.feature_extractor(**settings), tmp_path / "out")
    with pytest.raises(ValueError, match="`model` must be"):
        to_timm(keras.layers.Dense(2), tmp_path / "out")
    model.encoder.blocks[0].mlp_hidden.enable_lora(2)
    to_timm(model, tmp_path / "out")  # whose factors the extractor adds
    assert "blocks.0.mlp.fc1.weight" in read_weights(tmp_path / "out" / "model.safetensors")
