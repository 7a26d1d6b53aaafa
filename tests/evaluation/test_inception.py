"""FID's Inception network: that of torch-fidelity, layer by layer, and the files that its weights come from."""

import hashlib
import sys
import types

import keras
import numpy as np
import pytest
from keras import ops

from keras_umd.backend import compile_function
from keras_umd.evaluation.inception import FIDInception
from keras_umd.evaluation.inception_blocks import Convolution, average_pool, halve, max_pool
from keras_umd.evaluation.resize import RESIZE_MODES, resize_images
from tests.conftest import array, assert_close

TOLERANCE = 1e-4  # of the largest entry of each block


def random_images(size, num_images=2, channels=3):
    return np.random.default_rng(size).integers(0, 256, (num_images, size, size, channels)).astype("uint8")


def random_arrays(shapes):
    """Weights in PyTorch's layouts, such that the activations neither vanish nor explode."""
    rng = np.random.default_rng(0)

    def draw(name, shape):
        if name.endswith(("bn.weight", "running_var")):
            return rng.uniform(0.8, 1.2, shape)
        if name.endswith("conv.weight"):
            return rng.normal(0, np.sqrt(2 / np.prod(shape[1:])), shape)
        return rng.normal(0, 0.1, shape)

    return {name: draw(name, shape).astype("float32") for name, shape in shapes.items()}


# The whole network. Slow to run, so that few images do.


@pytest.fixture(scope="module")
def oracle():
    """torch-fidelity's network with random weights, without the torchvision that it imports and the file it loads."""
    torch = pytest.importorskip("torch")
    torchvision, datasets = (types.ModuleType(name) for name in ("torchvision", "torchvision.datasets"))
    torchvision.datasets, datasets.CIFAR10, datasets.STL10 = datasets, object, object
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "torchvision", torchvision)
        patch.setitem(sys.modules, "torchvision.datasets", datasets)
        try:
            from torch_fidelity import feature_extractor_inceptionv3 as module
        except ImportError:
            pytest.skip("`make test` installs torch-fidelity, which needs --no-deps")
        patch.setattr(module, "load_state_dict_from_url", lambda *args, **kwargs: {})
        patch.setattr(module.FeatureExtractorInceptionV3, "load_state_dict", lambda *args: None)
        network = module.FeatureExtractorInceptionV3("oracle", ["2048", "logits_unbiased"])
    shapes = {name: value.shape for name, value in network.state_dict().items() if value.ndim}
    arrays = {name: torch.from_numpy(value) for name, value in random_arrays(shapes).items()}
    network.load_state_dict(arrays, strict=False)  # without num_batches_tracked
    return network.eval()


@pytest.fixture(scope="module")
def whole_network(oracle, tmp_path_factory):
    import torch

    path = tmp_path_factory.mktemp("weights") / "random.pth"
    torch.save(oracle.state_dict(), path)
    return FIDInception(path)


def oracle_outputs(oracle, images):
    """The outputs of all its blocks, channels last, and its features and logits."""
    import torch

    outputs = {}

    def keep(name):
        return lambda module, inputs, output: outputs.update({name: output.permute(0, 2, 3, 1).numpy()})

    blocks = [(name, module) for name, module in oracle.named_children() if name not in ("AvgPool", "fc")]
    hooks = [module.register_forward_hook(keep(name)) for name, module in blocks]
    with torch.no_grad():
        features, logits = oracle(torch.from_numpy(images).permute(0, 3, 1, 2))
    for hook in hooks:
        hook.remove()
    return {**outputs, "features": features.numpy(), "logits": logits.numpy()}


@pytest.mark.slow
@pytest.mark.host  # its layers are a table of numbers; how they compute is tested on every backend below
def test_every_block_computes_what_torch_fidelitys_does(oracle, whole_network):
    """Small and large images share one program: resized first, they stay as they are in the network."""
    assert len(whole_network.weights) == 2 * 94 + 1
    blocks = compile_function(whole_network.blocks, whole_network.variables)
    values = [variable.value for variable in whole_network.variables]
    for size in (299, 256, 64):
        images = random_images(size)
        expected = oracle_outputs(oracle, images)
        outputs = blocks(values, resize_images(ops.convert_to_tensor(images), 299, "tf1"))
        assert outputs.keys() == expected.keys()
        assert expected["features"].std() > 0.01 * expected["Conv2d_1a_3x3"].std()  # a signal arrives
        for name, value in expected.items():
            assert_close(outputs[name], value, TOLERANCE)
    for name, value in whole_network.predict(images, verbose=0).items():
        assert_close(value, expected[name], TOLERANCE)


@pytest.mark.parametrize(
    ("pool", "stride", "margin", "reduce"),
    [(average_pool, 1, 1, np.nanmean), (max_pool, 1, 1, np.nanmax), (halve, 2, 0, np.nanmax)],
    ids=["average", "maximum", "halve"],
)
def test_pools_leave_out_the_padding(pool, stride, margin, reduce):
    """On negative numbers, where zeros of a padding would win."""
    x = -1 - np.random.default_rng(0).uniform(size=(2, 7, 9, 3)).astype("float32")
    padded = np.pad(x, ((0, 0), (margin, margin), (margin, margin), (0, 0)), constant_values=np.nan)
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(1, 2))[:, ::stride, ::stride]
    np.testing.assert_allclose(array(pool(ops.convert_to_tensor(x))), reduce(windows, axis=(-2, -1)), rtol=1e-6)


# What doesn't depend on the number of layers, with a network of two.

SMALL_NETWORK = {
    "Conv2d_1a_3x3": Convolution("", 4, 7, 7, "valid"),
    "Mixed_5b": ([Convolution("branch1x1", 3)], [average_pool, Convolution("branch_pool", 2)]),
}
SMALL_SHAPES = {
    "Conv2d_1a_3x3.conv.weight": (4, 3, 7, 7),
    "Mixed_5b.branch1x1.conv.weight": (3, 4, 1, 1),
    "Mixed_5b.branch_pool.conv.weight": (2, 4, 1, 1),
    "fc.weight": (1008, 5),
    "fc.bias": (1008,),
}
for path, filters in {"Conv2d_1a_3x3": 4, "Mixed_5b.branch1x1": 3, "Mixed_5b.branch_pool": 2}.items():
    for name in ("weight", "bias", "running_mean", "running_var"):
        SMALL_SHAPES[f"{path}.bn.{name}"] = (filters,)


@pytest.fixture(autouse=True)
def small_network(request, monkeypatch):
    if "whole_network" not in request.fixturenames:
        monkeypatch.setattr("keras_umd.evaluation.inception.NETWORK", SMALL_NETWORK)


@pytest.fixture
def arrays():
    return random_arrays(SMALL_SHAPES)


@pytest.fixture
def save(tmp_path):
    """Writes arrays to an .npz file, and returns its path."""

    def save(arrays):
        np.savez(tmp_path / "weights.npz", **arrays)
        return tmp_path / "weights.npz"

    return save


def assert_same_outputs(network, other, images=None):
    images = random_images(20) if images is None else images
    outputs = network(images)
    for name, value in other(images).items():
        assert_close(outputs[name], array(value), 1e-6)


def test_weights_come_from_pytorchs_file(arrays, save, tmp_path):
    torch = pytest.importorskip("torch")
    tensors = {name: torch.from_numpy(value) for name, value in arrays.items()}
    tensors["Conv2d_1a_3x3.bn.num_batches_tracked"] = torch.tensor(7)
    torch.save(tensors, tmp_path / "weights.pth")
    network = FIDInception(tmp_path / "weights.pth")
    assert network.source_sha256 == hashlib.sha256((tmp_path / "weights.pth").read_bytes()).hexdigest()
    assert_same_outputs(network, FIDInception(save(arrays)))
    assert not network.trainable_weights


@pytest.mark.backends("jax", "tensorflow")  # there is always PyTorch
def test_without_pytorch_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(ImportError, match=r"keras_umd\[torch\]"):
        FIDInception("weights.pth")


@pytest.mark.host
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"fc.bias": None}, r"fc\.bias: missing, expected \(1008,\)"),
        ({"AuxLogits.fc.bias": np.zeros(3)}, r"AuxLogits\.fc\.bias: \(3,\), expected nothing"),
        ({"fc.weight": np.zeros((5, 1008))}, r"fc\.weight: \(5, 1008\), expected \(1008, 5\)"),
        ({"fc.bias": None, "fc.weight": None}, r"fc\.bias: missing.*\nfc\.weight: missing.*\nReceived: weights="),
    ],
)
def test_arrays_that_do_not_fit_are_named(arrays, save, changes, message):
    arrays = {name: value for name, value in {**arrays, **changes}.items() if value is not None}
    with pytest.raises(ValueError, match=message):
        FIDInception(save(arrays))


@pytest.mark.host
def test_only_the_published_weights_with_the_papers_resize_are_fid(arrays, save):
    published = {**arrays, "source_sha256": "6726825d" + 56 * "0"}
    assert FIDInception(save(published)).is_fid
    assert not FIDInception(save(published), resize="half_pixel").is_fid
    assert not FIDInception(save(published), resize="clean").is_fid
    assert not FIDInception(save({**arrays, "source_sha256": 64 * "6"})).is_fid
    assert not FIDInception(save(arrays)).is_fid
    assert not FIDInception().is_fid


def test_a_keras_file_keeps_the_weights_and_where_they_are_from(arrays, save, tmp_path):
    network = FIDInception(save({**arrays, "source_sha256": "6726825d"}))
    network.save(tmp_path / "inception.keras")
    loaded = keras.models.load_model(tmp_path / "inception.keras")
    assert loaded.is_fid
    assert (loaded.source_sha256, loaded.fingerprint()) == ("6726825d", network.fingerprint())
    assert_same_outputs(loaded, network)
    FIDInception(resize="clean").save(tmp_path / "clean.keras")
    assert keras.models.load_model(tmp_path / "clean.keras").resize == "clean"


@pytest.mark.host
def test_the_fingerprint_tells_weights_and_resizes_apart(arrays, save):
    path = save(arrays)
    fingerprints = [FIDInception(path, resize).fingerprint() for resize in RESIZE_MODES]
    assert FIDInception(path).fingerprint() == fingerprints[0]
    assert len({*fingerprints, FIDInception().fingerprint()}) == 4


def test_random_weights_follow_the_seed():
    fingerprints = []
    for seed in (0, 0, 1):
        keras.utils.set_random_seed(seed)
        fingerprints.append(FIDInception().fingerprint())
    assert fingerprints[0] == fingerprints[1] != fingerprints[2]


def test_one_channel_is_taken_three_times_and_floats_as_uint8(arrays, save):
    network = FIDInception(save(arrays))
    grey = random_images(20, channels=1)
    repeated = np.repeat(grey, 3, axis=-1)
    expected = {name: array(value) for name, value in network(repeated).items()}
    for images in (grey, grey.astype("float32"), grey.astype("float64"), ops.convert_to_tensor(repeated, "bfloat16")):
        for name, value in network(images).items():
            assert_close(value, expected[name], 1e-6)


def test_pixels_become_numbers_around_zero(arrays, save):
    """By hand: an image of one colour through the first convolution, which doesn't pad its edges."""
    network = FIDInception(save(arrays))
    mean, variance, gamma, beta = (
        arrays[f"Conv2d_1a_3x3.bn.{name}"] for name in ("running_mean", "running_var", "weight", "bias")
    )
    sums = arrays["Conv2d_1a_3x3.conv.weight"].sum(axis=(1, 2, 3)) * (200 - 128) / 128
    expected = np.maximum((sums - mean) / np.sqrt(variance + 1e-3) * gamma + beta, 0)
    output = array(network.blocks(np.full((1, 30, 40, 3), 200, "uint8"))["Conv2d_1a_3x3"])
    np.testing.assert_allclose(output, np.broadcast_to(expected, output.shape), atol=1e-5)


def test_it_computes_channels_last_in_float32_whatever_the_settings(arrays, save):
    expected = FIDInception(save(arrays))
    data_format = keras.config.image_data_format()
    keras.config.set_dtype_policy("mixed_bfloat16")
    keras.config.set_image_data_format("channels_first")
    try:
        network = FIDInception(save(arrays))
        assert {keras.backend.standardize_dtype(x.dtype) for x in network(random_images(20)).values()} == {"float32"}
        assert_same_outputs(network, expected)
    finally:
        keras.config.set_dtype_policy("float32")
        keras.config.set_image_data_format(data_format)


@pytest.mark.host
@pytest.mark.parametrize(
    ("use", "message"),
    [
        (lambda: FIDInception(resize="lanczos"), "Received: resize='lanczos'"),
        (lambda: FIDInception("inception.keras"), "load_model.*Received: weights='inception.keras'"),
        (lambda: FIDInception()(np.zeros((1, 8, 8, 4), "uint8")), r"\(1, 8, 8, 4\) and type uint8"),
        (lambda: FIDInception()(np.zeros((8, 8, 3), "uint8")), r"\(8, 8, 3\) and type uint8"),
        (lambda: FIDInception()(np.zeros((1, 8, 8, 3), "int32")), r"\(1, 8, 8, 3\) and type int32"),
    ],
)
def test_wrong_arguments_are_named(use, message):
    with pytest.raises(ValueError, match=message):
        use()


@pytest.mark.backends("jax")  # JAX' programs say how exact their products are
def test_no_product_is_left_to_the_precision_of_the_device():
    import jax

    program = str(jax.make_jaxpr(FIDInception())(np.zeros((1, 8, 8, 3), "float32")))
    num_products = program.count("conv_general_dilated[") + program.count("dot_general[")
    assert num_products == program.count("precision=(Precision.HIGHEST, Precision.HIGHEST)") > 3
