"""Flash attention on JAX: cuDNN's on GPUs, splash attention on TPUs. Neither writes the attention matrix to memory.

With a `keras.distribution`, each device runs the kernel on its own images, and on its own heads if the mesh has a
second axis: a compiler, which can't divide a kernel, would gather all of them on every device.
"""

import keras

from keras_umd.backend.frameworks import jax

LANES = 128  # of a TPU's registers: the kernel takes rows of a multiple of it
LARGEST_BLOCK = 640  # rows and columns of a block; four of them in float32 fill less than half of a core's 16 MiB


def cudnn_attention(query, key, value):
    """Scaled dot-product attention by cuDNN, in 16 bits.

    Args:
        query: Tensor of shape `(batch, queries, heads, head_dim)`, bfloat16 or float16.
        key, value: Tensors of shape `(batch, tokens, heads, head_dim)`.

    Returns:
        Tensor of the shape and type of `query`.

    Raises:
        Whatever JAX raises where it can't: for other types, widths of a head, cards or versions of cuDNN.
    """
    return _on_each_device(_on_a_gpu, query, key, value)


def splash_attention(query, key, value, lengths=None, interpret=False):
    """Scaled dot-product attention on a TPU, over all tokens or within segments of them.

    Keras' own call of this kernel is causal where no mask is given, and doesn't scale (Keras 3.15 and 3.16).

    Args:
        query: Tensor of shape `(batch, queries, heads, head_dim)`, float32 or bfloat16.
        key, value: Tensors of shape `(batch, tokens, heads, head_dim)`.
        lengths: Tuple of Python integers, the lengths of the segments, or `None`.
        interpret: Bool. Run the kernel step by step on any device, as tests do.

    Returns:
        Tensor of the shape and type of `query`.
    """
    return _on_each_device(lambda *row: _on_a_tpu(*row, lengths, interpret), query, key, value)


def _on_each_device(attend, query, key, value):
    distribution = keras.distribution.distribution()
    if distribution is None:
        return attend(query, key, value)
    mesh = distribution.device_mesh
    sizes = dict(zip(mesh.axis_names, mesh.shape, strict=True))
    images = distribution.batch_dim_name
    heads = next((axis for axis in mesh.axis_names if axis != images), None)
    axes = [images if query.shape[0] % sizes[images] == 0 else None, None]
    axes += [heads if heads and query.shape[2] % sizes[heads] == 0 else None, None]
    layout = jax.sharding.PartitionSpec(*axes)
    spread = {"in_specs": (layout,) * 3, "out_specs": layout}
    # Kernels don't tell JAX over which axes their results vary, so that it can't check it.
    return jax.shard_map(attend, mesh=mesh.backend_mesh, **spread, check_vma=False)(query, key, value)


def _padded(x, multiple):
    """`x` with as many tokens more, of zeros, as make their number a multiple."""
    missing = -x.shape[1] % multiple
    return jax.numpy.pad(x, ((0, 0), (0, missing), (0, 0), (0, 0))) if missing else x


def _on_a_gpu(query, key, value):
    """Odd numbers of tokens get one more: JAX (0.10.2) refuses their gradient, as if there were a bias."""
    rows = [_padded(x, 2) for x in (query, key, value)]
    lengths = {}
    if key.shape[1] % 2:
        lengths["key_value_seq_lengths"] = jax.numpy.full(key.shape[0], key.shape[1], "int32")
    return jax.nn.dot_product_attention(*rows, implementation="cudnn", **lengths)[:, : query.shape[1]]


def _on_a_tpu(query, key, value, lengths, interpret):
    queries, tokens = query.shape[1], key.shape[1]
    rows = [_padded(x, LANES) for x in (query * query.shape[-1] ** -0.5, key, value)]
    num_rows = (rows[0].shape[1], rows[1].shape[1])
    kernel = _splash_kernel(query.shape[2], *num_rows, interpret)
    segments = _segments(queries, tokens, *num_rows, lengths)
    mixed = jax.vmap(lambda *row: kernel(*row, segment_ids=segments))(
        *(jax.numpy.transpose(x, (0, 2, 1, 3)) for x in rows)  # (batch, heads, rows, head_dim)
    )
    return jax.numpy.transpose(mixed[:, :, :queries], (0, 2, 1, 3))


def _segments(queries, tokens, query_rows, token_rows, lengths):
    """The segment of each row: padding has one of its own among the tokens, and as query attends to the first."""
    from jax.experimental.pallas.ops.tpu.splash_attention import SegmentIds

    if lengths is None and tokens == token_rows:
        return None
    lengths = lengths or (tokens,)
    of_tokens = jax.numpy.repeat(jax.numpy.arange(len(lengths)), jax.numpy.array(lengths), total_repeat_length=tokens)
    of_queries = of_tokens if len(lengths) > 1 else jax.numpy.zeros(queries, "int32")
    return SegmentIds(
        q=jax.numpy.pad(of_queries, (0, query_rows - queries)),
        kv=jax.numpy.pad(of_tokens, (0, token_rows - tokens), constant_values=-1),
    )


def _splash_kernel(heads, query_rows, token_rows, interpret):
    """The kernel for rows of these lengths, in the largest blocks that divide them.

    Rows of a ViT are short: most are one block, so that a head is one step of the grid. In blocks of 128, the kernel's
    default, the steps' own time would count. With one block of tokens the backward pass is one kernel, which computes
    the attention matrix once; with more it would write a gradient of the queries for each of them, so that queries and
    tokens have a kernel each.
    """
    from jax.experimental.pallas.ops.tpu import splash_attention as splash

    block_q, block_kv = (
        max(size for size in range(LANES, LARGEST_BLOCK + 1, LANES) if rows % size == 0)
        for rows in (query_rows, token_rows)
    )
    fused = block_kv == token_rows
    backward = {"use_fused_bwd_kernel": True} if fused else {"block_q_dq": block_q, "block_kv_dq": block_kv}
    blocks = splash.BlockSizes(
        block_q=block_q, block_kv=block_kv, block_q_dkv=block_q, block_kv_dkv=block_kv, **backward
    )
    mask = splash.MultiHeadMask([splash.FullMask((query_rows, token_rows))] * heads)
    return splash.make_splash_mha(mask, block_sizes=blocks, head_shards=1, q_seq_shards=1, interpret=interpret)
