import numpy as np
import pytest
from keras import ops

from keras_umd.backend.attention import attention
from tests.conftest import array


def formula(query, key, value, lengths=None):
    """In float64, one segment after the other."""
    mixed = []
    start = 0
    for length in lengths or (None,):
        at = slice(start, None if length is None else start + length)
        start += length or 0
        q, k, v = (x[:, at].astype("float64") for x in (query, key, value))
        logits = np.einsum("bqhd,bkhd->bhqk", q, k) * q.shape[-1] ** -0.5
        weights = np.exp(logits - logits.max(axis=-1, keepdims=True))
        mixed.append(np.einsum("bhqk,bkhd->bqhd", weights / weights.sum(axis=-1, keepdims=True), v))
    return np.concatenate(mixed, axis=1)


def rows(*lengths, batch=2, heads=3, head_dim=4):
    rng = np.random.default_rng(2)
    query, key, value = (rng.normal(size=(batch, n, heads, head_dim)).astype("float32") for n in lengths)
    return query, key * 30, value  # logits whose exponentials overflow


def test_attention_equals_its_formula():
    tensors = rows(5, 7, 7)
    np.testing.assert_allclose(array(attention(*map(ops.convert_to_tensor, tensors))), formula(*tensors), atol=1e-5)


def test_tokens_of_a_segment_attend_to_their_segment_only():
    tensors = rows(7, 7, 7)
    for lengths in ((2, 4, 1), (7,)):
        mixed = attention(*map(ops.convert_to_tensor, tensors), lengths=lengths)
        np.testing.assert_allclose(array(mixed), formula(*tensors, lengths), atol=1e-5)


def test_segments_that_are_not_those_of_the_tokens_are_refused():
    for tensors, lengths in ((rows(7, 7, 7), (2, 4)), (rows(5, 7, 7), (3, 4))):
        with pytest.raises(ValueError, match=r"`lengths` must sum up .* Received: lengths=\("):
            attention(*map(ops.convert_to_tensor, tensors), lengths=lengths)
