"""A DiT of diffusers, converted, predicts and generates what diffusers does."""

import keras
import numpy as np
import pytest

from keras_umd import samplers
from keras_umd.weights import from_dit
from tests.conftest import assert_close
from tests.interop import oracles

pytestmark = pytest.mark.interop
diffusers = pytest.importorskip("diffusers")
SIZES = {"num_attention_heads": 2, "attention_head_dim": 16, "num_layers": 3, "num_embeds_ada_norm": 5}
LABELS = np.array([0, 3, 5])  # of five classes: the last has none


@pytest.fixture(scope="module")
def network():
    """Random weights, but for the embeddings, which the blocks of a DiT share."""
    import torch

    network = oracles.randomized(diffusers.DiTTransformer2DModel(**SIZES, sample_size=8, out_channels=8))
    shared = network.transformer_blocks[0].norm1.emb.state_dict()
    for block in network.transformer_blocks[1:]:
        block.norm1.emb.load_state_dict({name: value.clone() for name, value in shared.items()})
    return torch.no_grad()(lambda x, indices, labels: network(x, indices, labels).sample), network


def outputs(network, x, indices, labels=LABELS):
    """Noise and variance, the channels last, at DiT's own timesteps from 0 to 999."""
    import torch

    tensors = [torch.from_numpy(np.ascontiguousarray(value)) for value in (x.transpose(0, 3, 1, 2), indices, labels)]
    return np.split(network[0](*tensors).numpy().transpose(0, 2, 3, 1), 2, axis=-1)


def converted(network, **settings):
    return from_dit(oracles.arrays_of(network[1]), num_heads=2, image_size=8, **settings)


def frequencies_of_pytorch(number):
    """As diffusers makes them, in float32: other devices round otherwise."""
    import torch

    return torch.exp(-np.log(10_000.0) * torch.arange(number, dtype=torch.float32) / (number - 1)).numpy()


@pytest.mark.parametrize("settings", [{}, {"decoder_layers": 1}, {"method": "umd"}], ids=["dit", "split", "umd"])
def test_noise_and_variance_are_those_of_diffusers(network, settings):
    model = converted(network, variance="keep", **settings)
    x = np.random.default_rng(0).normal(size=(3, 8, 8, 4)).astype("float32")
    timesteps = np.array([1, 400, 1000])
    eps, variance = outputs(network, x, timesteps - 1)
    assert np.abs(eps).max() > 0.1
    tensors = [keras.ops.convert_to_tensor(value) for value in (x, timesteps, LABELS)]
    assert_close(model.estimate(*tensors)["eps"], eps, 5e-5)  # angles of its timesteps are off by 6e-5
    model.condition_embedding.timestep_embedding._frequencies = frequencies_of_pytorch(128)
    predictions = model.estimate(*tensors)
    assert_close(predictions["eps"], eps, 1e-5)
    assert_close(predictions["variance"], variance, 1e-5)


def test_samples_are_those_of_a_plain_loop(network):
    """DDIM without fresh noise on 1000 linear betas, with guidance."""
    model, steps, scale = converted(network), 10, 1.5
    noise = np.random.default_rng(1).normal(size=(3, 8, 8, 4)).astype("float32")
    labels = np.array([0, 3, 4])
    samples = model.generate(
        labels, num_steps=steps, sampler=samplers.DDIM(0.0), guidance=scale, initial_noise=noise, predict_from="eps"
    )
    alpha_bar = np.cumprod(1 - np.linspace(1e-4, 0.02, 1000))
    indices = np.append(999, np.round(np.linspace(1000, 1, steps))[1:].astype(int) - 1)
    x = noise.astype("float64")
    for index, following in zip(indices, [*indices[1:], None], strict=True):
        at = np.full(3, index)
        with_label, without = (outputs(network, x.astype("float32"), at, y)[0] for y in (labels, np.full(3, 5)))
        eps = without + scale * (with_label - without)
        x0 = (x - np.sqrt(1 - alpha_bar[index]) * eps) / np.sqrt(alpha_bar[index])
        left = 1.0 if following is None else alpha_bar[following]
        x = np.sqrt(left) * x0 + np.sqrt(1 - left) * eps
    assert_close(samples, x, 1e-4)


def test_embeddings_that_differ_between_blocks_are_refused(network):
    arrays = oracles.arrays_of(network[1])
    name = "transformer_blocks.1.norm1.emb.timestep_embedder.linear_1.bias"
    arrays[name] = arrays[name] + 1
    with pytest.raises(ValueError, match=r"share their embeddings.*transformer_blocks\.1"):
        from_dit(arrays, num_heads=2, image_size=8)
