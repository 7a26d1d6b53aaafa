"""Errors of what a view changes, against NumPy, and the limits at which they are those of pixels."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_umd import UMD, Corruption, View, methods
from keras_umd.corruption import changes, masks
from keras_umd.layers import patchify
from keras_umd.objectives import (
    Classification,
    Difficulty,
    Objective,
    Position,
    Reconstruction,
    SamplingPolicy,
    Spectrum,
)
from keras_umd.objectives.targets import X0, Bordered, Channels, Pixels
from tests.conftest import array

RNG = np.random.default_rng(0)
SIZES = {"image_shape": (8, 8, 1), "patch_size": 4, "hidden_dim": 32, "num_layers": 1, "num_heads": 2}
SMALL = {**SIZES, "decoder_layers": 1, "seed": 0}


def images(*shape):
    return RNG.uniform(-1, 1, shape).astype("float32")


def loss_of(term, prediction, view, patch_size):
    """The losses of a prediction, an image, as NumPy has it."""
    view = {name: ops.convert_to_tensor(x) for name, x in view.items()}
    patches = patchify(ops.convert_to_tensor(prediction), patch_size)
    if "masked" in view:
        patches = ops.take_along_axis(
            patches, ops.concatenate([view["visible"], view["masked"]], axis=1)[:, :, None], 1
        )
    name = next(iter(term.reads()))
    return array(term.image_losses({name: patches}, term.targets(view, patch_size)))


@pytest.mark.parametrize(("shape", "patch"), [((2, 6, 8, 3), (2, 4)), ((2, 4, 2, 6, 1), (2, 1, 3)), ((2, 12, 2), (4,))])
@pytest.mark.parametrize("gamma", [1.0, 2.0])
def test_the_error_of_a_spectrum_is_numpys(shape, patch, gamma):
    x, prediction = images(*shape), images(*shape)
    space = tuple(range(1, len(shape) - 1))
    removed = RNG.integers(0, 2, shape[:-1]).astype("float32")
    distance = np.abs(np.fft.fftn(prediction - x, axes=space, norm="ortho"))
    own = loss_of(Spectrum("clean", gamma=gamma), prediction, {"x0": x, "removed": removed}, patch)
    expected = [np.mean(distance[i][removed[i] > 0] ** gamma) for i in range(2)]
    np.testing.assert_allclose(own, expected, rtol=1e-4)
    own = loss_of(Spectrum("clean", "all", gamma, focal=True), prediction, {"x0": x}, patch)
    weights = np.log1p(distance) / np.log1p(distance).max(axis=space, keepdims=True)
    np.testing.assert_allclose(own, (weights * distance**gamma).mean(axis=(*space, -1)), rtol=1e-4)


@pytest.mark.host
def test_the_squared_spectrum_is_the_squared_error_of_the_pixels_whatever_the_order_of_patches():
    x, prediction = images(2, 4, 6, 3), images(2, 4, 6, 3)
    order = np.stack([RNG.permutation(6) for _ in range(2)]).astype("int32")
    view = {"x0": x, "visible": order[:, :2], "masked": order[:, 2:]}
    own = loss_of(Spectrum("clean", "all", gamma=2.0), prediction, view, (2, 2))
    np.testing.assert_allclose(own, np.mean((prediction - x) ** 2, axis=(1, 2, 3)), rtol=1e-5)
    same = loss_of(Spectrum("clean", "all"), x, view, (2, 2))
    assert np.all(same < 1e-5)
    with pytest.raises(ValueError, match="needs all patches"):
        Spectrum("clean", "all").targets({**view, "masked": order[:, 3:]}, (2, 2))
    with pytest.raises(ValueError, match=r"needs a view with a `changes.Frequency`"):
        Spectrum("clean").targets({"x0": ops.convert_to_tensor(x)}, (2, 2))


def test_only_changed_patches_count():
    x, prediction = images(2, 4, 6, 1), images(2, 4, 6, 1)
    changed = np.array([[1, 0, 0, 1, 0, 0], [0, 0, 0, 0, 0, 0]], bool)
    squares = ((prediction - x) ** 2).reshape(2, 2, 2, 3, 2).mean(axis=(2, 4)).reshape(2, 6)
    term = Reconstruction("clean", X0(), "changed")
    own = loss_of(term, prediction, {"x0": x, "changed": changed}, (2, 2))
    np.testing.assert_allclose(own, [squares[0, [0, 3]].mean(), 0], rtol=1e-5)
    order = np.array([[3, 1, 0, 2, 5, 4]] * 2, "int32")
    view = {"x0": x, "changed": changed, "visible": order[:, :2], "masked": order[:, 2:]}
    np.testing.assert_allclose(loss_of(term, prediction, view, (2, 2)), own, rtol=1e-5)


@pytest.mark.parametrize(("space", "patch"), [((8, 12), (2, 4)), ((6, 4, 4), (2, 2, 2))])
def test_pixels_at_the_border_of_a_hole_count_more(space, patch):
    x, prediction, width = images(1, *space, 2), images(1, *space, 2), 3
    grid = tuple(n // p for n, p in zip(space, patch, strict=True))
    number = int(np.prod(grid))
    visible = np.array([[0, number - 1]], "int32")
    hidden = np.array([[i for i in range(number) if i not in visible]], "int32")
    is_visible = np.isin(np.arange(number), visible).reshape(grid)
    for axis, size in enumerate(patch):
        is_visible = is_visible.repeat(size, axis)
    pixels = np.argwhere(is_visible)
    near = np.array([np.abs(pixels - at).max(1).min() <= width for at in np.ndindex(*space)]).reshape(space)
    weights = np.where(near, 10.0, 1.0)[None, ..., None] * np.ones_like(x)
    squares, weights = (
        array(patchify(ops.convert_to_tensor(a.astype("float32")), patch))[0, hidden[0]]
        for a in (weights * (prediction - x) ** 2, weights)
    )
    expected = squares.sum() / weights.sum()  # over all that is hidden: whole patches at the border count more, too
    view = {"x0": x, "visible": visible, "masked": hidden}
    term, target = Reconstruction("clean", Bordered(width, 10.0)), Bordered(width, 10.0)
    patches = patchify(ops.convert_to_tensor(prediction), patch)
    patches = ops.take_along_axis(patches, ops.convert_to_tensor(hidden)[:, :, None], 1)
    tensors = {name: ops.convert_to_tensor(value) for name, value in view.items()}
    own = array(term.image_losses({"bordered": patches}, term.targets(tensors, patch)))
    np.testing.assert_allclose(own, [expected], rtol=1e-5)
    plain = Reconstruction("clean", X0())
    without = Reconstruction("clean", Bordered(0))
    np.testing.assert_allclose(
        array(without.image_losses({"bordered": patches}, without.targets(tensors, patch))),
        array(plain.image_losses({"x0": patches}, plain.targets(tensors, patch))),
        rtol=1e-6,
    )
    assert target.num_values(7) == 7
    # What is seen is no border, and behind a mask token nothing is seen.
    flat = {"x0": ops.zeros((1, *space, 2)), "visible": tensors["visible"], "masked": tensors["masked"]}
    _, of_all = np.split(array(target(flat, patch)), 2, axis=-1)
    assert np.ptp(of_all[0, visible[0]]) == 0 and of_all[0, visible[0, 0], 0] < of_all[0, hidden[0]].max()
    everything = np.concatenate([visible, hidden], axis=1)
    in_place = {"x0": flat["x0"], "visible": everything, "hidden": np.arange(number)[None] >= 2}
    in_place = {name: ops.convert_to_tensor(value) for name, value in in_place.items()}
    np.testing.assert_allclose(np.split(array(target(in_place, patch)), 2, axis=-1)[1], of_all, rtol=1e-6)


@pytest.mark.host
def test_hidden_channels_are_a_target_of_their_own():
    x = images(2, 4, 4, 3)
    target = Channels((1, 2), 3)
    assert target.num_values(4 * 3) == 8 and target.name == "channels_1_2"
    values = array(target({"x0": ops.convert_to_tensor(x)}, (2, 2)))
    expected = x.reshape(2, 2, 2, 2, 2, 3).transpose(0, 1, 3, 2, 4, 5)[..., 1:].reshape(2, 4, 8)
    np.testing.assert_array_equal(values, expected)
    with pytest.raises(ValueError, match="channels=3 for images of shape"):
        target({"x0": ops.zeros((1, 4, 4, 1))}, (2, 2))


def expected_of(outputs, kernel, labels):
    logits = array(outputs["clean"]["representation"]) @ kernel
    return np.log(np.exp(logits).sum(1)) - logits[np.arange(len(labels)), labels]


# On JAX, where each operation is compiled: tests/models/test_changed_views.py trains with it.
@pytest.mark.backends("tensorflow", "torch")
def test_labels_train_the_representation_by_their_cross_entropy():
    view = View("clean", mask=masks.Random(0.5), gives_class=True)
    terms = [Reconstruction("clean", X0()), Classification("clean", num_classes=3, hidden_dim=32, weight=0.5)]
    objective = Objective(terms)
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(objective))
    assert again.terms[1].get_config() == terms[1].get_config() and len(again.trainable_variables) == 2
    keras.utils.set_random_seed(0)
    model = UMD(**SMALL, num_classes=3, corruption=Corruption(views=[view]), objective=objective)
    x, y = model.make_views(images(4, 8, 8, 1), np.array([0, 2, 1, 1]), seed=0)
    kernel = RNG.normal(size=(32, 3)).astype("float32")
    terms[1].classifier.kernel.assign(kernel)
    outputs = model(x)
    expected = expected_of(outputs, kernel, [0, 2, 1, 1])
    losses = {name: array(loss) for name, loss in objective.image_losses(outputs, y).items()}
    np.testing.assert_allclose(losses["clean_classification_loss"], expected, rtol=1e-4, atol=1e-5)
    alone = Reconstruction("clean", X0())
    of_pixels = array(alone.image_losses(outputs["clean"], y["clean_x0_loss"]))
    np.testing.assert_allclose(losses["clean_x0_loss"], of_pixels, rtol=1e-6)
    # -1 is no label: those images count 0.
    x, y = model.make_views(images(4, 8, 8, 1), np.array([0, -1, 1, -1]), seed=0)
    losses = array(objective.image_losses(model(x), y)["clean_classification_loss"])
    np.testing.assert_allclose(losses, expected_of(model(x), kernel, [0, 0, 1, 0]) * [1, 0, 1, 0], rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match="needs labels and a view with gives_class=True"):
        model.make_views(images(4, 8, 8, 1), seed=0)
    with pytest.raises(ValueError, match=r"must have the model's sizes, .*'num_classes': 2.* Received: .*: 3"):
        UMD(**SMALL, num_classes=2, corruption=Corruption(views=[view]), objective=objective)


@pytest.mark.host
def test_images_without_a_label_train_and_wrong_labels_are_refused():
    term = Classification("clean", num_classes=3, hidden_dim=32)
    view, terms = View("clean", mask=masks.Random(0.5), gives_class=True), [Reconstruction("clean", X0()), term]
    model = UMD(**SMALL, num_classes=3, corruption=Corruption(views=[view]), objective=Objective(terms))
    kernel = RNG.normal(size=(32, 3)).astype("float32")
    term.classifier.kernel.assign(kernel)
    model.compile("sgd")
    model.fit(images(4, 8, 8, 1), np.array([-1] * 4), verbose=0)
    np.testing.assert_array_equal(array(term.classifier.kernel), kernel)
    for wrong in ([0, -2, 1, 1], [3, 0, 1, 1]):
        with pytest.raises(ValueError, match=r"\[0, 3\), the model's classes, or be -1 for none"):
            model.fit(images(4, 8, 8, 1), np.array(wrong), verbose=0)
    with pytest.raises(ValueError, match=r"\[0, 3\), the model's classes. Received"):
        model.encode(images(1, 8, 8, 1), labels=np.array([-1]))


@pytest.mark.host
def test_by_default_what_is_changed_is_what_counts():
    def terms(**view):
        return Objective.denoising(Corruption(views=[View("clean", **view)])).terms

    assert isinstance(terms(change=changes.Frequency(2.0))[0], Spectrum)
    assert [term.where for term in terms(change=changes.Fill())] == ["changed"]
    assert [term.where for term in terms(change=changes.HideChannels((0,)))] == ["masked"]


@pytest.mark.host
def test_parts_hide_every_patch_as_often():
    grid, draws = (5, 4), RNG.uniform(size=(3, 20)).astype("float32")
    for ratio, parts in ((0.5, 2), (0.75, 4), (0.6, 2), (0.75, 2)):
        own = [masks.Disjoint(masks.Random(ratio), part) for part in range(parts)]
        hidden = [array(mask(ops.convert_to_tensor(draws), grid)[1]) for mask in own]
        np.testing.assert_array_equal(hidden[0], array(masks.Random(ratio)(ops.convert_to_tensor(draws), grid)[1]))
        times = np.stack(
            [np.bincount(np.concatenate([part[row] for part in hidden]), minlength=20) for row in range(3)]
        )
        share = parts * hidden[0].shape[1] / 20
        assert times.min() == np.floor(share) and times.max() == np.ceil(share)
    first, second = ((masks.Disjoint(masks.Random(0.6), part)(ops.convert_to_tensor(draws), grid)) for part in (0, 1))
    shown, hidden = array(first[0]), array(second[1])
    assert all(set(a) <= set(b) for a, b in zip(shown, hidden, strict=True))  # the second hides all that one shows


METHODS = {
    "mfm": {"image_shape": (16, 16, 1)},
    "gmml": {"image_shape": (16, 16, 1)},
    "a2mim": {"image_shape": (16, 16, 1)},
    "split_brain": {"image_shape": (8, 8, 3)},
    "dmjd": {"image_shape": (32, 32, 1), "patch_size": 8},
    "context_encoder": {"image_shape": (16, 16, 1)},
}


@pytest.mark.host
@pytest.mark.parametrize("name", METHODS)
def test_a_step_of_each_method_lowers_its_loss(name):
    keras.utils.set_random_seed(0)
    sizes = {**SMALL, **METHODS[name]}
    model = UMD(**{**sizes, **getattr(methods, name)()})
    model.compile(keras.optimizers.Adam(3e-3), run_eagerly=True)
    batch = RNG.integers(0, 256, (4, *sizes["image_shape"])).astype("uint8")
    losses = [model.train_on_batch(batch) for _ in range(6)]
    assert np.isfinite(losses).all() and losses[-1] < losses[0]
    again = UMD.from_config(model.get_config())
    assert again.objective.loss_names == model.objective.loss_names and repr(again.corruption) == repr(model.corruption)


BESIDE = {
    "spectrum": lambda: Spectrum("clean", "all", weight=0.0),
    "another target": lambda: Reconstruction("clean", Pixels(), "all", weight=0.0),
    "difficulty": lambda: Difficulty("clean", X0(), weight=0.0),
    "position": lambda: Position("clean", (2, 2), 32, weight=0.0),
    "classification": lambda: Classification("clean", 3, 32, weight=0.0),
    "sampling policy": lambda: SamplingPolicy("clean", X0(), weight=0.0, hidden_dim=8, num_heads=2),
}


@pytest.mark.host
def test_a_term_of_weight_0_is_none():
    view = View("clean", mask=masks.Random(0.5), unplaced=0.5, gives_class=True)
    x, labels, weights, found = images(4, 8, 8, 1), np.array([0, 2, 1, 1]), None, {}
    for name, make in {"alone": None, **BESIDE}.items():
        terms = [Reconstruction("clean", X0())] + ([] if make is None else [make()])
        model = UMD(**SMALL, num_classes=3, corruption=Corruption(views=[view]), objective=Objective(terms))
        own = {variable.path: variable for variable in model.network_weights}
        weights = weights or {path: array(variable).copy() for path, variable in own.items()}
        for path, value in weights.items():
            own[path].assign(value)
        model.compile(keras.optimizers.SGD(0.1), run_eagerly=True)
        model.fit(x, labels, batch_size=4, epochs=2, shuffle=False, verbose=0)
        found[name] = {path: array(own[path]).copy() for path in weights}
    for name in BESIDE:
        for path, value in found["alone"].items():
            np.testing.assert_allclose(found[name][path], value, atol=1e-7, err_msg=f"{name}, {path}")
    assert any(np.abs(value - weights[path]).max() > 1e-3 for path, value in found["alone"].items())
