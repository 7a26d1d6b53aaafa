"""The same network in flax and optax, as `plain_torch.py` has it in PyTorch."""

import time

import flax
import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from device.sizes import SIZES, views

WARM_UP, STEPS = 3, 20


class Block(nn.Module):
    """A transformer block whose norms are modulated by a condition, AdaLN-zero."""

    width: int
    heads: int

    @nn.compact
    def __call__(self, x, condition):  # (batch, tokens, width), (batch, width)
        modulation = nn.Dense(6 * self.width, dtype=jnp.bfloat16)(condition)[:, None]
        shift0, scale0, gate0, shift1, scale1, gate1 = jnp.split(modulation, 6, axis=-1)
        y = norm(x) * (1 + scale0) + shift0
        q, k, v = (nn.Dense(self.width, dtype=jnp.bfloat16)(y).reshape(*y.shape[:2], self.heads, -1) for _ in range(3))
        y = attention(q, k, v).reshape(y.shape)
        x = x + gate0 * nn.Dense(self.width, dtype=jnp.bfloat16)(y)
        y = nn.Dense(4 * self.width, dtype=jnp.bfloat16)(norm(x) * (1 + scale1) + shift1)
        return x + gate1 * nn.Dense(self.width, dtype=jnp.bfloat16)(nn.gelu(y))


def norm(x):
    return nn.LayerNorm(1e-6, dtype=jnp.float32)(x).astype(jnp.bfloat16)


def attention(q, k, v):
    """cuDNN's flash attention on GPUs, whose gradient JAX refuses for an odd number of tokens: one is added."""
    if jax.default_backend() != "gpu":
        return jax.nn.dot_product_attention(q, k, v)
    tokens = q.shape[1]
    padded = [jnp.pad(x, ((0, 0), (0, tokens % 2), (0, 0), (0, 0))) for x in (q, k, v)]
    lengths = jnp.full(len(q), tokens, jnp.int32)
    lengths = {"query_seq_lengths": lengths, "key_value_seq_lengths": lengths} if tokens % 2 else {}
    return jax.nn.dot_product_attention(*padded, implementation="cudnn", **lengths)[:, :tokens]


class Network(nn.Module):
    """Encoder of the visible patches, decoder of all, and both predictions."""

    width: int
    heads: int
    encoder: int
    decoder: int

    @nn.compact
    def __call__(self, patches, level, order, visible):
        number, length, values = patches.shape
        small = nn.initializers.normal(0.02)
        cls, mask = (self.param(name, small, (1, 1, self.width)) for name in ("cls", "mask"))
        positions, places = (self.param(name, small, (1, length, self.width)) for name in ("positions", "places"))
        condition = nn.Dense(2 * self.width, dtype=jnp.bfloat16)(level)
        condition = nn.silu(nn.Dense(self.width, dtype=jnp.bfloat16)(nn.silu(condition)))
        index = order[:, :visible, None]
        x = nn.Dense(self.width, dtype=jnp.bfloat16)(jnp.take_along_axis(patches, index, axis=1))
        x = x + jnp.take_along_axis(positions, index, axis=1).astype(x.dtype)
        x = jnp.concatenate([jnp.broadcast_to(cls, (number, 1, self.width)).astype(x.dtype), x], axis=1)
        for _ in range(self.encoder):
            x = Block(self.width, self.heads)(x, condition)
        x = norm(x)
        masked = jnp.broadcast_to(mask, (number, length - visible, self.width)).astype(x.dtype)
        placed = jnp.concatenate([x[:, 1:], masked], axis=1)
        placed = placed + jnp.take_along_axis(places, order[:, :, None], axis=1).astype(x.dtype)
        x = jnp.concatenate([x[:, :1], placed], axis=1)
        for _ in range(self.decoder):
            x = Block(self.width, self.heads)(x, condition)
        modulation = nn.Dense(2 * self.width, dtype=jnp.bfloat16)(condition)[:, None]
        shift, scale = jnp.split(modulation, 2, axis=-1)
        return nn.Dense(2 * values, dtype=jnp.float32)(norm(x[:, 1:]) * (1 + scale) + shift)


def steps(setting, size, batch_size):
    """Training steps of UMD and of DiT, jitted, in bfloat16 with float32 weights, AdamW and clipped gradients.

    Args:
        setting: `Setting`.
        size: String, a preset of pixels without its method.
        batch_size: Integer.
    """
    sizes = SIZES["tiny" if setting.tiny else size]
    result = {"flax": flax.__version__, "jax": jax.__version__}
    for method in ("umd", "dit"):
        number = 4 if setting.tiny else batch_size
        seconds, first = timed_steps(setting, sizes, views(method, sizes, number))
        result[method] = {
            "batch_size": number,
            "seconds": seconds,
            "images_per_second": number / seconds,
            "first_seconds": first,
        }
    return result


def timed_steps(setting, sizes, shares):
    """Mean seconds of a step, and those of the first, which compiles."""
    network = Network(sizes.width, sizes.heads, sizes.encoder, sizes.decoder)
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(1e-4, 0.9, 0.95, weight_decay=0.05))

    def drawn(key, number):
        keys = jax.random.split(key, 4)
        x0, noise = (jax.random.normal(k, (number, sizes.patches, sizes.values)) for k in keys[:2])
        level = jax.random.uniform(keys[2], (number, 1))
        order = jnp.argsort(jax.random.uniform(keys[3], (number, sizes.patches)), axis=1)
        x = jnp.sqrt(1 - level[:, :, None]) * x0 + jnp.sqrt(level[:, :, None]) * noise
        target = jnp.take_along_axis(jnp.concatenate([x0, noise], axis=-1), order[:, :, None], axis=1)
        return x, jnp.broadcast_to(level, (number, sizes.width)), order, target

    def loss_of(params, key):
        losses = []
        for part, (number, visible) in zip(jax.random.split(key, len(shares)), shares, strict=True):
            *inputs, target = drawn(part, number)
            losses.append(jnp.mean((network.apply(params, *inputs, visible) - target) ** 2))
        return sum(losses) / len(losses)

    def step(params, state, key):
        updates, state = optimizer.update(jax.grad(loss_of)(params, key), state, params)
        return optax.apply_updates(params, updates), state

    *inputs, _ = drawn(jax.random.key(0), 1)
    params = jax.jit(network.init, static_argnums=4)(jax.random.key(0), *inputs, shares[0][1])
    trained = [params, optimizer.init(params)]
    run = jax.jit(step, donate_argnums=(0, 1))

    def timed(number):
        start = time.perf_counter()
        for i in range(number):
            trained[:] = run(*trained, jax.random.key(i))
        jax.block_until_ready(trained)
        return (time.perf_counter() - start) / number

    first = timed(1)
    timed(1 if setting.tiny else WARM_UP)
    return timed(2 if setting.tiny else STEPS), first
