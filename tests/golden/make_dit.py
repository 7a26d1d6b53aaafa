"""Writes dit.npz: a small DiT of diffusers with random weights, and what it predicts.

Run with diffusers 0.42.1, which the tests don't need: `build/interop/bin/python tests/golden/make_dit.py`.
"""

import pathlib

import numpy as np
import torch
from diffusers import DiTTransformer2DModel

sizes = {"num_attention_heads": 2, "attention_head_dim": 8, "num_layers": 2, "sample_size": 4, "out_channels": 8}
network = DiTTransformer2DModel(**sizes, num_embeds_ada_norm=5).eval()
rng = np.random.default_rng(0)
for parameter in network.parameters():
    parameter.data = torch.from_numpy(rng.normal(0, 0.2, tuple(parameter.shape)).astype("float32"))
embeddings = network.transformer_blocks[0].norm1.emb.state_dict()
network.transformer_blocks[1].norm1.emb.load_state_dict(embeddings)  # as in conversions of DiT
x = rng.normal(size=(3, 4, 4, 4)).astype("float32")
timesteps, labels = np.array([0, 40, 999]), np.array([0, 3, 5])
with torch.no_grad():
    channels_first = torch.from_numpy(x.transpose(0, 3, 1, 2).copy())
    outputs = network.double()(channels_first.double(), torch.from_numpy(timesteps), torch.from_numpy(labels)).sample
arrays = {f"weights/{name}": value.float().numpy() for name, value in network.state_dict().items()}
np.savez_compressed(
    pathlib.Path(__file__).with_name("dit.npz"),
    x=x,
    timesteps=timesteps,
    labels=labels,
    outputs=outputs.numpy().transpose(0, 2, 3, 1).astype("float32"),
    **arrays,
)
