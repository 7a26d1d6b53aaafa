"""Rows of several images compute what views compute that run one after the other."""

import keras
import numpy as np
import pytest

from keras_umd import Corruption
from keras_umd.corruption import masks
from keras_umd.corruption.noise import Gaussian
from keras_umd.corruption.view import View
from keras_umd.layers import Block
from keras_umd.models import packing
from tests.conftest import QUICK_STEP, array, trained_like

needs_jax = pytest.mark.backends("jax")
on_torch = pytest.mark.backends("torch")  # other settings of the same operations, where nothing is compiled
THIRDS = [View("clean", mask=masks.Random(0.75), share=1 / 3)]
THIRDS += [View(f"noisy{i}", Gaussian(), masks.Random(0.5), share=1 / 3) for i in range(2)]
CASES = {
    "labels": {"num_classes": 3, "decoder_hidden_dim": 8},
    "token": {"conditioning": "token", "num_cls_tokens": 2, "decoder_hidden_dim": 8},
    "no condition": {"conditioning": None},
    "some decoded": {"corruption": Corruption.umd(decoded_ratio=0.5)},
    "nothing masked": {"corruption": Corruption.umd(noisy_mask_ratio=0.0)},
    "three views": {"corruption": Corruption(views=THIRDS)},
    "remat": {"remat": True},
    "scan": {"scan_blocks": True, "remat": True, "num_classes": 3},
    "qk-norm, SwiGLU": {"block": Block(qk_norm=True, mlp="swiglu", bottleneck=8)},
}
# Where the cases run; all others on PyTorch.
ONLY = {"labels": None, "scan": needs_jax}


@pytest.fixture
def rows(monkeypatch):
    """The names of the views in each row that runs."""
    seen, predict_row = [], packing._predict_row

    def watched(model, views, read):
        seen.append(len(views))
        return predict_row(model, views, read)

    monkeypatch.setattr(packing, "_predict_row", watched)
    return seen


def trained(model, images, labels, compiled, steps=2):
    """The losses of some steps of SGD with batches of 8, and the weights after them.

    TensorFlow doesn't know the size of its batches, nor whether it is odd; there, the last has one image, no clean one.
    """
    model.compile(**{**QUICK_STEP, "optimizer": keras.optimizers.SGD(0.1), **compiled})
    number = 8 * steps + (keras.backend.backend() == "tensorflow")
    given = (images[:number],) if model.num_classes is None else (images[:number], labels[:number])
    history = model.fit(*given, batch_size=8, shuffle=False, verbose=0).history
    return history, [array(variable) for variable in model.trainable_variables]


@pytest.mark.parametrize(
    "case", [pytest.param(case, marks=[mark] if (mark := ONLY.get(case, on_torch)) else []) for case in CASES]
)
def test_losses_and_updates_are_those_of_views_apart(small_model, images, labels, rows, case):
    several_steps = case == "labels" and keras.backend.backend() != "torch"
    compiled = {"steps_per_execution": 2} if several_steps else {}
    number = 2 if case == "scan" or keras.backend.backend() == "torch" else 1  # where each block is compiled
    sizes = {"num_layers": number, "decoder_layers": number, **CASES[case]}
    apart = trained(trained_like(small_model(**sizes, pack=False)), images, labels, compiled)
    assert not rows
    packed = trained(trained_like(small_model(**sizes, pack=True)), images, labels, compiled)
    assert set(rows) == {3 if case == "three views" else 2}
    for name, values in apart[0].items():
        np.testing.assert_allclose(packed[0][name], values, rtol=1e-5)
    for ours, theirs in zip(packed[1], apart[1], strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-5)


@pytest.mark.host
@pytest.mark.parametrize("number", [7, 1])
def test_a_view_with_an_image_less_is_filled_up_and_cut_again(small_model, images, rows, number):
    """Of an odd batch, or of one image, for which there is one view only."""
    outputs = []
    for pack in (False, True):
        model = trained_like(small_model(pack=pack))
        outputs.append(model(model.make_views(images[:number], seed=0)[0]))
    assert rows == ([2] if number > 1 else [])
    apart, packed = ({f"{view}.{name}": x for view, of in given.items() for name, x in of.items()} for given in outputs)
    assert list(apart) == list(packed)
    for name, x in apart.items():
        np.testing.assert_allclose(array(packed[name]), array(x), atol=1e-5)


@pytest.mark.host
def test_views_of_other_shares_and_methods_of_one_view_run_alone(small_model, images, rows):
    for corruption in (Corruption.mae(), Corruption.dit(), Corruption(clean_ratio=0.25)):
        model = small_model(corruption=corruption, pack=True)
        assert set(model(model.make_views(images[:8], seed=0)[0])) == {view.name for view in corruption.views}
    assert not rows


@pytest.mark.host
def test_low_precision_is_as_near_to_float32_as_without_rows(small_model, images):
    outputs = []
    for settings in ({"dtype": "float32"}, {"dtype": "mixed_bfloat16"}, {"dtype": "mixed_bfloat16", "pack": True}):
        model = trained_like(small_model(num_layers=2, **settings))
        views = model(model.make_views(images[:8], seed=0)[0])
        outputs.append(array(keras.ops.cast(views["noisy"]["eps"], "float32")))
        assert keras.backend.standardize_dtype(views["noisy"]["tokens"].dtype) == settings["dtype"].split("_")[-1]
    apart, packed = (np.abs(x - outputs[0]).max() / np.abs(outputs[0]).max() for x in outputs[1:])
    assert 1e-4 < packed < 2 * apart


@pytest.mark.host
def test_on_tpus_rows_are_the_default_where_they_are_padded_less(small_model, images, rows, monkeypatch):
    """65 and 161 tokens are padded to 128 and 256 apart, and to 256 as a row; here, 5 and 11 with tiles of 8."""
    assert (packing.padded(65), packing.padded(161), packing.padded(65 + 161)) == (128, 256, 256)
    model = small_model()
    views, _ = model.make_views(images[:8], seed=0)
    model(views)
    assert not rows
    monkeypatch.setattr(packing, "jax_platform", lambda: "tpu")
    monkeypatch.setattr(packing, "TPU_TILE", 8)
    model(views)  # 16 instead of 8 + 16
    assert rows == [2]
    monkeypatch.setattr(packing, "TPU_TILE", 16)
    model(views)  # 16 instead of 16 + 16
    assert rows == [2, 2]
    monkeypatch.setattr(packing, "TPU_TILE", 5)
    model(views)  # 20 instead of 5 + 15
    small_model(block=Block(registers=1))(views)
    assert rows == [2, 2]


@pytest.mark.host
def test_the_setting_is_saved_and_checked(small_model):
    for pack in (None, True, False):
        config = keras.saving.serialize_keras_object(small_model(pack=pack))
        assert keras.saving.deserialize_keras_object(config).pack is pack
    with pytest.raises(ValueError, match="`pack` must be True or False or None. Received: pack='yes'"):
        small_model(pack="yes")
    with pytest.raises(ValueError, match="need the paper's `block`.*Received: pack=True, block=Block"):
        small_model(pack=True, block=Block(rope=True))


@needs_jax
def test_a_step_has_half_as_many_products_of_weights(small_model, images):
    """Those of the network's blocks; embeddings and heads are of each view."""
    import jax

    def num_products(num_layers, pack):
        model = small_model(num_layers=num_layers, decoder_layers=num_layers, pack=pack)
        views, _ = model.make_views(images[:8], seed=0)
        text = str(jax.make_jaxpr(model)(views))
        return text.count("dot_general")

    # Seven products of a block and its attention's two of each image.
    apart, packed = (num_products(3, pack) - num_products(2, pack) for pack in (False, True))
    assert apart == 2 * 2 * (7 + 2)
    assert packed == 7 + 2 * 2 + 7 + 2  # the decoder's images are of one length, and attended to as one batch
