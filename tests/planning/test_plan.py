"""The plan counts what the compiled step computes, and adds it up to hours and kilowatt hours."""

import dataclasses
import math

import numpy as np
import pytest

import keras_umd
from keras_umd import Corruption, Objective, Teacher, View, decoders
from keras_umd.corruption import changes, masks, noise
from keras_umd.layers import Block, Timesteps
from keras_umd.objectives import Alignment, Difficulty, Reconstruction, SamplingPolicy
from keras_umd.objectives.targets import X0, Cells, Pixels
from keras_umd.planning.flops import step_flops
from keras_umd.planning.network import views_of
from tests.conftest import array

needs_jax = pytest.mark.backends("jax")  # JAX can list the operations of a function


def dot_flops(jaxpr):
    """FLOPs of all matrix products in a jaxpr, those in loops as often as they run."""
    total = 0
    for equation in jaxpr.eqns:
        if equation.primitive.name == "dot_general":
            (contracted, _), _ = equation.params["dimension_numbers"]
            contracted = [equation.invars[0].aval.shape[axis] for axis in contracted]
            total += 2 * math.prod(equation.outvars[0].aval.shape) * math.prod(contracted)
        repeats = equation.params["length"] if equation.primitive.name == "scan" else 1
        for value in equation.params.values():
            for inner in value if isinstance(value, (tuple, list)) else [value]:
                inner = getattr(inner, "jaxpr", inner)
                if hasattr(inner, "eqns"):
                    total += repeats * dot_flops(inner)
    return total


def counted_flops(model, batch_size):
    """FLOPs of the matrix products of a step of `evaluate`, and of one of `fit`, as JAX lists them."""
    import jax

    model.compile("sgd")  # products alone are counted
    model.optimizer.build(model.trainable_variables)
    data = np.zeros((batch_size, *model.image_shape), "uint8")
    data = (data,) if model.num_classes is None else (data, np.zeros(batch_size, "int32"))
    groups = [model.trainable_variables, model.non_trainable_variables, model.optimizer.variables]
    groups.append(model.metrics_variables)
    state = [[variable.value for variable in group] for group in groups]
    forward = jax.make_jaxpr(model.test_step)((*state[:2], state[3]), data)
    return dot_flops(forward.jaxpr), dot_flops(jax.make_jaxpr(model.train_step)(tuple(state), data).jaxpr)


DIT = {"affine": False, "timesteps": Timesteps(8), "labels": "table", "head_bias": "patch", "cls_to_decoder": "none"}
ONE_STACK = Block(**DIT, encoder_norm=None, decoder_positions="masked")
OF_DIT = {"num_cls_tokens": 0, "num_classes": 3, "num_layers": 2}
EVERYTHING = Block.modern(
    registers=2, in_context=3, bottleneck=5, value_residual=True, cls_to_decoder="all", self_conditioning=True
)
CASES = {
    "umd": {},
    "four class tokens": {"num_cls_tokens": 4, "num_layers": 2, "decoder_layers": 2},
    "mae": {"corruption": Corruption.mae(), "conditioning": "token"},
    "maskdit": {"corruption": Corruption.maskdit(), "conditioning": None, "patch_size": (2, 4)},
    "dit": {"corruption": Corruption.dit()},
    "noise alone": {"corruption": Corruption(noisy_losses=["eps"])},
    "x0 alone": {"corruption": Corruption(noisy_losses=["x0"])},
    "x0 alone, unmasked": {"corruption": Corruption.dit(noisy_losses=["x0"])},
    "labels": {"num_classes": 3, "corruption": Corruption(clean_ratio=0.2, noisy_mask_ratio=0.0)},
    "clean images unmasked": {"corruption": Corruption(clean_mask_ratio=0.0), "image_shape": (8, 8, 3)},
    "remat": {"remat": True, "num_layers": 2, "decoder_layers": 2},
    "remat, token": {"remat": True, "conditioning": "token"},
    "scan": {"scan_blocks": True, "num_layers": 3, "decoder_layers": 3},
    "half decoded": {"corruption": Corruption(decoded_ratio=0.5), "decoder_hidden_dim": 8},
    "narrower decoder, token, remat": {"conditioning": "token", "decoder_hidden_dim": 8, "remat": True},
    "scan, remat, token": {"scan_blocks": True, "remat": True, "decoder_layers": 3, "conditioning": "token"},
    "cross-attention": {"decoder": decoders.Cross(), "num_layers": 2, "decoder_layers": 2},
    "cross-attention, taps, narrower decoder, mae": {
        "decoder": decoders.Cross(taps="all", visible="mask"),
        "corruption": Corruption.mae(decoded_ratio=0.5),
        "conditioning": "token",
        "decoder_hidden_dim": 8,
        "num_layers": 2,
        "decoder_layers": 2,
    },
    "cross-attention, narrower decoder, remat": {"decoder": decoders.Cross(), "decoder_hidden_dim": 8, "remat": True},
    "convolutions, narrower": {
        "decoder": decoders.Convolution(groups=2),
        "decoder_hidden_dim": 8,
        "corruption": Corruption(decoded_ratio=0.5),
    },
    "a bottleneck, narrower": {
        "decoder": decoders.Bottleneck(3),
        "decoder_hidden_dim": 8,
        "corruption": Corruption.mae(),
        "conditioning": "token",
    },
    "a linear decoder": {
        "decoder": decoders.Linear(),
        "corruption": Corruption(views=[View("clean", mask=masks.InPlace(masks.Random(0.5)))]),
        "objective": lambda: Objective([Reconstruction("clean", X0(), "unseen")]),
    },
    "a regressor, aligned, narrower": {
        "decoder": decoders.Regressor(2),
        "corruption": Corruption.mae(decoded_ratio=0.5),
        "objective": lambda: Objective([Reconstruction("clean", X0()), Alignment("clean")]),
        "conditioning": None,
        "decoder_hidden_dim": 8,
    },
    "a regressor, remat": {"decoder": decoders.Regressor(1), "corruption": Corruption.mae(), "remat": True},
    "another crop, remat": {
        "decoder": decoders.CrossSelf(),
        "corruption": Corruption(views=[View("clean", mask=masks.Random(0.75), change=changes.CropInCrop())]),
        "decoder_hidden_dim": 8,
        "remat": True,
    },
    "another crop, token": {
        "decoder": decoders.CrossSelf(),
        "corruption": Corruption(views=[View("clean", mask=masks.Random(0.75), change=changes.CropInCrop())]),
        "conditioning": "token",
        "decoder_layers": 2,
    },
    "noise for the decoder, narrower, labels": {
        "decoder": decoders.CrossSelf(),
        "corruption": Corruption(views=[View("noisy", mask=masks.Random(0.75), noise=noise.OfMasked())]),
        "conditioning": "token",
        "decoder_hidden_dim": 8,
        "num_classes": 3,
    },
    "noise for the decoder, half decoded, a bottleneck": {
        "corruption": Corruption(views=[View("noisy", noise.OfMasked(), masks.Random(0.75), decoded_ratio=0.5)]),
        "block": Block(bottleneck=3),
    },
    "local scales, narrower": {
        "decoder": decoders.LocalScale({"fine": 1, "coarse": -1}, {"coarse": 2}),
        "corruption": Corruption.mae(),
        "objective": lambda: Objective(
            [Reconstruction("clean", Cells(Pixels(), "fine")), Reconstruction("clean", Cells(Pixels(), "coarse", 2))]
        ),
        "num_layers": 2,
        "decoder_hidden_dim": 8,
    },
    "a teacher, attention": {
        "teacher": Teacher(),
        "corruption": Corruption(views=[View("clean", mask=masks.Attention(0.5))]),
        "conditioning": None,
        "num_cls_tokens": 2,
        "num_layers": 2,
    },
    "a teacher, difficulty": {
        "teacher": Teacher(),
        "corruption": Corruption(views=[View("clean", mask=masks.HardPatches(0.5))]),
        "objective": lambda: Objective([Reconstruction("clean", X0()), Difficulty("clean", X0())]),
        "conditioning": None,
    },
    "one stack": {**OF_DIT, "block": ONE_STACK, "decoder_layers": 0, "corruption": Corruption.dit()},
    "one stack, with masks": {**OF_DIT, "block": ONE_STACK},
    "adaln behind the encoder": {**OF_DIT, "block": Block(**DIT, encoder_norm="adaln"), "decoder_hidden_dim": 8},
    "a policy": {
        "corruption": Corruption(views=[View("clean", mask=masks.Adaptive(0.75))]),
        "objective": lambda: Objective([Reconstruction("clean", X0()), SamplingPolicy("clean", X0(), hidden_dim=8)]),
        "conditioning": None,
    },
    "modern block": {"block": EVERYTHING, "num_layers": 3, "num_cls_tokens": 2, "num_classes": 3},
    "patches alone": {
        "block": Block(mlp="exact_gelu", layer_scale=0.1, positions="sincos", cls_to_decoder="none"),
        "num_cls_tokens": 0,
        "decoder_hidden_dim": 12,
        "decoder_heads": 3,
    },
    "modern block, narrower decoder, remat": {"block": EVERYTHING, "decoder_hidden_dim": 8, "remat": True},
}


def assert_flops_are_those_of_the_step(model):
    parts = step_flops(model, 6)
    assert (sum(part.forward for part in parts), sum(part.total for part in parts)) == counted_flops(model, 6)
    return parts


@needs_jax
@pytest.mark.parametrize("case", CASES)
def test_the_flops_are_those_of_the_step_that_jax_runs(case, small_model):
    model = small_model(**{name: value() if callable(value) else value for name, value in CASES[case].items()})
    parts = assert_flops_are_those_of_the_step(model)
    assert any(part.recomputed for part in parts) == ("remat" in case)


@needs_jax
@pytest.mark.parametrize("freeze", [["encoder"], ["decoder"], ["encoder", "decoder"]])
@pytest.mark.parametrize("conditioning", ["adaln_zero", None])
def test_frozen_layers_take_no_gradients(freeze, conditioning, small_model):
    if conditioning is None and len(freeze) == 2:
        pytest.skip("nothing is left to train")
    model = small_model(num_layers=2, decoder_layers=2, conditioning=conditioning)
    assert_flops_are_those_of_the_step(model.with_classes(None if conditioning is None else 3, freeze=freeze))


@pytest.mark.host
@pytest.mark.parametrize(("batch_size", "expected"), [(1, ["noisy 1"]), (2, ["clean 1", "noisy 1"]), (7, None)])
def test_a_batch_is_split_as_in_training(batch_size, expected, small_model):
    model = small_model(corruption=Corruption(clean_ratio=0.1))
    names = [f"{view.name} {view.num_images}" for view in views_of(model, batch_size)]
    assert names == (expected or ["clean 1", "noisy 6"])


def nbytes(variables):
    return sum(array(variable).nbytes for variable in variables)


def test_the_bytes_of_weights_are_those_of_the_variables(small_model):
    model = small_model(num_classes=3)
    memory = keras_umd.plan(model, 4).memory
    assert memory.weights == nbytes(model.network_weights)
    assert memory.gradients == nbytes(model.trainable_variables)
    assert memory.optimizer == 2 * memory.gradients  # AdamW, if nothing else is said
    assert (memory.averages, memory.weight_copies) == (0, 0)


@pytest.mark.host
def test_the_optimizer_and_the_averages_count(small_model):
    model = small_model(dtype="mixed_float16")
    options = {"total_steps": 2, "batch_size": 4, "gradient_accumulation_steps": 2, "amsgrad": True}
    model.compile(keras_umd.recipes.finetuning_optimizer(**options))
    planned = keras_umd.plan(model, 4).memory
    assert planned.optimizer == 4 * planned.gradients  # three moments and the accumulated gradients
    assert planned.weight_copies == planned.weights // 2
    assert planned.averages == nbytes(model.averages[0].variables)
    model.optimizer.build(model.trainable_variables)
    exact = keras_umd.plan(model, 4).memory.optimizer
    assert exact == nbytes(model.optimizer.variables)
    assert planned.optimizer <= exact <= planned.optimizer + 100  # counters, the learning rate


@pytest.mark.host
def test_activations_follow_batch_precision_and_remat(small_model):
    def memory(batch_size=8, num_devices=1, shard_weights=False, **options):
        model = small_model(num_layers=8, **options)
        return keras_umd.plan(model, batch_size, num_devices=num_devices, shard_weights=shard_weights).memory

    full = memory()
    assert memory(16).activations == 2 * full.activations
    assert memory(16, num_devices=2) == full
    spread = memory(16, num_devices=2, shard_weights=True)
    assert (spread.weights, spread.optimizer) == (full.weights // 2, full.optimizer // 2)
    assert spread.activations == full.activations
    assert 0.4 < memory(dtype="bfloat16").activations / full.activations < 0.6
    rerun = memory(remat=True)
    assert rerun.activations < full.activations / 3
    assert rerun.attention < full.attention / 3


DEVICE = keras_umd.Device("mine", bfloat16=2e12, float32=1e12, memory=8e9, watts=100)


@pytest.mark.host
def test_times_follow_from_the_flops(small_model):
    model = small_model(remat=True)
    plan = keras_umd.plan(model, 8, DEVICE, num_devices=2, utilization=0.5, num_images=1000, epochs=3)
    parts = step_flops(model, 8)
    assert plan.model_flops == sum(part.forward + part.backward for part in parts)
    assert plan.hardware_flops == plan.model_flops + sum(part.recomputed for part in parts)
    np.testing.assert_allclose(plan.step_seconds, plan.hardware_flops / 1e12)
    np.testing.assert_allclose(plan.images_per_second, 8 / plan.step_seconds)
    np.testing.assert_allclose(plan.hours, 3000 / plan.images_per_second / 3600)
    np.testing.assert_allclose(plan.kilowatt_hours, plan.hours * 2 * 0.1)
    assert plan.fits
    assert not dataclasses.replace(plan, device=dataclasses.replace(DEVICE, memory=1e3)).fits
    model = small_model(remat=True, dtype="bfloat16")
    in_bfloat16 = keras_umd.plan(model, 8, DEVICE, num_devices=2, utilization=0.5)
    np.testing.assert_allclose(in_bfloat16.step_seconds, plan.step_seconds / 2)


@pytest.mark.host
def test_a_measured_step_is_compared(small_model):
    plan = keras_umd.plan(small_model(remat=True), 8, DEVICE, utilization=0.5)
    measured = plan.compare(2 * plan.step_seconds)
    np.testing.assert_allclose(measured.hardware_utilization, 0.25)
    np.testing.assert_allclose(measured.model_utilization, 0.25 * plan.model_flops / plan.hardware_flops)
    np.testing.assert_allclose(measured.over_plan, 1)
    np.testing.assert_allclose(measured.model_flops_per_second, plan.model_flops / measured.step_seconds)
    assert "images/s" in str(measured)
    with pytest.raises(ValueError, match="`step_seconds` must be positive. Received: step_seconds=0"):
        plan.compare(0)


# The model FLOPs' share of the peak, at most: first with elementwise passes one by one, then fused. By hand, for a
# token and a block: 3 (24 d^2 + 4 N d) FLOPs at 0.7 to 0.92 of the peak, and 18 d or 7 d numbers of two bytes, 3.25
# times, at the bandwidth of the data sheet.
CEILINGS = {
    "base": {
        "A100 80GB": (312e12, 0.64, 0.73),
        "H100 SXM": (989e12, 0.49, 0.60),
        "TPU v4": (275e12, 0.64, 0.79),
        "TPU v5e": (197e12, 0.63, 0.78),
        "TPU v5p": (459e12, 0.70, 0.82),
        "TPU v6e": (918e12, 0.44, 0.64),
    },
    "small": {"H100 SXM": (989e12, 0.39, 0.53)},
}
GFLOP_AN_IMAGE = {"base": 104.5, "small": 27.2}


@pytest.mark.host
@pytest.mark.parametrize("size", GFLOP_AN_IMAGE)
def test_memory_sets_a_ceiling_of_its_own(size):
    model, gflop = keras_umd.UMD.from_preset(f"umd_{size}_patch4_64", dtype="mixed_bfloat16"), GFLOP_AN_IMAGE[size]
    for device, (peak, unfused, fused) in CEILINGS[size].items():
        plan = keras_umd.plan(model, 1024, device, utilization=None)
        np.testing.assert_allclose(plan.unfused_ceiling.utilization, unfused, atol=0.01)
        np.testing.assert_allclose(plan.fused_ceiling.utilization, fused, atol=0.01)
        np.testing.assert_allclose(plan.images_per_second, unfused * peak / (gflop * 1e9), rtol=0.02)
    assert "at its ceiling" in str(plan)
    assert f"at most {plan.unfused_ceiling.utilization:.0%}" in str(plan)


@pytest.mark.host
def test_a_ceiling_counts_what_a_step_moves(small_model):
    """Two devices, a frozen encoder, an MLP of 4, no averages: every summand by hand."""
    model = small_model(num_layers=2, decoder_layers=1, dtype="bfloat16", corruption=Corruption.dit())
    model.encoder.trainable = False
    device = keras_umd.Device("mine", 2e12, 1e12, 8e9, bandwidth=1e9, product_share=0.5)
    plan = keras_umd.plan(model, 8, device, num_devices=2)
    patches = math.prod(model.grid)
    # Two blocks of the frozen encoder go forward alone; the decoder's one block is trained and returns patches.
    tokens = 8 * (2 * (1 + patches) + 3.25 * patches)
    trained, weights = nbytes(model.trainable_variables), nbytes(model.network_weights)
    updated = 2 * weights + 5 * trained  # weights and two moments are read and written, gradients are read
    for ceiling, numbers in ((plan.unfused_ceiling, 18), (plan.fused_ceiling, 7)):
        moved = 2 * numbers * model.hidden_dim * tokens / 2 + updated  # by each device
        np.testing.assert_allclose(ceiling.seconds, plan.hardware_flops / (0.5 * 4e12) + moved / 1e9)
        np.testing.assert_allclose(ceiling.images_per_second, 8 / ceiling.seconds)
        np.testing.assert_allclose(ceiling.utilization, plan.model_flops / (ceiling.seconds * 4e12))


@pytest.mark.host
def test_what_is_not_known_is_none(small_model):
    plan = keras_umd.plan(small_model(), 8)
    assert (plan.step_seconds, plan.hours, plan.fits, plan.compare(1.0).model_utilization) == (None,) * 4
    assert plan.unfused_ceiling is None and keras_umd.plan(small_model(), 8, DEVICE).unfused_ceiling is None
    assert keras_umd.plan(small_model(), 8, "TPU v5e", num_images=1000).kilowatt_hours is None
    print(plan, plan.compare(1.0))


@pytest.mark.host
def test_it_prints_parts_memory_and_times(small_model):
    text = str(keras_umd.plan(small_model(), 8, "TPU v4", num_devices=4, num_images=1_000_000))
    for piece in ("decoder attention", "optimizer", "4 x TPU v4 at 40%", "1.0 million images", "kWh"):
        assert piece in text
    # What the network doesn't have isn't listed.
    assert "decoder's embedding" not in text
    assert "decoder's embedding" in str(keras_umd.plan(small_model(decoder_hidden_dim=8), 8))


@pytest.mark.host
def test_wrong_arguments_are_named(small_model):
    model = small_model()
    for arguments, message in (
        ({"batch_size": 0}, "`batch_size` must be a positive integer. Received: batch_size=0"),
        ({"num_devices": 3}, "divisible by `num_devices`. Received: batch_size=8, num_devices=3"),
        ({"utilization": 40}, r"`utilization` must lie in \(0, 1\] or be None. Received: utilization=40"),
        ({"num_images": 0.5}, "num_images=0.5"),
        ({"utilization": None, "device": DEVICE}, "`utilization=None` needs a device with a `bandwidth`"),
        ({"device": "H100"}, "`device` must be one of .*'H100 SXM'.* Received: device='H100'"),
    ):
        with pytest.raises(ValueError, match=message):
            keras_umd.plan(**{"model": model, "batch_size": 8, **arguments})
    with pytest.raises(ValueError, match="`watts` must be positive or be None. Received: watts=0"):
        keras_umd.Device("mine", 1e12, 1e12, 1e9, watts=0)
