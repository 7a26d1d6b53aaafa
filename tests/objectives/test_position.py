"""Patches without their place: the encoder can't know it, and a term asks for it."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_umd import UMD, Corruption, View
from keras_umd.corruption import masks
from keras_umd.objectives import Objective, Position, Reconstruction
from keras_umd.objectives.targets import X0
from tests.conftest import array

pytestmark = pytest.mark.usefixtures("op_by_op")

RNG = np.random.default_rng(0)
SIZES = {"image_shape": (8, 12, 1), "patch_size": 4, "hidden_dim": 16, "num_layers": 1, "num_heads": 2}
SMALL = {**SIZES, "decoder_layers": 1, "conditioning": "token", "seed": 0}
GRID = (2, 3)


def model_of(unplaced=0.5, mask=None, **view):
    keras.utils.set_random_seed(0)
    views = [View("clean", mask=mask, unplaced=unplaced, **view)]
    terms = [Reconstruction("clean", X0()), Position("clean", GRID, 16, weight=0.05)]
    return UMD(**SMALL, corruption=Corruption(views=views), objective=Objective(terms))


def images(n=3):
    return RNG.uniform(-1, 1, (n, 8, 12, 1)).astype("float32")


@pytest.mark.parametrize("smooth", [0.0, 1.5, pytest.param(1e-200, marks=pytest.mark.host)])  # whose square is 0
def test_the_error_is_the_cross_entropy_of_places(smooth):
    term = Position("clean", GRID, hidden_dim=4, smooth=smooth)
    tokens, kernel = RNG.normal(size=(2, 4, 4)).astype("float32"), RNG.normal(size=(4, 6)).astype("float32")
    term.classifier.kernel.assign(kernel)
    visible = np.array([[5, 0, 3, 2], [1, 2, 4, 0]], "int32")
    unplaced = np.array([[1, 0, 1, 0], [0, 0, 0, 0]], bool)
    view = {"visible": ops.convert_to_tensor(visible), "unplaced": ops.convert_to_tensor(unplaced)}
    own = array(term.image_losses({"tokens": ops.convert_to_tensor(tokens)}, term.targets(view, (4, 4))))
    logits = tokens @ kernel
    logs = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    expected = 0.0
    for at in (0, 2):
        place = divmod(visible[0, at], 3)
        squares = np.array([(place[0] - i // 3) ** 2 + (place[1] - i % 3) ** 2 for i in range(6)])
        right = np.exp(-squares / smooth**2) if smooth > 1 else (squares == 0).astype(float)
        expected -= (right / right.sum() * logs[0, at]).sum() / 2
    np.testing.assert_allclose(own, [expected, 0], rtol=1e-4, atol=1e-6)
    term.classifier.kernel.assign(np.zeros((4, 6)))  # knows nothing
    own = array(term.image_losses({"tokens": ops.convert_to_tensor(tokens)}, term.targets(view, (4, 4))))
    np.testing.assert_allclose(own[0], np.log(6), rtol=1e-5)


def test_the_smoothing_falls_with_the_steps_of_training():
    options = {"grid": GRID, "hidden_dim": 4}
    falling = Position("clean", **options, smooth=(2.0, 0.0), steps=4)
    kernel = RNG.normal(size=(4, 6)).astype("float32")
    outputs = {"tokens": ops.convert_to_tensor(RNG.normal(size=(2, 6, 4)).astype("float32"))}
    target = falling.targets({"unplaced": ops.ones((2, 6), "bool")}, (4, 4))
    for smooth in (2.0, 1.5, 1.0, 0.5, 0.0, 0.0):
        constant = Position("clean", **options, smooth=smooth)
        for term in (falling, constant):
            term.classifier.kernel.assign(kernel)
        own, expected = (array(term.image_losses(outputs, target)) for term in (falling, constant))
        np.testing.assert_allclose(own, expected, rtol=1e-6)
        falling.observe(own, target)
    again = Position.from_config(falling.get_config())
    assert again.smooth == (2.0, 0.0) and again.steps == 4 and not constant.non_trainable_variables
    for wrong in ({"smooth": (1.0, 0.0)}, {"smooth": 1.0, "steps": 4}, {"smooth": (1.0,), "steps": 4}):
        with pytest.raises(ValueError, match="`steps` are for a pair|must be a number or a pair"):
            Position("clean", **options, **wrong)


@pytest.mark.host
def test_a_training_step_counts_for_the_smoothing():
    views, terms = [View("clean", unplaced=0.5)], [Position("clean", GRID, 16, smooth=(1.0, 0.0), steps=2)]
    model = UMD(**SMALL, corruption=Corruption(views=views), objective=Objective(terms))
    model.compile("sgd")
    model.fit(images(4), batch_size=2, epochs=1, verbose=0)
    model.evaluate(images(2), batch_size=2, verbose=0)
    assert float(array(terms[0].num_steps)) == 2.0  # of training, none of evaluation


@pytest.mark.host
@pytest.mark.parametrize("mask", [None, masks.Random(1 / 3)], ids=["whole", "masked"])
def test_the_place_of_an_unplaced_patch_is_not_seen(mask):
    model = model_of(mask=mask)
    inputs, _ = model.make_views(images(), seed=0)
    view = inputs["views"]["clean"]
    unplaced = array(view["unplaced"])
    number = 6 if mask is None else 4
    assert unplaced.shape == (3, number) and (unplaced.sum(1) == number // 2).all()
    before = array(model.encoder.position_embedding.positions.value).copy()
    places = array(view["visible"])[0] if mask else np.arange(6)

    def tokens(place):
        changed = before.copy()
        changed[place, 0] += 1.0  # not of all numbers alike, which a norm takes away
        model.encoder.position_embedding.positions.assign(changed)
        return array(model(inputs)["clean"]["tokens"])[0]

    model.encoder.position_embedding.positions.assign(before)
    own = array(model(inputs)["clean"]["tokens"])[0]
    hidden, told = places[unplaced[0]][0], places[~unplaced[0]][0]
    np.testing.assert_array_equal(tokens(hidden), own)
    assert np.abs(tokens(told) - own).max() > 1e-3


@pytest.mark.host
def test_a_model_learns_places_and_without_them_is_as_before(tmp_path):
    model = model_of(mask=masks.Random(1 / 3))
    model.compile(keras.optimizers.Adam(1e-2), run_eagerly=True)
    x = images(2)
    losses = [model.train_on_batch(x, return_dict=True)["clean_position_loss"] for _ in range(5)]
    assert float(losses[-1]) < float(losses[0])
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(array(again.encode(x)), array(model.encode(x)))
    np.testing.assert_array_equal(array(model.feature_extractor()(x)), array(model.encode(x)))
    assert "unplaced" not in View("clean").get_config()
    with pytest.raises(ValueError, match="needs a view with `unplaced` patches"):
        Position("clean", GRID, 16).targets({"x0": x}, (4, 4))
    for grid, hidden_dim, message in (((3, 3), 16, r"must be the model's, \(2, 3\)"), (GRID, 8, "'hidden_dim': 16")):
        views, wrong = [View("clean", unplaced=0.5)], Position("clean", grid, hidden_dim)
        with pytest.raises(ValueError, match=message):
            UMD(**SMALL, corruption=Corruption(views=views), objective=Objective([wrong]))
    with pytest.raises(ValueError, match="for clean views"):
        View("noisy", noise=Corruption.dit().views[0].noise, unplaced=0.5)
