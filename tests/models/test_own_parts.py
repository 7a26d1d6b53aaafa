"""Parts of users that give other shapes than they must are refused: broadcasting would train something else."""

import warnings

import keras
import numpy as np
import pytest
from keras import ops

from keras_umd import UMD, Corruption, Objective, View, callbacks, data
from keras_umd.corruption import masks
from keras_umd.layers import patchify
from keras_umd.models import fit_warnings
from keras_umd.models.fit_inputs import peeked
from keras_umd.objectives import Reconstruction, Term, targets

IMAGES = np.random.default_rng(0).integers(0, 256, (8, 8, 8, 1)).astype("uint8")


def loss_of(corruption=None, objective=None):
    """The loss of a small model of 16 patches with these parts."""
    sizes = {"patch_size": 2, "hidden_dim": 16, "num_layers": 1, "num_heads": 2, "decoder_layers": 1}
    return UMD((8, 8, 1), **sizes, corruption=corruption or Corruption.mae(), objective=objective).loss_of(IMAGES)


class TooFew(masks.Mask):
    def scores(self, draws, grid, hints=None):
        return draws[:, :-3]


class WithoutBatch(masks.Mask):
    def scores(self, draws, grid, hints=None):
        return draws[0]


class Empty(masks.Mask):
    pass


@pytest.mark.host
@pytest.mark.parametrize(
    ("mask", "error", "message"),
    [
        (TooFew, ValueError, r"`scores` of TooFew must give .*\(n, 16\).*Received: scores of shape \(8, 13\)"),
        (WithoutBatch, ValueError, r"`scores` of WithoutBatch .*Received: scores of shape \(16,\)"),
        (Empty, NotImplementedError, r"Empty must define scores\(draws, grid, hints=None\)"),
    ],
)
def test_a_mask_scores_every_patch(mask, error, message):
    with pytest.raises(error, match=message):
        loss_of(Corruption(views=[View("clean", mask=mask(0.5))]))


class Mean(targets.Target):
    """One value for a patch, whatever it has announced."""

    name = "mean"

    def __init__(self, announced):
        self.announced = announced

    def num_values(self, patch_dim):
        return self.announced

    def __call__(self, view, patch_size, teacher=None):
        return ops.mean(patchify(view["x0"], patch_size), axis=-1, keepdims=True)


@pytest.mark.host
def test_a_target_has_as_many_values_as_it_announces():
    """One value would be compared with all three that are predicted."""
    with pytest.raises(
        ValueError, match=r"Mean must return .*`num_values`.*\(n, 12, 1\) for a prediction of \(n, 12, 3\)"
    ):
        loss_of(objective=Objective([Reconstruction("clean", Mean(3))]))
    assert np.isfinite(float(ops.convert_to_numpy(loss_of(objective=Objective([Reconstruction("clean", Mean(1))])))))


class Shaped(Term):
    """A loss of ones, of a shape."""

    def __init__(self, shape):
        super().__init__("clean")
        self.shape = shape

    def image_losses(self, outputs, target):
        return ops.ones(self.shape)


def test_a_term_has_a_loss_for_each_image():
    """A mean over the batch would be divided by its size once more."""
    usual = Objective.denoising(Corruption.mae()).terms
    for shape in ((), (7,), (8, 1)):
        with pytest.raises(
            ValueError, match="`image_losses` must give a loss for each image.*'clean_shaped_loss'.*8 images"
        ):
            loss_of(objective=Objective([*usual, Shaped(shape)]))
    with_ones = loss_of(objective=Objective([*usual, Shaped((8,))]))
    assert float(ops.convert_to_numpy(with_ones)) > 1


@pytest.mark.host
def test_a_run_that_does_not_know_its_data_warns(tmp_path):
    batches, others = (data.from_arrays(IMAGES, batch_size=4) for _ in range(2))
    for dataset in (None, others):
        run = callbacks.standard(tmp_path / "run", dataset=dataset)
        with pytest.warns(UserWarning, match=r"don't know the data set that `fit` gets.*standard\(directory, dataset="):
            fit_warnings.on_place(batches, run)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fit_warnings.on_place(batches, callbacks.standard(tmp_path / "run", dataset=batches))
        fit_warnings.on_place(batches, [])
        fit_warnings.on_place(IMAGES, callbacks.standard(tmp_path / "run"))
        fit_warnings.on_place(batches.repeat(), callbacks.standard(tmp_path / "run"))  # has no place in an epoch


@pytest.mark.host
def test_a_symbolic_image_is_for_the_extractor():
    """What a program computes would be lost in a functional model, and on JAX be an error of its insides."""
    model = UMD((8, 8, 1), patch_size=2, hidden_dim=16, num_layers=1, num_heads=2, decoder_layers=1)
    with pytest.raises(ValueError, match=r"`encode` takes arrays.*`model.feature_extractor\(\)`"):
        model.encode(keras.Input((8, 8, 1)))


@pytest.mark.host
def test_classes_without_labels_warn():
    model = UMD((8, 8, 1), patch_size=2, hidden_dim=16, num_layers=1, num_heads=2, decoder_layers=1, num_classes=3)
    labels = np.zeros(8, int)
    for images in (IMAGES, data.from_arrays(IMAGES, batch_size=8)):
        with pytest.warns(UserWarning, match=r"has 3 classes and the data have no labels.*fit\(images, labels\)"):
            peeked(model, images, None, trained_in=8)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        peeked(model, IMAGES, labels, trained_in=8)
        peeked(model, data.from_arrays(IMAGES, labels, batch_size=8), None, trained_in=8)
        peeked(model, IMAGES, None)  # to evaluate
