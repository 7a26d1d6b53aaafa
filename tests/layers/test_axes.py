"""One to four space axes."""

import itertools
import math

import keras
import numpy as np
import pytest

from keras_umd.layers import PatchEmbedding, PatchHead, PositionEmbedding, patchify, unpatchify
from keras_umd.layers.patches import as_tuple, patch_grid
from keras_umd.models.condition import ConditionEmbedding
from keras_umd.models.decoders import Decoder
from keras_umd.models.encoder import Encoder
from keras_umd.models.feature_extractor import FeatureExtractor
from tests.conftest import array, trained_like

RNG = np.random.default_rng(0)
PATCHES = {1: (3,), 2: (2, 3), 3: (1, 2, 3), 4: (2, 1, 3, 2)}
GRIDS = {1: (4,), 2: (3, 2), 3: (2, 3, 2), 4: (1, 2, 2, 3)}


def data(grid, patch_size, channels=2, batch=2):
    space = [count * size for count, size in zip(grid, patch_size, strict=True)]
    return RNG.normal(size=(batch, *space, channels)).astype("float32")


@pytest.mark.parametrize("num_axes", PATCHES)
def test_patches_are_windows_in_row_major_order(num_axes):
    grid, patch_size = GRIDS[num_axes], PATCHES[num_axes]
    x = data(grid, patch_size)
    patches = array(patchify(x, patch_size))
    assert patches.shape == (2, math.prod(grid), math.prod(patch_size) * 2)
    for i, place in enumerate(itertools.product(*map(range, grid))):
        window = tuple(slice(p * size, (p + 1) * size) for p, size in zip(place, patch_size, strict=True))
        np.testing.assert_array_equal(patches[:, i], x[:, *window].reshape(2, -1))
    np.testing.assert_array_equal(array(unpatchify(patches, patch_size, grid)), x)


class Network:
    """Encoder and decoder with random weights: patches of half of the data seen, the others predicted."""

    def __init__(self, grid, patch_size):
        keras.utils.set_random_seed(0)
        sizes = {"num_layers": 2, "num_heads": 2}
        self.encoder = Encoder(patch_size, 8, **sizes)
        self.encoder.build((None, *(count * size for count, size in zip(grid, patch_size, strict=True)), 2))
        self.decoder = Decoder(patch_size, grid, 2, **sizes, pixel_predictions=("pixels",), heads={"other": 3})
        self.decoder.build((None, 8), (None, None, 8))
        for part in (self.encoder, self.decoder):
            trained_like(part)

    def __call__(self, x, visible=None, masked=None):
        condition = np.linspace(-1, 1, 8, dtype="float32")[None]
        representation, tokens = self.encoder(x, condition=condition, visible=visible)
        read = {"pixels": "all", "other": "all"}
        outputs = self.decoder(representation, tokens, condition, visible=visible, masked=masked, read=read)
        return [array(value) for value in (representation, tokens, *outputs.values())]


ORDER = np.array([[5, 0, 3, 2, 1, 4], [1, 4, 0, 5, 2, 3]])


@pytest.mark.backends("torch")  # which runs as tests can look at it; compiled programs, below, round in other places
@pytest.mark.parametrize("patches", [{}, {"visible": ORDER[:, :3], "masked": ORDER[:, 3:]}])
@pytest.mark.parametrize(
    ("grid", "patch_size", "axis"),
    [((1, 3, 2), (1, 2, 3), 1), ((6,), (4,), 2)],
)
def test_an_axis_of_size_one_changes_nothing(grid, patch_size, axis, patches):
    """A video of one frame is an image, and a signal an image of width one: bit for bit."""
    x = data(grid, patch_size)
    if len(grid) == 3:
        flat, image = Network(grid[1:], patch_size[1:]), x[:, 0]
    else:
        flat, image = Network((*grid, 1), (*patch_size, 1)), x[:, :, None]
    other = Network(grid, patch_size)
    for ours, theirs in zip(flat(image, **patches), other(x, **patches), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_an_axis_of_size_one_changes_nothing_compiled():
    x = data((1, 3, 2), (1, 2, 3))
    flat, other = Network((3, 2), (2, 3)), Network((1, 3, 2), (1, 2, 3))
    outputs = []
    for network, images in ((flat, x[:, 0]), (other, x)):
        inputs = keras.Input(images.shape[1:]), keras.Input((8,))
        representation, tokens = network.encoder(*inputs)
        outputs_of = network.decoder(representation, tokens, condition=inputs[1])
        model = keras.Model(inputs, [representation, *outputs_of.values()])
        outputs.append(model.predict([images, np.ones((2, 8), "float32")], verbose=0))
    for ours, theirs in zip(*outputs, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=1e-6)


@pytest.mark.host
def test_permuting_the_axes_of_data_patches_and_tables_permutes_the_output():
    grid, patch_size, order = (2, 3, 4), (1, 2, 3), (2, 0, 1)
    x = data(grid, patch_size)
    turned_grid, turned_size = ([sizes[i] for i in order] for sizes in (grid, patch_size))
    plain, turned = Network(grid, patch_size), Network(turned_grid, turned_size)

    def turn(table, first, sizes):
        """Turn the axis `first`, which runs over a grid or a patch of these sizes."""
        whole = table.reshape(*table.shape[:first], *sizes, *table.shape[first + 1 :])
        axes = [*range(first), *(first + i for i in order), *range(first + 3, whole.ndim)]
        return whole.transpose(axes).reshape(table.shape)

    for part, other in ((plain.encoder, turned.encoder), (plain.decoder, turned.decoder)):
        other.set_weights(part.get_weights())
        other.position_embedding.positions.assign(turn(array(part.position_embedding.positions), 0, grid))
    kernel = array(plain.encoder.patch_embedding.projection.kernel).reshape(6, 2, 8)
    turned.encoder.patch_embedding.projection.kernel.assign(turn(kernel, 0, patch_size).reshape(12, 8))
    kernel = array(plain.decoder.head.projection.kernel).reshape(8, 6, 2)
    turned.decoder.head.projection.kernel.assign(turn(kernel, 1, patch_size).reshape(8, 12))

    representation, tokens, pixels, other = plain(x)
    turned_x = x.transpose(0, *(1 + i for i in order), 4)
    turned_outputs = turned(turned_x)
    np.testing.assert_allclose(turned_outputs[0], representation, atol=1e-5)
    np.testing.assert_allclose(turned_outputs[1], turn(tokens, 1, grid), atol=1e-5)
    np.testing.assert_allclose(turned_outputs[3], turn(other, 1, grid), atol=1e-5)
    image = array(unpatchify(pixels, patch_size, grid)).transpose(0, *(1 + i for i in order), 4)
    np.testing.assert_allclose(array(unpatchify(turned_outputs[2], turned_size, turned_grid)), image, atol=1e-5)


EXTREMES = (1, 4)


@pytest.mark.parametrize(
    "num_axes", [n if n in EXTREMES else pytest.param(n, marks=pytest.mark.backends("torch")) for n in PATCHES]
)
def test_layers_take_any_number_of_axes(num_axes):
    grid, patch_size = GRIDS[num_axes], PATCHES[num_axes]
    x = data(grid, patch_size)
    num_patches = math.prod(grid)
    embedding = PatchEmbedding(patch_size, 8)
    tokens = embedding(x)
    assert tuple(tokens.shape) == (2, num_patches, 8) == embedding.compute_output_shape(x.shape)
    np.testing.assert_array_equal(array(embedding.embed(patchify(x, patch_size))), array(tokens))
    assert tuple(PositionEmbedding(grid)(tokens).shape) == (2, num_patches, 8)
    assert tuple(PatchHead(patch_size, 3)(tokens).shape) == (2, num_patches, 3 * math.prod(patch_size))
    network = Network(grid, patch_size)
    shapes = [(2, 8), (2, num_patches, 8), (2, num_patches, 2 * math.prod(patch_size))]
    assert [output.shape for output in network(x)[:3]] == shapes
    extractor = FeatureExtractor(
        x.shape[1:], patch_size, hidden_dim=8, num_layers=1, num_heads=2, value_range=None, pooling=None
    )
    assert tuple(extractor(x).shape) == (2, num_patches, 8)


def test_an_integer_stands_for_all_axes():
    assert as_tuple(4, 3) == (4, 4, 4)
    assert patch_grid((8, 12, 16, 3), 4) == (2, 3, 4)
    assert tuple(PatchEmbedding(2, 8)(np.zeros((1, 4, 4, 6, 2), "float32")).shape) == (1, 12, 8)
    assert PatchHead(2, 3).patch_size == (2, 2)


@pytest.mark.parametrize("num_axes", [1, 2, 3])
def test_interpolated_positions_keep_what_is_constant_and_equal_one_axis_at_a_time(num_axes):
    grid, new = (4, 3, 5)[:num_axes], (6, 5, 7)[:num_axes]
    layer = PositionEmbedding(grid)
    layer.build((None, None, 2))
    layer.positions.assign(np.ones(layer.positions.shape))
    np.testing.assert_allclose(layer.interpolated(new), 1, atol=1e-5)
    table = RNG.normal(size=(*grid, 2)).astype("float32")
    layer.positions.assign(table.reshape(-1, 2))
    expected = table
    for axis, (old, size) in enumerate(zip(grid, new, strict=True)):
        line = PositionEmbedding((old,))
        moved = np.moveaxis(expected, axis, 0)
        rows = line.interpolated((size,), moved.reshape(old, -1))
        expected = np.moveaxis(rows.reshape(size, *moved.shape[1:]), 0, axis)
    np.testing.assert_allclose(layer.interpolated(new), expected.reshape(-1, 2), atol=1e-5)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: PositionEmbedding(16), r"\(n,\) for a sequence.*grid=16"),
        (lambda: PositionEmbedding((4, 4))(np.zeros((2, 15, 8), "float32")), r"16 patches.*\(2, 15, 8\)"),
        (lambda: as_tuple((2, 2), 3), r"tuple of 3.*patch_size=\(2, 2\)"),
        (lambda: as_tuple((1, 1, 1, 1, 1)), "1 to 4"),
        (lambda: PatchEmbedding((2, 2), 8)(np.zeros((1, 2, 4, 4, 3), "float32")), r"shape \(1, 2, 4, 4, 3\)"),
        (lambda: patch_grid((None, 4, 3), 2), r"image_shape=\(None, 4, 3\)"),
    ],
)
def test_wrong_shapes_are_named(make, message):
    with pytest.raises(ValueError, match=f"(?s){message}"):
        make()


def test_the_condition_has_the_shape_that_it_says():
    layer = ConditionEmbedding(8, num_classes=3)
    timesteps, labels = np.array([5]), np.array([0, 1, 2])
    condition = layer(timesteps, labels=labels)
    assert layer.compute_output_shape((1,), (3,)) == tuple(condition.shape) == (3, 8)
