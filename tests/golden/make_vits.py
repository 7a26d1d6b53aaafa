"""Writes vits.npz: weights and outputs of transformers' ViTMAE and of timm's ViT, rounded to what float16 holds.

Run in the environment of `make interop`: `KERAS_BACKEND=torch build/interop/bin/python -m tests.golden.make_vits`.
"""

import pathlib

import numpy as np
import torch
import transformers

from tests.interop import oracles

SIZES = {**oracles.MAE, "num_hidden_layers": 2, "decoder_num_hidden_layers": 1}
IMAGES = oracles.uint8_images(2)
NOISE = np.random.default_rng(3).uniform(size=(2, 16)).astype("float32")


def rounded(network):
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(parameter.half().float())
    return network


def stored(name, network):
    return {f"{name}/{key}": value.astype("float16") for key, value in oracles.arrays_of(network).items()}


def mae():
    network = rounded(oracles.randomized(transformers.ViTMAEForPreTraining(transformers.ViTMAEConfig(**SIZES))))
    arrays = stored("mae", network)
    for is_normalised in (True, False):
        network.config.norm_pix_loss = is_normalised
        with torch.no_grad():
            outputs = network(oracles.pixel_values(IMAGES), noise=torch.from_numpy(NOISE))
        arrays[f"mae.loss/{'normalised' if is_normalised else 'plain'}"] = outputs.loss.numpy()
    with torch.no_grad():
        tokens = network.vit(oracles.pixel_values(IMAGES), noise=torch.from_numpy(NOISE)).last_hidden_state
    return arrays | {"mae.logits": outputs.logits.numpy(), "mae.cls_token": tokens[:, 0].numpy()}


def vit():
    network = rounded(oracles.vision_transformer(reg_tokens=2, init_values=1.0))
    with torch.no_grad():
        tokens = network.forward_features(oracles.pixel_values(IMAGES)).numpy()
    return {**stored("vit", network), "vit.tokens": tokens}


if __name__ == "__main__":
    path = pathlib.Path(__file__).with_name("vits.npz")
    np.savez_compressed(path, images=IMAGES, noise=NOISE, **mae(), **vit())
    print(f"{path}: {path.stat().st_size:,} bytes")
