"""What must hold of every mask, as one table; each is compiled once, and compared with its definition in NumPy."""

import math

import keras
import numpy as np
import pytest
from keras import ops

from keras_umd.backend import compile_function
from keras_umd.corruption import masks
from tests.conftest import array

# Grids of two and three axes, with the share of their patches that is masked: a quarter stays visible, one patch stays,
# and all but one.
CASES = {(4, 6): 0.75, (2, 3, 4): 1 - 1 / 24, (5, 3): 1 / 15}
ROWS = 5


def uniform(*shape, seed=0):
    return np.random.default_rng(seed).uniform(size=shape).astype("float32")


def places(grid):
    return list(np.ndindex(*grid))


def of_block(mask, draws, grid):
    """The loop of BEiT, image by image, with its numbers given."""
    n, axes, f32 = math.prod(grid), len(grid), np.float32
    classes = np.zeros((len(draws), n))
    low, high = np.log(mask.aspect).astype("float32")
    for row, numbers in enumerate(draws[:, n:].reshape(len(draws), mask.attempts, 2 * axes)):
        hidden = np.zeros(grid, bool)
        for number in numbers:
            left = n - mask.num_visible(grid) - hidden.sum()
            area = max(f32(mask.min_patches) + number[0] * f32(left - mask.min_patches), f32(0))
            logs = np.array([*(low + number[1:axes] * (high - low)), 0], "float32")
            sides = np.round(area ** f32(1 / axes) * np.exp(logs - logs.mean(dtype="float32")))
            start = np.floor(number[axes:] * (np.array(grid, "float32") - sides + 1)).astype(int)
            box = np.zeros(grid, bool)
            box[tuple(slice(max(a, 0), a + int(s)) for a, s in zip(start, sides, strict=True))] = True
            new = box & ~hidden
            if np.all(sides <= grid) and 0 < new.sum() <= left:
                hidden |= new
        classes[row] = hidden.reshape(-1)
    return classes


def of_inverse_block(mask, draws, grid):
    """Squares around centres, cut at the border or going on at the other side."""
    n = math.prod(grid)
    hidden = np.ones((len(draws), *grid))
    for row, centers in enumerate(draws[:, n:].reshape(len(draws), -1, len(grid))):
        for center in np.floor(centers * np.array(grid, "float32")).astype(int):
            for offset in np.ndindex(*[mask.size] * len(grid)):
                place = center + offset - mask.size // 2
                if mask.wrap or np.all((place >= 0) & (place < grid)):
                    hidden[(row, *(place % grid))] = 0
    return hidden.reshape(len(draws), n)


def of_coarse(mask, draws, grid):
    unit, ranks = mask.unit, draws[:, math.prod(grid) :].argsort(1).argsort(1)
    cells = list(np.ndindex(*(-(-size // unit) for size in grid)))
    return np.stack([ranks[:, cells.index(tuple(i // unit for i in at))] for at in places(grid)], axis=1)


def of_shared(mask, draws, grid):
    n = math.prod(grid)
    return np.tile(draws[:, n:].argsort(1).argsort(1), grid[0])


def of_product(mask, draws, grid):
    hidden, start = np.zeros((len(draws), *grid)), math.prod(grid)
    for axis, size in enumerate(grid):
        visible = int(size * (1 - mask.ratios[axis]) + 1e-9)
        for row, numbers in enumerate(draws[:, start : start + size]):
            hidden[row].swapaxes(0, axis)[np.argsort(numbers)[visible:]] = 1
        start += size
    return hidden.reshape(len(draws), -1)


def of_center(mask, draws, grid):
    sides = [round(size * mask.ratio ** (1 / len(grid))) for size in grid]
    start = [-(-(size - side) // 2) for size, side in zip(grid, sides, strict=True)]
    inside = [all(s <= i < s + side for i, s, side in zip(at, start, sides, strict=True)) for at in places(grid)]
    return np.tile(np.array(inside, float), (len(draws), 1))


def of_disjoint(mask, draws, grid):
    """The order of the other mask, on by as many places as it masks."""
    n = math.prod(grid)
    return (draws.argsort(1).argsort(1) + mask.part * (n - mask.num_visible(grid))) % n


def product(ratio, axes):
    return masks.Product((min(1 - (1 - ratio) ** (1 / axes), 0.5),) * axes)  # one place of two stays


# What makes it from a ratio and the number of axes, and its definition: classes of patches, the highest masked first,
# and within a class those with the highest of the first numbers.
TABLE = {
    "Random": (lambda ratio, axes: masks.Random(ratio), lambda mask, draws, grid: np.zeros((len(draws), 1))),
    "Block": (lambda ratio, axes: masks.Block(ratio, min_patches=3, attempts=6), of_block),
    "InverseBlock": (lambda ratio, axes: masks.InverseBlock(ratio, size=2, adjust=0.1), of_inverse_block),
    "InverseBlock around": (lambda ratio, axes: masks.InverseBlock(ratio, 3, 0.5, wrap=True), of_inverse_block),
    "Coarse": (lambda ratio, axes: masks.Coarse(masks.Random(ratio), 2), of_coarse),
    "Shared": (lambda ratio, axes: masks.Shared(masks.Random(min(ratio, 0.9)), axes=0), of_shared),  # a tube stays
    "Center": (lambda ratio, axes: masks.Center(ratio), of_center),
    "Product": (product, of_product),
    "Disjoint": (lambda ratio, axes: masks.Disjoint(masks.Random(ratio), 1), of_disjoint),
}


@pytest.mark.parametrize("name", TABLE)
def test_a_compiled_mask_is_its_definition(name):
    make, definition = TABLE[name]
    cases = [(make(ratio, len(grid)), grid) for grid, ratio in CASES.items()]
    width, traces = max(mask.num_draws(grid) for mask, grid in cases), []

    def run(draws):
        traces.append(1)
        return [mask(draws[:, : mask.num_draws(grid)], grid) for mask, grid in cases]

    compiled = compile_function(run, [], jit_compile=True)
    compiled([], ops.convert_to_tensor(uniform(ROWS, width, seed=1)))
    num_traces, draws = len(traces), uniform(ROWS, width)
    of_all = compiled([], ops.convert_to_tensor(draws))
    assert keras.backend.backend() == "torch" or len(traces) == num_traces  # no step compiles again
    for (mask, grid), indices in zip(cases, of_all, strict=True):
        visible, masked = map(array, indices)
        n, own = math.prod(grid), draws[:, : mask.num_draws(grid)]
        if name == "Product":
            assert visible.shape == (ROWS, math.prod(int(size * (1 - mask.ratios[0]) + 1e-9) for size in grid))
        elif name == "Shared":  # whole tubes
            assert visible.shape == (ROWS, {(4, 6): 4 * 1, (2, 3, 4): 2 * 1, (5, 3): 5 * 2}[grid])
        else:
            assert visible.shape == (ROWS, {(4, 6): 6, (2, 3, 4): 1, (5, 3): 14}[grid])
        np.testing.assert_array_equal(np.sort(np.concatenate([visible, masked], axis=1)), np.tile(np.arange(n), (5, 1)))
        order = np.argsort(definition(mask, own, grid) + own[:, :n].astype("float64"), axis=1)
        np.testing.assert_array_equal(np.sort(visible), np.sort(order[:, : visible.shape[1]]))


def test_masks_that_filter_hide_or_read_are_compiled_what_they_are_op_by_op():
    """Those whose definitions stand in other tests: exact numbers, and no step compiles again."""
    grid, n, rng, traces = (4, 6), 24, np.random.default_rng(2), []
    random = masks.Random(0.75)
    own = [
        masks.ColorNoise("green", 0.75),
        masks.ColorNoise("blue", 0.75),
        masks.RunningCell(0.75),
        masks.Varying(random),
        masks.InPlace(random),
        masks.Given(random),
        masks.Given(random, "score"),
        masks.Disjoint(masks.Given(random), 1),
        masks.Attention(0.75),
        masks.HardPatches(0.75, (0.0, 0.5), steps=10),
        masks.Adaptive(0.75),
    ]
    of_patches = ("attention", "difficulty", "log_probability", "score")
    hints = {name: -rng.permuted(np.tile(np.arange(1.0, n + 1), (ROWS, 1)), axis=1) for name in of_patches}
    hints = {"gaps": rng.uniform(size=(ROWS, n)) < 0.2, "updates": np.full(ROWS, 5.0), **hints}
    hints["score"][:, 3] = np.nan
    hints = {name: ops.convert_to_tensor(x.astype(bool if name == "gaps" else "float32")) for name, x in hints.items()}

    def run(draws):
        traces.append(1)
        found = []
        for mask in own:
            numbers = draws[:, : mask.num_draws(grid)]
            found.append([*mask(numbers, grid, hints), *([mask.hidden(numbers, grid)] if mask.hides_tokens else [])])
        return found

    compiled = compile_function(run, [], jit_compile=True)
    width = max(mask.num_draws(grid) for mask in own)
    compiled([], ops.convert_to_tensor(uniform(ROWS, width, seed=3)))
    num_traces, draws = len(traces), ops.convert_to_tensor(uniform(ROWS, width))
    of_all = compiled([], draws)
    assert keras.backend.backend() == "torch" or len(traces) == num_traces
    for mask, found, expected in zip(own, of_all, run(draws), strict=True):
        visible, masked, *_ = found = [array(x) for x in found]
        assert visible.shape == (ROWS, n if isinstance(mask, masks.InPlace) else 6)
        np.testing.assert_array_equal(np.sort(np.concatenate([visible, masked], axis=1)), np.tile(np.arange(n), (5, 1)))
        for one, other in zip(found, expected, strict=True):
            # Filters may round otherwise where they are fused: the sets are the same.
            np.testing.assert_array_equal(np.sort(one), np.sort(array(other)), err_msg=repr(mask))


@pytest.mark.host
@pytest.mark.parametrize("name", TABLE)
def test_a_row_depends_on_its_own_numbers_and_a_config_says_it_all(name):
    mask, grid = TABLE[name][0](0.5, 2), (4, 6)
    draws = uniform(4, mask.num_draws(grid))
    scores = array(mask.scores(ops.convert_to_tensor(draws), grid))
    assert scores.dtype == "float32"
    alone = array(mask.scores(ops.convert_to_tensor(draws[2:3]), grid))
    np.testing.assert_array_equal(scores[2:3], alone)
    config = keras.saving.serialize_keras_object(mask)
    again = keras.saving.deserialize_keras_object(config)
    assert repr(again) == repr(mask) and keras.saving.serialize_keras_object(again) == config
    np.testing.assert_array_equal(array(again.scores(ops.convert_to_tensor(draws), grid)), scores)


@pytest.mark.host
@pytest.mark.parametrize(
    "mask",
    [
        masks.Block(0.6, attempts=0),
        masks.InverseBlock(0.6, adjust=-0.4),  # no square
        masks.Coarse(masks.Random(0.6), unit=1),
        masks.Shared(masks.Random(0.6), axes=0),  # of an axis of one patch
        masks.Disjoint(masks.Random(0.6), part=0),
        masks.Varying(masks.Random(0.6)),
    ],
    ids=repr,
)
def test_at_its_limit_a_mask_is_the_random_one(mask):
    grid = (1, 30)
    draws = uniform(6, mask.num_draws(grid))
    is_other_mask = isinstance(mask, (masks.Coarse, masks.Shared))
    of_random = draws[:, 30:] if is_other_mask else draws[:, :30]
    expected = masks.Random(0.6)(ops.convert_to_tensor(of_random), grid)
    for own, other in zip(mask(ops.convert_to_tensor(draws), grid), expected, strict=True):
        np.testing.assert_array_equal(array(own), array(other))


def equal_neighbours(mask, number=400, grid=(14, 14)):
    """The share of neighbours that are both masked or both visible."""
    visible, _ = mask(ops.convert_to_tensor(uniform(number, mask.num_draws(grid))), grid)
    is_visible = np.zeros((number, 196))
    np.put_along_axis(is_visible, array(visible), 1.0, axis=1)
    x = is_visible.reshape(number, *grid)
    return np.mean([np.mean(x[:, 1:] == x[:, :-1]), np.mean(x[:, :, 1:] == x[:, :, :-1])]), x.mean(axis=0)


@pytest.mark.host
@pytest.mark.parametrize(
    ("mask", "expected"),
    [
        (masks.Block(75 / 196), 0.887),
        (masks.Block(0.5), 0.880),
        (masks.InverseBlock(1 - 39.5 / 196), 0.865),
        (masks.Random(0.8), 0.68),
    ],
    ids=repr,
)
def test_masks_hang_together_as_those_of_the_papers_loops(mask, expected):
    """Shares that loops without a fixed number of steps have at 14 x 14 patches."""
    share, _ = equal_neighbours(mask, 200)
    assert abs(share - expected) < 0.015


@pytest.mark.host
def test_squares_that_wrap_around_prefer_no_place():
    cut, wrapped = (equal_neighbours(masks.InverseBlock(0.8, wrap=wrap))[1] for wrap in (False, True))
    assert cut[0, 0] < 0.16 and cut[0, 0] < 0.7 * cut[7, 7]
    np.testing.assert_allclose(wrapped, 0.2, atol=0.1)


@pytest.mark.host
def test_what_is_hidden_in_one_frame_is_hidden_in_all():
    mask, grid = masks.Shared(masks.Random(0.9), axes=0), (8, 14, 14)  # VideoMAE's: a tenth of 196 are 19.6
    visible = array(mask(ops.convert_to_tensor(uniform(3, mask.num_draws(grid))), grid)[0])
    assert visible.shape == (3, 8 * 19)
    for row in visible:
        assert np.all(np.bincount(row % 196, minlength=196)[np.unique(row % 196)] == 8)


@pytest.mark.host
def test_the_middle_is_half_of_each_side():
    for side in (14, 16):
        mask = masks.Center(0.25)
        _, masked = mask(ops.convert_to_tensor(uniform(1, side**2)), (side, side))
        rows = np.arange(side)
        inner = (rows >= side / 4) & (rows < 3 * side / 4)
        assert set(array(masked)[0]) == set(np.flatnonzero(np.outer(inner, inner)))


@pytest.mark.host
@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: masks.Block(attempts=-1), "attempts=-1"),
        (lambda: masks.Block(aspect=(2.0, 1.0)), r"aspect=\(2.0, 1.0\)"),
        (lambda: masks.Coarse("random"), "mask='random'"),
        (lambda: masks.Coarse(unit=0), "unit=0"),
        (lambda: masks.Coarse(unit=(2, 2)).num_draws((4, 4, 4)), r"unit=\(2, 2\)"),
        (lambda: masks.Shared(axes=(0, 0)), r"axes=\(0, 0\)"),
        (lambda: masks.Shared(axes=2).num_draws((4, 4)), "axes=2"),
        (lambda: masks.Shared(axes=(0, 1)).num_draws((4, 4)), "leave one"),
        (lambda: masks.Product((0.5, 1.0)), "ratios=1.0"),
        (lambda: masks.Product((0.5,)).num_visible((4, 4)), r"ratios=\(0.5,\)"),
        (lambda: masks.InverseBlock(adjust=2.0), "adjust=2.0"),
        # What the inner mask does beside choosing patches would be lost.
        (lambda: masks.Coarse(masks.Varying()), "do nothing else.*mask=Varying"),
        (lambda: masks.Coarse(masks.Attention()), "choose patches one by one.*mask=Attention"),
        (lambda: masks.Shared(masks.Given()), "do nothing else.*mask=Given"),
        (lambda: masks.Disjoint(masks.InPlace()), "do nothing else.*mask=InPlace"),
        (lambda: masks.Given(masks.Varying()), "do nothing else.*mask=Varying"),
        (lambda: masks.InPlace(masks.Given(hint="a")), "do nothing else.*hint='a'"),
        (lambda: masks.Varying(masks.Given(hint="a")), "do nothing else.*hint='a'"),
        (lambda: masks.Given(masks.Random(0.0)), r"a share of the patches.*Random\(ratio=0.0\)"),
    ],
)
def test_wrong_settings_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()
