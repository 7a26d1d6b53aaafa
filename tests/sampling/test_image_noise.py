import keras
import numpy as np
import pytest
from keras import ops

from keras_umd.sampling.image_noise import image_noise, noise_key, threefry
from tests.conftest import array


def words(*values):
    return [ops.convert_to_tensor(np.array([value], "uint32").view("int32")) for value in values]


@pytest.mark.parametrize(
    ("counter", "key", "bits"),
    [
        ((0, 0), (0, 0), (0x6B200159, 0x99BA4EFE)),
        ((0xFFFFFFFF, 0xFFFFFFFF), (0xFFFFFFFF, 0xFFFFFFFF), (0x1CB996FC, 0xBB002BE7)),
        ((0x243F6A88, 0x85A308D3), (0x13198A2E, 0x03707344), (0xC4923A9C, 0x483DF7A0)),
    ],
)
def test_threefry_gives_the_known_answers_of_its_authors(counter, key, bits):
    result = threefry(words(*key), *words(*counter))
    assert tuple(int(array(word).view("uint32")[0]) for word in result) == bits


def draw(indices, step=0, seed=0, shape=(5, 3, 1)):
    key = ops.convert_to_tensor(noise_key(keras.random.SeedGenerator(seed)))
    return array(image_noise(key, ops.convert_to_tensor(np.array(indices, "int32")), step, shape))


def test_noise_is_normal_and_uncorrelated():
    noise = draw(np.arange(4000), shape=(6, 1)).reshape(4000, 6)
    np.testing.assert_allclose(noise.mean(axis=0), 0, atol=0.06)
    np.testing.assert_allclose(np.cov(noise.T), np.eye(6), atol=0.08)
    np.testing.assert_allclose((noise**4).mean(), 3, atol=0.15)
    next_step = draw(np.arange(4000), step=1, shape=(6, 1)).reshape(4000, 6)
    np.testing.assert_allclose(noise.T @ next_step / 4000, 0, atol=0.07)


def test_noise_belongs_to_key_image_and_step():
    noise = draw([0, 1, 2, 3])
    assert noise.shape == (4, 5, 3, 1)
    np.testing.assert_array_equal(draw([2, 0]), noise[[2, 0]])
    for other in (draw([0, 1, 2, 3], step=1), draw([0, 1, 2, 3], seed=1), draw([4, 5, 6, 7])):
        assert np.abs(noise - other).max() > 0.1
    assert len(np.unique(noise)) == noise.size


def test_a_generator_gives_another_key_each_time():
    seeds = keras.random.SeedGenerator(3)
    first, second = noise_key(seeds), noise_key(seeds)
    assert first.tolist() != second.tolist()
    assert noise_key(keras.random.SeedGenerator(3)).tolist() == first.tolist()
