import math
from fractions import Fraction

import numpy as np
import pytest
from keras import ops

from keras_umd.layers import RandomMasking, restore, split_by_score
from keras_umd.layers.masking import num_visible
from tests.conftest import array


def test_keep_counts_equal_the_authors_but_for_the_errors_of_floats(golden):
    grid, differing = golden("masking"), {}
    for num_patches, ratio, keep in zip(
        *(grid[f"len_keep.{name}"].tolist() for name in ("L", "ratio", "keep")), strict=True
    ):
        exact = math.floor(num_patches * (1 - Fraction(str(ratio))))
        if exact != keep:
            differing[num_patches, ratio] = exact
        if exact > 0:
            assert num_visible(num_patches, ratio) == exact
        else:
            with pytest.raises(ValueError, match=f"mask_ratio={ratio}"):
                num_visible(num_patches, ratio)
    # 100 * (1 - 0.9) is 9.99... in floats; the paper's ratios are sums of powers of two.
    assert differing == {(10, 0.8): 2, (10, 0.9): 1, (100, 0.8): 20, (100, 0.9): 10}


@pytest.mark.host
def test_ratios_that_floats_round_keep_what_they_say():
    for tenths in range(10):
        assert num_visible(100, tenths / 10) == 100 - 10 * tenths
        assert num_visible(99, tenths / 10) == 99 * (10 - tenths) // 10  # truncated, as before


def test_the_patches_with_the_smallest_noise_stay_visible():
    noise = np.random.default_rng(0).uniform(size=(4, 16)).astype("float32")
    visible, masked = (array(x) for x in split_by_score(ops.convert_to_tensor(noise), 0.75))
    np.testing.assert_array_equal(np.concatenate([visible, masked], axis=1), np.argsort(noise, axis=1))
    assert visible.shape == (4, 4)


def test_every_patch_is_masked_equally_often():
    layer = RandomMasking(0.75, seed=0)
    _, visible, _ = layer(np.zeros((4000, 16, 1), "float32"))
    counts = np.bincount(array(visible).ravel(), minlength=16) / 4000
    np.testing.assert_allclose(counts, 0.25, atol=0.03)  # 4 standard deviations


def test_restore_puts_tokens_back():
    tokens = np.random.default_rng(0).normal(size=(2, 8, 3)).astype("float32")
    noise = np.random.default_rng(1).uniform(size=(2, 8)).astype("float32")
    kept, visible, masked = RandomMasking(0.5)(tokens, mask_noise=noise)
    hidden = np.take_along_axis(tokens, array(masked)[:, :, None], axis=1)
    together = ops.concatenate([kept, ops.convert_to_tensor(hidden)], axis=1)
    np.testing.assert_array_equal(array(restore(together, visible, masked)), tokens)


def test_ratios_that_leave_nothing_are_refused():
    with pytest.raises(ValueError, match=r"\[0, 1\).*mask_ratio=1.0"):
        RandomMasking(1.0)
    with pytest.raises(ValueError, match="no patch visible.*mask_ratio=0.9 with 4 patches"):
        RandomMasking(0.9)(np.zeros((2, 4, 3), "float32"))


def test_images_are_no_tokens():
    with pytest.raises(ValueError, match=r"patchify.*\(2, 8, 8, 3\)"):
        RandomMasking(0.5)(np.zeros((2, 8, 8, 3), "float32"))
