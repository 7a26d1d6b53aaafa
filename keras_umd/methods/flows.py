"""Methods on the straight path from image to noise. Networks and rates are the library's own; see each."""

from keras_umd.corruption import levels, weightings
from keras_umd.corruption.corruption import Corruption
from keras_umd.corruption.schedules import RectifiedFlow
from keras_umd.methods.method import method


@method("Ma et al., SiT: Exploring Flow and Diffusion-based Generative Models, 2024", preset="sit_base_patch2_latent32")
def sit(**corruption):
    """DiT's network and batch, on a rectified flow: the velocity, at levels that are uniform in time.

    Example:

    >>> model = UMD.from_preset("sit_tiny_patch4_32", num_layers=1, decoder_layers=1)
    """
    flow = {"schedule": RectifiedFlow(), "levels": levels.ContinuousUniform(), "noisy_losses": ["v"]}
    return {"corruption": Corruption.dit(**{**corruption, "noisy_patches": "all", **flow})}


@method("Li and He, Back to Basics: Let Denoising Generative Models Denoise (JiT), 2025", preset="jit_base_patch16_256")
def jit(**corruption):
    """All images noisy, nothing masked; x_0 by the loss of the velocity on a rectified flow.

    Its path, levels and loss, the latter up to a factor. Its block (RMSNorm, rotations, SwiGLU, class tokens from a
    third of the depth on, a bottleneck before the patches) is not part of it.

    Example:

    >>> model = UMD.from_preset("jit_tiny_patch4_32", num_layers=1, decoder_layers=1)
    """
    flow = {"schedule": RectifiedFlow(), "levels": levels.LogitNormal(0.8, 0.8), "noisy_losses": ["x0"]}
    loss = {"noisy_patches": "all", "weighting": weightings.V(max_weight=400)}
    return {"corruption": Corruption.dit(**{**corruption, **flow, **loss})}
