"""The teacher: a moving average that looks at images before a step, and what it reads."""

import keras
import numpy as np
import pytest

from keras_umd import Corruption, Objective, Teacher, View
from keras_umd.backend.gradients import value_and_gradients
from keras_umd.corruption import masks
from keras_umd.layers import Block
from keras_umd.layers.rotary import grid_positions, rotate, rotation, take_positions
from keras_umd.models import teacher as teaching
from keras_umd.objectives import Difficulty, Reconstruction
from keras_umd.objectives.targets import X0
from tests.conftest import QUICK, QUICK_STEP, array, trained_like


def looking(mask, terms=(), **settings):
    objective = Objective([Reconstruction("clean", X0()), *terms])
    return {"corruption": Corruption(views=[View("clean", mask=mask)]), "objective": objective, **settings}


def hard(share, weight=1.0, **settings):
    return looking(masks.HardPatches(0.75, share), [Difficulty("clean", X0(), weight=weight)], teacher=Teacher(0.5))


def test_it_is_the_average_of_the_weights_and_is_saved(small_model, images, tmp_path):
    model = small_model(**looking(masks.Attention(0.75), teacher=Teacher(0.5)))
    model.compile(**QUICK_STEP)
    weights = []
    for _ in range(3):
        model.fit(images[:8], batch_size=8, verbose=0)
        weights.append([array(variable) for variable in model.network_weights])
    expected = [0.5 * (0.5 * a + 0.5 * b) + 0.5 * c for a, b, c in zip(*weights, strict=True)]
    (average,) = model.teacher_averages
    for actual, value in zip(average.averages, expected, strict=True):
        np.testing.assert_allclose(array(actual), value, atol=1e-6)
    assert not average.trainable_variables and average not in model.averages
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    for actual, value in zip(loaded.teacher_averages[0].averages, expected, strict=True):
        np.testing.assert_allclose(array(actual), value, atol=1e-6)
    losses = [m.fit(images[8:16], batch_size=8, verbose=0).history["loss"] for m in (model, loaded)]
    np.testing.assert_allclose(*losses, rtol=1e-5)


@pytest.mark.host
def test_its_decay_rises_along_half_a_cosine():
    teacher = Teacher(0.9, final_decay=1.0, steps=10)
    actual = [float(array(teacher.newest_weight(keras.ops.convert_to_tensor(float(n))))) for n in (1, 5, 10, 20)]
    np.testing.assert_allclose(actual, [1.0, 0.05, 0.0, 0.0], atol=1e-6)
    with pytest.raises(ValueError, match="`final_decay` and `steps` need each other"):
        Teacher(final_decay=1.0)


@pytest.mark.parametrize("block", [Block(), Block(rope=True, qk_norm=True)], ids=["paper", "rotated"])
def test_attention_is_the_softmax_of_the_class_tokens_queries(block, small_model, images):
    settings = {"block": block, "hidden_dim": 24, "num_layers": 2, "num_cls_tokens": 2}
    model = trained_like(small_model(**looking(masks.Attention(0.75), teacher=Teacher()), **settings))
    x0 = model.prepare_images(images[:3])
    seen = array(teaching.look(model, x0, ["attention"])["attention"])
    inner, kept = model.encoder.blocks[-1].attention, {}

    def remember(tokens, **given):  # what the last block's attention gets
        kept["tokens"] = array(tokens)
        return call(tokens, **given)

    call, inner.call = inner.call, remember
    condition = model.condition(keras.ops.zeros((1,), "int32"))
    model.encoder(x0, condition=condition)
    query, key = (
        (kept["tokens"] @ array(layer.kernel) + array(layer.bias)).reshape(3, -1, 2, 12)
        for layer in (inner.query, inner.key)
    )
    if block.qk_norm:
        norms = (inner.query_norm, inner.key_norm)
        query, key = (array(norm(x.astype("float32"))) for norm, x in zip(norms, (query, key), strict=True))
        key = _rotated(key, model.grid, block.rope_theta)
    logits = np.einsum("bqhd,bkhd->bhqk", query[:, :2], key) / np.sqrt(12)
    weights = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    np.testing.assert_allclose(seen, weights.mean((1, 2))[:, 2:], atol=1e-5)
    assert (seen.sum(1) < 1).all()


def _rotated(key, grid, theta):
    places = take_positions(grid_positions(grid))
    tables = rotation(places, key.shape[1], key.shape[-1], theta)
    return array(rotate(keras.ops.convert_to_tensor(key), *tables))


def test_the_order_of_errors_is_learned_without_a_gradient_of_the_errors():
    term = Difficulty("clean", X0())
    rng = np.random.default_rng(0)
    prediction, target = rng.normal(size=(2, 3, 5, 4)).astype("float32")
    difficulty = rng.normal(size=(3, 5, 1)).astype("float32")
    outputs = {"x0": keras.ops.convert_to_tensor(prediction), "difficulty": keras.ops.convert_to_tensor(difficulty)}
    losses = array(term.image_losses(outputs, keras.ops.convert_to_tensor(target)))
    errors = ((prediction - target) ** 2).mean(-1)
    for row in range(3):
        pairs = [(i, j) for i in range(5) for j in range(5) if errors[row, i] > errors[row, j]]
        costs = [np.log1p(np.exp(difficulty[row, j, 0] - difficulty[row, i, 0])) for i, j in pairs]
        np.testing.assert_allclose(losses[row], np.mean(costs), rtol=1e-5)
    # A map that keeps their order: of a prediction that is twice as far off.
    farther = keras.ops.convert_to_tensor(2 * prediction - target)
    again = array(term.image_losses({**outputs, "x0": farther}, keras.ops.convert_to_tensor(target)))
    np.testing.assert_allclose(again, losses, rtol=1e-6)
    predicted, hard = (keras.Variable(x, dtype="float32") for x in (prediction, difficulty))

    def loss():
        found = {"x0": predicted.value, "difficulty": hard.value}
        return keras.ops.sum(term.image_losses(found, keras.ops.convert_to_tensor(target))) + 0.0 * keras.ops.sum(
            found["x0"]
        )

    _, (of_prediction, of_difficulty) = value_and_gradients(loss, [predicted, hard])
    assert not np.any(array(of_prediction)) and np.all(np.abs(array(of_difficulty)).sum((1, 2)) > 1e-3)


def test_with_no_hard_patches_it_is_the_masked_autoencoder(small_model, images):
    weights = {variable.path: array(variable) for variable in small_model(**hard(0.5)).network_weights}

    def history(**settings):
        model = small_model(**settings)
        for variable in model.network_weights:
            variable.assign(weights[variable.path])
        model.compile("sgd", **QUICK)
        return model.fit(images[:8], batch_size=8, epochs=2, verbose=0).history["clean_x0_loss"]

    plain = history(**looking(masks.Random(0.75)))
    np.testing.assert_allclose(history(**hard(0.0, weight=0.0)), plain, rtol=1e-5)
    assert np.abs(np.subtract(history(**hard(1.0)), plain)).max() > 1e-5


@pytest.mark.host
def test_what_masks_read_must_be_given(small_model):
    with pytest.raises(ValueError, match=r"need `teacher=Teacher\(\)`.*\['attention'\]"):
        small_model(**looking(masks.Attention()))
    with pytest.raises(ValueError, match=r"a term Difficulty in the `objective`.*\['difficulty'\]"):
        small_model(**looking(masks.HardPatches(), teacher=Teacher()))
    with pytest.raises(ValueError, match="teacher=0.99"):
        small_model(teacher=0.99)
    blind = {"teacher": Teacher(), "num_cls_tokens": 0, "block": Block(cls_to_decoder="none")}
    with pytest.raises(ValueError, match="Without class tokens there is nothing that looks.*num_cls_tokens=0"):
        small_model(**looking(masks.Attention()), **blind).make_views(np.zeros((2, 8, 8, 1), "uint8"))
    model = small_model(**looking(masks.Given(masks.Attention(0.75)), teacher=Teacher()))
    x, _ = model.make_views(np.zeros((2, 8, 8, 1), "uint8"), seed=0)
    assert x["views"]["clean"]["masked"].shape == (2, 12)


@pytest.mark.host
def test_fine_tuning_asks_no_teacher(small_model, images):
    model = small_model(**hard(0.5), num_classes=3)
    with pytest.warns(UserWarning, match="difficulty_head"):
        finetuned = model.with_classes(3)
    assert finetuned.teacher is None and not finetuned.teacher_averages
    assert [repr(view.mask) for view in finetuned.corruption.views] == ["Random(ratio=0.75)", "None"]
    assert finetuned.make_views(images[:4], seed=0)
