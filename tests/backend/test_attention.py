"""Attention of each backend equals its formula, and takes the kernel that it says; test_flash.py has JAX' kernels."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_umd.backend import attention as module
from keras_umd.backend.attention import attention, attention_kernel
from tests.conftest import array


def formula(query, key, value, lengths=None):
    """In float64, one segment after the other."""
    mixed, start = [], 0
    for length in lengths or (key.shape[1],):
        of_queries = slice(start, start + length) if lengths else slice(None)
        of_tokens = slice(start, start + length)
        start += length
        q, k, v = (x.astype("float64") for x in (query[:, of_queries], key[:, of_tokens], value[:, of_tokens]))
        logits = np.einsum("bqhd,bkhd->bhqk", q, k) * q.shape[-1] ** -0.5
        weights = np.exp(logits - logits.max(axis=-1, keepdims=True))
        mixed.append(np.einsum("bhqk,bkhd->bqhd", weights / weights.sum(axis=-1, keepdims=True), v))
    return np.concatenate(mixed, axis=1)


def rows(*lengths):
    """Queries, keys and values with as many tokens."""
    rng = np.random.default_rng(2)
    query, key, value = (rng.normal(size=(2, n, 3, 4)).astype("float32") for n in lengths)
    return query, key * 30, value  # logits whose exponentials overflow


def attended(tensors, **options):
    return array(attention(*map(ops.convert_to_tensor, tensors), **options))


@pytest.fixture
def without_flash_attention():
    keras.config.disable_flash_attention()
    yield
    keras.config.enable_flash_attention()  # as at first: where it can be had


def test_attention_equals_its_formula():
    tensors = rows(5, 7, 7)
    np.testing.assert_allclose(attended(tensors), formula(*tensors), atol=1e-5)


def test_tokens_of_a_segment_attend_to_their_segment_only():
    tensors = rows(7, 7, 7)
    for lengths in ((2, 4, 1), (7,)):
        np.testing.assert_allclose(attended(tensors, lengths=lengths), formula(*tensors, lengths), atol=1e-5)


def test_segments_that_are_not_those_of_the_tokens_are_refused():
    for tensors, lengths in ((rows(7, 7, 7), (2, 4)), (rows(5, 7, 7), (3, 4)), (rows(7, 7, 7), (0, 7))):
        with pytest.raises(ValueError, match=r"`lengths` must be positive .* Received: lengths=\("):
            attended(tensors, lengths=lengths)


def test_on_a_cpu_no_backend_takes_a_kernel_of_other_devices(monkeypatch):
    monkeypatch.setattr(module, "_platform", lambda: "cpu")
    name, reason = attention_kernel()
    assert name == {"torch": "sdpa"}.get(keras.backend.backend(), "products")
    assert reason


def test_flash_attention_can_be_switched_off(without_flash_attention):
    tensors = rows(5, 7, 7)
    np.testing.assert_allclose(attended(tensors), formula(*tensors), atol=1e-5)
    name, reason = attention_kernel("gpu")
    assert name == {"jax": "xla", "torch": "products", "tensorflow": "recomputed"}[keras.backend.backend()]
    assert "disable_flash_attention" in reason or keras.backend.backend() == "tensorflow"  # which has none


@pytest.mark.backends("torch")
def test_pytorch_chooses_among_its_own_kernels(monkeypatch):
    """It gets views, and no context around it: copies take time, and contexts are what torch.compile breaks at."""
    import torch

    calls = []
    of_pytorch = torch.nn.functional.scaled_dot_product_attention

    def counted(*tensors, **options):
        calls.append([x.is_contiguous() for x in tensors])
        assert not options
        return of_pytorch(*tensors)

    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", counted)
    tensors = [torch.tensor(x) for x in rows(7, 7, 7)]
    program = torch.compile(attention, backend="eager", fullgraph=True)
    np.testing.assert_allclose(array(program(*tensors)), formula(*rows(7, 7, 7)), atol=1e-5)
    assert calls == [[False] * 3]


def gradients(function, tensors):
    import tensorflow as tf

    with tf.GradientTape() as tape:
        tape.watch(tensors)
        loss = tf.reduce_sum(tf.square(function(*tensors)))
    return tape.gradient(loss, tensors)


@pytest.mark.backends("tensorflow")
@pytest.mark.parametrize("way", ["eager", "graph", "xla"])
def test_what_tensorflow_computes_once_more_has_the_same_gradients(monkeypatch, way):
    import tensorflow as tf

    tensors = [tf.constant(x) for x in rows(5, 7, 7)]
    results = []
    for platform in ("cpu", "gpu"):
        monkeypatch.setattr(module, "_platform", lambda platform=platform: platform)

        def run(*tensors):
            return gradients(attention, tensors)

        run = run if way == "eager" else tf.function(run, jit_compile=way == "xla")
        results.append([array(x) for x in run(*tensors)])
    for kept, recomputed in zip(*results, strict=True):
        np.testing.assert_allclose(recomputed, kept, atol=1e-5)


@pytest.mark.backends("tensorflow")
def test_tensorflow_keeps_no_attention_matrix_on_accelerators(monkeypatch):
    """What a forward function returns beside its result is what is kept for its gradient."""
    import tensorflow as tf

    def kept(platform):
        monkeypatch.setattr(module, "_platform", lambda: platform)
        inner = tf.function(lambda *tensors: attention(*tensors))
        outer = tf.function(lambda *tensors: gradients(inner, tensors))
        graph = outer.get_concrete_function(*[tf.TensorSpec((2, 9, 3, 4))] * 3).graph
        calls = [operation for operation in graph.get_operations() if "PartitionedCall" in operation.type]
        assert len(calls) == 2  # forward and backward
        return [tuple(output.shape) for output in calls[0].outputs]

    assert (2, 3, 9, 9) in kept("cpu")
    assert set(kept("gpu")) == {(2, 9, 3, 4)}


@pytest.mark.backends("tensorflow")
def test_a_saved_model_computes_it_once_more_too(monkeypatch, tmp_path):
    import tensorflow as tf

    monkeypatch.setattr(module, "_platform", lambda: "gpu")
    saved = tf.Module()
    saved.attend = tf.function(lambda q, k, v: attention(q, k, v), [tf.TensorSpec((None, 7, 3, 4))] * 3)
    tf.saved_model.save(saved, tmp_path)
    loaded = tf.saved_model.load(tmp_path)
    tensors = [tf.constant(x) for x in rows(7, 7, 7)]
    np.testing.assert_allclose(array(loaded.attend(*tensors)), formula(*rows(7, 7, 7)), atol=1e-5)
    for actual, expected in zip(gradients(loaded.attend, tensors), gradients(attention, tensors), strict=True):
        np.testing.assert_allclose(array(actual), array(expected), atol=1e-5)
