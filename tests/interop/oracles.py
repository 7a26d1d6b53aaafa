"""Networks of transformers and timm with random weights, which nothing starts at zero or one."""

import contextlib
import importlib.abc
import importlib.machinery
import sys
import types

import numpy as np

VIT = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3, "image_size": 16, "patch_size": 4}
MAE = {**VIT, "intermediate_size": 96, "decoder_hidden_size": 16, "decoder_num_hidden_layers": 2}
MAE |= {"decoder_num_attention_heads": 4, "decoder_intermediate_size": 64}
TIMM = {"embed_dim": 24, "depth": 2, "num_heads": 3, "img_size": 16, "patch_size": 4, "num_classes": 5}
MEANS, DEVIATIONS = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])  # of ImageNet


class _Stub(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Modules called torchvision that have every name: the real one doesn't import beside PyTorch for the CPU."""

    class _Anything(type):
        def __getattr__(cls, name):
            if name.startswith("__"):
                raise AttributeError(name)
            return name

    class _Module(types.ModuleType):
        def __getattr__(self, name):
            if name.startswith("__"):
                raise AttributeError(name)
            return _Stub._Anything(name, (), {})

    def find_spec(self, name, path=None, target=None):
        is_own = name.split(".")[0] == "torchvision"
        return importlib.machinery.ModuleSpec(name, self, is_package=True) if is_own else None

    def create_module(self, spec):
        return self._Module(spec.name)

    def exec_module(self, module):
        pass


@contextlib.contextmanager
def without_torchvision():
    """A context in which what asks for torchvision gets a stub."""
    stub = _Stub()
    sys.meta_path.insert(0, stub)
    try:
        yield
    finally:
        sys.meta_path.remove(stub)
        for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
            del sys.modules[name]


def vision_transformer(**settings):
    """A `VisionTransformer` of timm."""
    with without_torchvision():
        from timm.models.vision_transformer import VisionTransformer
    return randomized(VisionTransformer(**{**TIMM, **settings}))


def randomized(network, seed=0):
    """The network with random weights in every place but the fixed positions."""
    import torch

    rng = np.random.default_rng(seed)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if not name.endswith("decoder_pos_embed"):  # its class token's place is zero, and stays so
                draw = rng.normal(0, 0.2, tuple(parameter.shape))
                norms = ("norm1.weight", "norm2.weight", "norm.weight", "before.weight", "after.weight")
                parameter.copy_(torch.from_numpy(draw + name.endswith(norms)))
    return network.eval()


def arrays_of(network):
    return {name: value.detach().numpy().copy() for name, value in network.state_dict().items()}


def uint8_images(number=3, size=16, seed=1):
    return np.random.default_rng(seed).integers(0, 256, (number, size, size, 3)).astype("uint8")


def pixel_values(images, means=MEANS, deviations=DEVIATIONS):
    """What the networks take: channels first, standardised."""
    import torch

    standardized = (images / 255.0 - means) / deviations
    return torch.from_numpy(standardized.transpose(0, 3, 1, 2).astype("float32"))
