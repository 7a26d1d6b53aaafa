"""What is missing of an image is never seen and never counted."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_umd import Corruption, View
from keras_umd.corruption import masks
from keras_umd.corruption.masks.given import GAPS
from keras_umd.corruption.noise import Gaussian
from keras_umd.objectives import Reconstruction
from keras_umd.objectives.targets import X0
from tests.conftest import array

pytestmark = pytest.mark.usefixtures("op_by_op")

RNG = np.random.default_rng(0)
DRAWS = RNG.uniform(size=(3, 16)).astype("float32")


def split(mask, hints):
    chosen = mask(ops.convert_to_tensor(DRAWS), (4, 4), {name: ops.convert_to_tensor(x) for name, x in hints.items()})
    return [array(indices) for indices in chosen]


def test_missing_patches_are_masked_and_the_others_as_ever():
    missing = np.zeros((3, 16), bool)
    missing[1, :8] = missing[2, 4:16] = True
    mask = masks.Given(masks.Random(0.75))
    visible, masked = split(mask, {GAPS: missing})
    plain = array(masks.Random(0.75)(ops.convert_to_tensor(DRAWS), (4, 4))[0])
    np.testing.assert_array_equal(visible[0], plain[0])
    assert set(visible[1]) == set(8 + np.argsort(DRAWS[1, 8:])[:4])
    assert set(visible[2]) == {0, 1, 2, 3}
    np.testing.assert_array_equal(np.sort(np.concatenate([visible, masked], 1)), np.tile(np.arange(16), (3, 1)))


@pytest.mark.host
def test_no_part_of_disjoint_masks_shows_what_is_missing():
    missing = np.zeros((3, 16), bool)
    missing[:, 3] = missing[1, 8:12] = True
    hidden = []
    for part in (0, 1):
        visible, masked = split(masks.Disjoint(masks.Given(masks.Random(0.5)), part), {GAPS: missing})
        assert not np.any(np.take_along_axis(missing, visible, axis=1))
        hidden.append(masked)
    for row in range(3):  # and what else they hide differs
        assert set(hidden[0][row]) & set(hidden[1][row]) == set(np.flatnonzero(missing[row]))
    mask = masks.Disjoint(masks.Given(masks.Random(0.5)), 1)
    clean, _ = Corruption(views=[View("clean", mask=mask)]).for_finetuning().views
    assert repr(clean.mask) == "Random(ratio=0.5)"


def test_a_score_says_what_stays_visible():
    scores = RNG.permuted(np.tile(np.arange(16.0), (3, 1)), axis=1).astype("float32")
    scores[:, 5] = np.nan
    visible, masked = split(masks.Given(masks.Random(0.75), hint="motion"), {"motion": scores})
    order = np.argsort(scores, axis=1)  # NaN last
    np.testing.assert_array_equal(np.sort(visible), np.sort(order[:, :4]))
    assert np.all(masked[:, -1] == 5)


@pytest.mark.parametrize("where", ["masked", "all"])
def test_missing_patches_do_not_count(where):
    view = {
        "x0": RNG.normal(size=(2, 4, 4, 1)).astype("float32"),
        "visible": np.array([[2], [0]]),
        "masked": np.array([[0, 3, 1], [1, 2, 3]]),
        "missing": np.array([[True, False, False, False], [True] * 4]),
    }
    term = Reconstruction("clean", X0(), where=where)
    target = term.targets({name: ops.convert_to_tensor(x) for name, x in view.items()}, (2, 2))
    order = view["masked"] if where == "masked" else np.concatenate([view["visible"], view["masked"]], axis=1)
    patches = view["x0"].reshape(2, 2, 2, 2, 2).transpose(0, 1, 3, 2, 4).reshape(2, 4, 4)
    prediction = RNG.normal(size=(2, order.shape[1], 4)).astype("float32")
    errors = ((prediction - np.take_along_axis(patches, order[:, :, None], axis=1)) ** 2).mean(-1)
    expected = [errors[0][order[0] != 0].mean(), 0.0]
    np.testing.assert_allclose(array(term.image_losses({"x0": prediction}, target)), expected, rtol=1e-5)


def test_no_gap_reaches_the_network():
    images = RNG.uniform(-1, 1, (4, 4, 8, 2)).astype("float32")
    images[:, 2, 5, 1] = images[1, 0, 0, 0] = np.nan
    mask = masks.Given(masks.Random(0.5))
    corruption = Corruption(views=[View("clean", None, mask, 0.5), View("noisy", Gaussian(), mask, 0.5, 0.5)])
    views = corruption.corrupt(ops.convert_to_tensor(images), corruption.draw(images.shape, 2, seed=0), 2)
    gaps = np.any(np.isnan(images).reshape(4, 2, 2, 4, 2, 2), axis=(2, 4, 5)).reshape(4, 8)
    for name, rows in (("clean", [1, 3]), ("noisy", [0, 2])):
        view = {key: array(x) for key, x in views[name].items() if key != "level"}
        assert all(np.all(np.isfinite(x)) for x in view.values())
        np.testing.assert_array_equal(view["missing"], gaps[rows])
        assert not np.any(np.take_along_axis(gaps[rows], view["visible"], axis=1))


@pytest.mark.host
def test_a_model_trains_on_images_with_gaps(small_model, images):
    mask = masks.Given(masks.Random(0.5))
    model = small_model(corruption=Corruption(views=[View("clean", mask=mask, decoded_ratio=0.5)]))
    scaled = (images[:8] / 127.5 - 1).astype("float32")
    scaled[::2, 0, 0] = scaled[1::2, 5, 3] = np.nan
    draws = model.corruption.draw(scaled.shape, 2, seed=0)
    losses = []
    for value in (-0.5, 0.5):  # of known pixels in patches that are seen in part
        scaled[::2, 1, 0], scaled[1::2, 4, 3] = value, value
        x, y = model.make_views(scaled, draws=draws)
        assert all(np.all(np.isfinite(array(tensor))) for tensor in keras.tree.flatten(x))
        losses.append(float(array(model.compute_loss(x, y, model(x)))))
    assert losses[0] == losses[1] and np.isfinite(losses[0])
    model.compile("sgd")
    history = model.fit(scaled, batch_size=4, validation_data=(scaled,), verbose=0).history
    assert np.isfinite(history["loss"][0]) and np.isfinite(history["val_loss"][0])
    with pytest.raises(ValueError, match="must be finite"):
        model.fit(np.where(np.isnan(scaled), np.inf, scaled), verbose=0)
    with pytest.raises(ValueError, match="must be finite"):
        model.encode(scaled)


@pytest.mark.host
def test_settings_of_a_given_mask():
    with pytest.raises(ValueError, match="must mask what is missing"):
        Corruption(views=[View("clean", mask=masks.Given()), View("other", mask=masks.Random())])
    with pytest.raises(ValueError, match="reads NaN in images"):
        masks.Given()(ops.convert_to_tensor(DRAWS), (4, 4))
    with pytest.raises(ValueError, match=r"the hint 'motion'.*\['gaps'\]"):
        masks.Given(hint="motion")(ops.convert_to_tensor(DRAWS), (4, 4), {GAPS: None})
    with pytest.raises(ValueError, match="mask='random'"):
        masks.Given("random")
    clean, _ = Corruption(views=[View("clean", mask=masks.Given(masks.Random(0.5)))]).for_finetuning().views
    assert repr(clean.mask) == "Random(ratio=0.5)"  # noisy images are seen whole
    config = keras.saving.serialize_keras_object(masks.Given(masks.Random(0.5), "motion"))
    assert repr(keras.saving.deserialize_keras_object(config)) == "Given(mask=Random(ratio=0.5), hint='motion')"
