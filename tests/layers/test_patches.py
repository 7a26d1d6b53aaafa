import numpy as np
import pytest

from keras_umd.layers import PatchEmbedding, PatchHead, patchify, unpatchify
from tests.conftest import array

IMAGES = np.random.default_rng(0).normal(size=(2, 8, 12, 3)).astype("float32")


def test_patches_are_the_images_windows_row_by_row():
    patches = array(patchify(IMAGES, (4, 2)))
    assert patches.shape == (2, 12, 24)
    for row in range(2):
        for column in range(6):
            window = IMAGES[:, 4 * row : 4 * row + 4, 2 * column : 2 * column + 2]
            np.testing.assert_array_equal(patches[:, row * 6 + column], window.reshape(2, -1))


def test_unpatchify_is_the_inverse():
    np.testing.assert_array_equal(array(unpatchify(patchify(IMAGES, (4, 2)), (4, 2), (2, 6))), IMAGES)


def test_embedding_patches_equals_embedding_the_image():
    layer = PatchEmbedding((4, 2), 16)
    np.testing.assert_allclose(array(layer(IMAGES)), array(layer(patchify(IMAGES, (4, 2)))), atol=1e-6)


def test_sizes_that_do_not_divide_are_refused():
    with pytest.raises(ValueError, match=r"divisible.*image_shape=\(8, 12, 3\), patch_size=\(5, 5\)"):
        PatchEmbedding(5, 16)(IMAGES)
    with pytest.raises(ValueError, match="patch_size=-1"):
        PatchEmbedding(-1, 16)
    with pytest.raises(ValueError, match=r"shape \(2, 8\)"):
        PatchEmbedding(2, 16).build((2, 8))


def test_head_has_one_bias_for_each_channel_and_starts_unmodulated():
    head = PatchHead(2, 3, conditioning="adaln_zero")
    tokens = np.random.default_rng(1).normal(size=(2, 4, 8)).astype("float32")
    plain = array(head(tokens, np.zeros((2, 8), "float32")))
    np.testing.assert_array_equal(plain, array(head(tokens, np.ones((2, 8), "float32"))))
    head.bias.assign([1.0, 2.0, 3.0])
    moved = array(head(tokens, np.zeros((2, 8), "float32")))
    np.testing.assert_allclose(
        (moved - plain).reshape(2, 4, 4, 3)[..., :], [1.0, 2.0, 3.0] * np.ones((2, 4, 4, 1)), atol=1e-6
    )
