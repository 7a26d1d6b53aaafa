"""JAX' kernels of GPUs and TPUs, on a machine that has neither: interpreted, or lowered for a device that isn't there.

`tests/models/test_distribution.py` has them on several devices.
"""

import functools
import re

import jax
import numpy as np
import pytest

from keras_umd import UMD
from keras_umd.backend import attention as module
from keras_umd.backend.attention import attention, attention_kernel
from keras_umd.backend.flash import cudnn_attention, splash_attention
from tests.backend.test_attention import formula

pytestmark = pytest.mark.backends("jax")
FORWARD, BACKWARD, MOSAIC = "__cudnn$fmhaSoftmax", "__cudnn$fmhaSoftmaxBackward", "tpu_custom_call"


@pytest.fixture
def on_a(monkeypatch):
    """Makes attention believe that it runs on a TPU, or on a GPU of a compute capability, with cuDNN."""

    def pretend(platform, capability=(9, 0)):
        from jax._src.cudnn import fused_attention_stablehlo as cudnn

        monkeypatch.setattr(module, "_platform", lambda: platform)
        monkeypatch.setattr(cudnn, "check_cudnn_version", lambda: 91000)
        has = functools.partial(_has, capability)
        monkeypatch.setattr(cudnn, "check_compute_capability", has)
        module._refusal.cache_clear()

    yield pretend
    module._refusal.cache_clear()


def _has(capability, asked):
    return capability >= tuple(map(int, asked.split(".")))


def rows(queries, tokens, heads=1, head_dim=64):
    rng = np.random.default_rng(0)
    sizes = (queries, tokens, tokens, queries)
    return [rng.normal(size=(2, n, heads, head_dim)).astype("float32") for n in sizes]


def with_gradients(function, query, key, value, up):
    """The result, and the gradients of its product with `up`."""
    result, gradients = jax.jit(lambda *row: _pair(function, row, up))(query, key, value)
    return [np.asarray(x) for x in (result, *gradients)]


def _pair(function, row, up):
    result, pull = jax.vjp(function, *row)
    return result, pull(up)


def slow_gradients(query, key, value, up, lengths=None):
    """The same in float64, from the formula."""
    results, start = [], 0
    for length in lengths or (key.shape[1],):
        at, of_tokens = (slice(start, start + length) if lengths else slice(None)), slice(start, start + length)
        start += length
        q, k, v, u = (x.astype("float64") for x in (query[:, at], key[:, of_tokens], value[:, of_tokens], up[:, at]))
        scale = q.shape[-1] ** -0.5
        weights = np.exp(np.einsum("bqhd,bkhd->bhqk", q, k) * scale)
        weights /= weights.sum(axis=-1, keepdims=True)
        slopes = np.einsum("bqhd,bkhd->bhqk", u, v)
        slopes = weights * (slopes - (weights * slopes).sum(axis=-1, keepdims=True)) * scale
        of_query, of_key = np.einsum("bhqk,bkhd->bqhd", slopes, k), np.einsum("bhqk,bqhd->bkhd", slopes, q)
        results.append([of_query, of_key, np.einsum("bhqk,bqhd->bkhd", weights, u)])
    return [np.concatenate(parts, axis=1) for parts in zip(*results, strict=True)]


def assert_equals_formula(function, row, lengths=None):
    actual = with_gradients(function, *row)
    expected = [formula(*row[:3], lengths), *slow_gradients(*row, lengths)]
    for name, a, e in zip(("result", "query", "key", "value"), actual, expected, strict=True):
        np.testing.assert_allclose(a, e, atol=1e-5, err_msg=name)


@pytest.mark.parametrize(
    ("queries", "tokens", "options"),
    [
        (65, 65, {"heads": 2}),
        (161, 161, {}),
        (257, 257, {"head_dim": 128}),
        (256, 257, {}),  # the last block of a decoder
        (700, 700, {"head_dim": 24}),  # two blocks, and two kernels in the backward pass
    ],
)
def test_splash_attention_and_its_gradients_equal_the_formula(queries, tokens, options):
    assert_equals_formula(functools.partial(splash_attention, interpret=True), rows(queries, tokens, **options))


def test_splash_attention_of_two_images_in_a_row_equals_that_of_each():
    lengths = (65, 161)
    splash = functools.partial(splash_attention, lengths=lengths, interpret=True)
    assert_equals_formula(splash, rows(226, 226, heads=2), lengths)


def test_cudnn_gets_an_even_number_of_tokens_of_which_the_last_counts_for_nothing(monkeypatch):
    """With XLA in cuDNN's place, which computes the same with the same arguments."""
    of_jax = jax.nn.dot_product_attention
    shapes = []

    def by_xla(*row, implementation, **options):
        assert implementation == "cudnn"
        shapes.append([x.shape[1] for x in row])
        return of_jax(*row, implementation="xla", **options)

    monkeypatch.setattr(jax.nn, "dot_product_attention", by_xla)
    for queries, tokens in ((256, 257), (65, 65), (64, 64)):
        assert_equals_formula(cudnn_attention, rows(queries, tokens))
    assert shapes == [[256, 258, 258], [66, 66, 66], [64, 64, 64]]


def exported(function, platform, *arguments):
    """The program of a function for a platform, as text."""
    named = [jax.export.DisabledSafetyCheck.custom_call(name) for name in (FORWARD, BACKWARD, MOSAIC)]
    return jax.export.export(jax.jit(function), platforms=[platform], disabled_checks=named)(*arguments).mlir_module()


def calls(program):
    return {name: program.count(f"@{name}(") for name in (FORWARD, BACKWARD, MOSAIC)}


def tensor(*shape, dtype="bfloat16"):
    return jax.ShapeDtypeStruct(shape, dtype)


def gradient(*row, **options):
    return jax.grad(lambda *row: attention(*row, **options).astype("float32").sum(), (0, 1, 2))(*row)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_attention_for_cuda_is_a_call_of_cudnn(on_a, dtype):
    """With 257 tokens Keras' op takes XLA, and under remat raises: JAX refuses the gradient."""
    on_a("gpu")
    row = [tensor(2, 257, 2, 64, dtype=dtype)] * 3
    assert calls(exported(attention, "cuda", *row)) == {FORWARD: 1, BACKWARD: 0, MOSAIC: 0}
    assert calls(exported(gradient, "cuda", *row)) == {FORWARD: 1, BACKWARD: 1, MOSAIC: 0}
    packed = functools.partial(gradient, lengths=(65, 192))
    assert calls(exported(packed, "cuda", *row)) == {FORWARD: 2, BACKWARD: 2, MOSAIC: 0}


def test_what_cudnn_cannot_do_is_done_by_xla_and_the_reason_is_told(on_a):
    on_a("gpu")
    assert attention_kernel() == ("cudnn", "cuDNN's flash attention, in 16 bits")
    assert attention_kernel(head_dim=256, dtype="float16")[0] == "cudnn"
    for head_dim, dtype, reason in ((64, "float32", "float32"), (20, "bfloat16", "20"), (264, "bfloat16", "<= 256")):
        name, told = attention_kernel(head_dim=head_dim, dtype=dtype)
        assert name == "xla" and reason in told
        row = [tensor(2, 9, 2, head_dim, dtype=dtype)] * 3
        assert sum(calls(exported(gradient, "cuda", *row)).values()) == 0
    on_a("gpu", capability=(8, 0))
    assert attention_kernel(head_dim=256)[0] == "xla" and attention_kernel(head_dim=128)[0] == "cudnn"


def test_a_machine_without_a_gpu_says_that_it_has_no_cudnn():
    name, reason = attention_kernel("gpu")
    assert name == "xla" and "cuDNN" in reason


@pytest.mark.parametrize("dtype", ["bfloat16", "float32", "float16"])
def test_attention_for_tpus_is_a_splash_kernel(on_a, dtype):
    """Float16, which TPUs don't have, as float32."""
    on_a("tpu")
    assert attention_kernel(dtype=dtype)[0] == "splash"
    row = [tensor(2, 226, 2, 64, dtype=dtype)] * 3
    for options in ({}, {"lengths": (65, 161)}):
        program = exported(functools.partial(gradient, **options), "tpu", *row)
        assert calls(program) == {FORWARD: 0, BACKWARD: 0, MOSAIC: 2}
        kernels = "".join(line for line in program.splitlines() if MOSAIC in line)
        # The queries', keys' and values'; others are the sums of the softmax.
        assert set(re.findall(r"tensor<2x2x256x64x(\w+)>", kernels)) == {"bf16" if dtype == "bfloat16" else "f32"}


@pytest.mark.parametrize(
    ("platform", "target", "options"), [("gpu", "cuda", {"scan_blocks": True, "remat": True}), ("tpu", "tpu", {})]
)
def test_a_training_step_has_no_attention_matrix(on_a, platform, target, options):
    on_a(platform)
    sizes = {"image_shape": (16, 16, 3), "patch_size": 2, "hidden_dim": 128, "num_layers": 2, "num_heads": 2}
    model = UMD(**sizes, decoder_layers=1, dtype="mixed_bfloat16", seed=0, **options)
    model.compile("sgd")
    model.optimizer.build(model.trainable_variables)
    groups = (model.trainable_variables, model.non_trainable_variables, model.optimizer.variables)
    state = tuple([variable.value for variable in group] for group in (*groups, model.metrics_variables))
    program = exported(model.train_step, target, state, (np.zeros((4, 16, 16, 3), "uint8"),))
    taken = {name for name, number in calls(program).items() if number}
    assert taken == {"gpu": {FORWARD, BACKWARD}, "tpu": {MOSAIC}}[platform]
    assert not re.search(r"tensor<\d+x2x(17|41|64|65)x(17|41|65)x", program)
