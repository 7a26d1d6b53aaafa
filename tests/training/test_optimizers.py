import keras
import numpy as np
import pytest

from keras_umd import recipes
from keras_umd.training.optimizers import layer_rates
from tests.conftest import QUICK, array, assert_close


def dense_layers():
    keras.utils.set_random_seed(0)
    layers = [keras.layers.Dense(4, name=f"block_{i}") for i in range(3)]
    for layer in layers:
        layer.build((None, 6))
    return layers


def adamw(value, gradients, rate, decay):
    """AdamW in float64 (Loshchilov and Hutter, 2019), with decoupled decay."""
    value, first, second = value.astype("float64"), 0.0, 0.0
    for step, gradient in enumerate(gradients.astype("float64"), start=1):
        value = value - rate * decay * value
        first, second = 0.9 * first + 0.1 * gradient, 0.999 * second + 0.001 * gradient**2
        size = np.sqrt(second / (1 - 0.999**step)) + 1e-8
        value = value - rate * (first / (1 - 0.9**step)) / size
    return value


def test_each_variable_follows_its_own_rate_and_only_matrices_decay():
    variables = [variable for layer in dense_layers() for variable in layer.trainable_variables]
    factors = [0.25, 0.25, 0.5, 0.5, 1.0, 1.0]
    starts = [array(variable).copy() + 0.1 for variable in variables]
    gradients = [np.random.default_rng(i).normal(size=(3, *v.shape)).astype("float32") for i, v in enumerate(variables)]
    optimizer = recipes.LayerwiseAdamW(
        0.1, rates={"block_0/": 0.25, "block_[01]/": 0.5}, weight_decay=0.2, epsilon=1e-8
    )
    for variable, start in zip(variables, starts, strict=True):
        variable.assign(start)
    for step in range(3):
        optimizer.apply([keras.ops.convert_to_tensor(g[step]) for g in gradients], variables)
    for variable, start, gradient, factor in zip(variables, starts, gradients, factors, strict=True):
        decay = 0.2 if variable.name == "kernel" else 0.0
        assert_close(variable, adamw(start, gradient, 0.1 * factor, decay), 1e-5)


def test_adamw_has_the_update_that_keras_has_for_the_backend():
    optimizer = recipes.AdamW(0.1, weight_decay=0.2, epsilon=1e-8, ema_decay=0.9)
    assert isinstance(optimizer, type(keras.optimizers.AdamW()))  # on PyTorch, a few kernels for all variables
    variables = [variable for layer in dense_layers() for variable in layer.trainable_variables]
    starts = [array(variable).copy() for variable in variables]
    gradients = [np.random.default_rng(i).normal(size=(3, *v.shape)).astype("float32") for i, v in enumerate(variables)]
    for step in range(3):
        optimizer.apply([keras.ops.convert_to_tensor(g[step]) for g in gradients], variables)
    for variable, start, gradient in zip(variables, starts, gradients, strict=True):
        assert_close(variable, adamw(start, gradient, 0.1, 0.2), 1e-5)


def test_rates_survive_a_file(tmp_path):
    model = keras.Sequential([keras.Input((6,)), keras.layers.Dense(4, name="block_0"), keras.layers.Dense(1)])
    optimizer = recipes.LayerwiseAdamW(0.1, rates={"block_0": 0.5}, weight_decay=0.1, undecayed="bias")
    model.compile(optimizer, "mse", **QUICK)
    x, y = np.ones((4, 6)), np.ones((4, 1))
    model.fit(x, y, verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert loaded.optimizer.rates == {"block_0": 0.5} and loaded.optimizer.undecayed == "bias"
    for trained in (model, loaded):
        trained.fit(x, y, verbose=0)
    np.testing.assert_array_equal(array(loaded(x)), array(model(x)))


@pytest.mark.host
def test_the_layers_of_a_classifier_slow_down_towards_the_patches(small_model):
    model = small_model(num_layers=2, num_classes=3)
    recipe = recipes.classification(model, num_images=8, num_classes=3, batch_size=4, layer_decay=0.5)
    rates = {v.path: recipe.optimizer.rate_of(v.path) for v in recipe.model.trainable_variables}
    for path, rate in rates.items():
        depth = 2 if "block_1/" in path else 1 if "block_0/" in path else 3 if path[:10] in HEADS else 0
        assert rate == 0.5 ** (3 - depth), path
    assert set(rates.values()) == {1, 0.5, 0.25, 0.125}
    assert list(layer_rates(1, 0.5).values()) == [0.5, 0.25]


HEADS = ("classifier", "encoder/no")  # the head, and the LayerNorm behind the last block


@pytest.mark.host
def test_muon_is_for_the_matrices_of_blocks_alone(small_model):
    model = small_model(num_classes=3, num_cls_tokens=2, decoder_hidden_dim=8)
    optimizer = recipes.Muon()
    chosen = {v.path.split("/", 1)[1] for v in model.trainable_variables if not optimizer._should_use_adamw(v)}
    inner = ["query", "key", "value", "output_projection"]
    names = [*(f"attention/{name}" for name in inner), "mlp_hidden", "mlp_output"]
    assert chosen == {f"block_0/{name}/kernel" for name in names}


def test_muon_moves_a_matrix_by_an_orthogonal_one_and_everything_else_as_adam():
    first, head, _ = dense_layers()
    variables = [*first.trainable_variables, head.kernel]
    starts = [array(variable).copy() for variable in variables]
    optimizer = recipes.Muon(0.1, exclude_layers=["block_1"], epsilon=1e-12)
    gradients = [np.random.default_rng(i).normal(size=v.shape).astype("float32") for i, v in enumerate(variables)]
    optimizer.apply([keras.ops.convert_to_tensor(g) for g in gradients], variables)
    kernel, bias, other = (start - array(v) for start, v in zip(starts, variables, strict=True))
    left, _, right = np.linalg.svd(gradients[0], full_matrices=False)
    cosines = np.sum(kernel * (left @ right)) / np.linalg.norm(kernel) / np.linalg.norm(left @ right)
    # Newton and Schulz' five steps bring singular values near 1, no closer than 0.7 to 1.2; 0.2 sqrt(6) is Moonlight's.
    values = np.linalg.svd(kernel, compute_uv=False) / (0.1 * 0.2 * np.sqrt(6))
    assert cosines > 0.98 and values.min() > 0.6 and values.max() < 1.3
    np.testing.assert_allclose(bias, 0.1 * np.sign(gradients[1]), rtol=1e-4)  # the first step of Adam
    np.testing.assert_allclose(other, 0.1 * np.sign(gradients[2]), rtol=1e-4)


@pytest.mark.host
def test_optimizers_with_averages_survive_serialisation():
    profiles = [0.999, recipes.PowerProfile(0.05)]
    for optimizer in (recipes.Muon(1e-3, ema_decay=profiles), recipes.AdamW(1e-3, ema_decay=profiles)):
        config = keras.saving.serialize_keras_object(optimizer)
        again = keras.saving.deserialize_keras_object(config)
        assert again.ema_decay == profiles and type(again) is type(optimizer)
    assert again.get_config() == optimizer.get_config()


@pytest.mark.host
def test_a_constant_rate_rises_once_and_stays():
    schedule = recipes.constant_with_warmup(0.5, warmup_steps=4)
    rates = [float(array(schedule(step))) for step in (0, 2, 4, 5, 1000)]
    np.testing.assert_allclose(rates, [0, 0.25, 0.5, 0.5, 0.5], rtol=1e-6)
    assert recipes.constant_with_warmup(0.5, warmup_steps=0) == 0.5
