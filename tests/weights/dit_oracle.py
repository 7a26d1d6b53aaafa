"""DiT, SiT, MaskDiT and JiT in NumPy, by the formulas of their papers, on arrays with the names of their files."""

import numpy as np

WIDTH, HEADS, DEPTH, PATCH, CHANNELS, CLASSES, FREQUENCIES, SIDE = 32, 2, 3, 2, 4, 3, 8, 4
PLACES = (SIDE // PATCH) ** 2


def linear(x, arrays, name):
    weight = arrays[f"{name}.weight"].astype("float64")
    return x @ weight.reshape(len(weight), -1).T + arrays.get(f"{name}.bias", 0)


def silu(x):
    return x / (1 + np.exp(-x))


def gelu(x):
    return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))


def layer_norm(x, scale=None, epsilon=1e-6):
    return (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + epsilon)


def rms_norm(x, scale):
    return x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-6) * scale


def modulated(x, shift, scale):
    return x * (1 + scale[:, None]) + shift[:, None]


def patches(x):
    """(n, side, side, channels) -> (n, places, channels * patch * patch), the channels first."""
    n, side = len(x), x.shape[1] // PATCH
    x = x.reshape(n, side, PATCH, side, PATCH, -1).transpose(0, 1, 3, 5, 2, 4)
    return x.reshape(n, side * side, -1)


def images(tokens):
    """(n, places, patch * patch * channels) -> (n, side, side, channels)."""
    n, side = len(tokens), int(tokens.shape[1] ** 0.5)
    x = tokens.reshape(n, side, side, PATCH, PATCH, -1).transpose(0, 1, 3, 2, 4, 5)
    return x.reshape(n, side * PATCH, side * PATCH, -1)


def timestep(u, arrays, frequencies=None):
    half = FREQUENCIES // 2
    frequencies = 10_000.0 ** (-np.arange(half) / half) if frequencies is None else frequencies
    angles = np.asarray(u, "float64")[:, None] * frequencies
    x = np.concatenate([np.cos(angles), np.sin(angles)], axis=-1)
    return linear(silu(linear(x, arrays, "t_embedder.mlp.0")), arrays, "t_embedder.mlp.2")


def rotated(x, context):
    """Pairs of neighbours of heads (n, heads, tokens, head_dim), turned by the row and the column of their patch."""
    pairs = x.shape[-1] // 4
    rows, columns = np.divmod(np.arange(x.shape[2] - context), int((x.shape[2] - context) ** 0.5))
    frequencies = 10_000.0 ** (-np.arange(pairs) / pairs)
    angles = np.concatenate([rows[:, None] * frequencies, columns[:, None] * frequencies], axis=1)
    turns = np.exp(1j * np.concatenate([np.zeros((context, 2 * pairs)), angles]))
    turned = (x[..., ::2] + 1j * x[..., 1::2]) * turns
    return np.stack([turned.real, turned.imag], axis=-1).reshape(x.shape)


def attention(x, arrays, path, heads, context=None):
    n, tokens, width = x.shape
    qkv = linear(x, arrays, f"{path}qkv").reshape(n, tokens, 3, heads, width // heads).transpose(2, 0, 3, 1, 4)
    query, key, value = qkv
    if context is not None:
        query, key = (rms_norm(y, arrays[f"{path}{z}_norm.weight"]) for y, z in ((query, "q"), (key, "k")))
        query, key = rotated(query, context), rotated(key, context)
    logits = np.einsum("nhqd,nhkd->nhqk", query, key) / np.sqrt(width // heads)
    weights = np.exp(logits - logits.max(-1, keepdims=True))
    weights = weights / weights.sum(-1, keepdims=True)
    mixed = np.einsum("nhqk,nhkd->nhqd", weights, value).transpose(0, 2, 1, 3).reshape(n, tokens, width)
    return linear(mixed, arrays, f"{path}proj")


def block(x, condition, arrays, path, heads=HEADS, context=None):
    parts = np.split(linear(silu(condition), arrays, f"{path}adaLN_modulation.1"), 6, axis=-1)
    norm = layer_norm if context is None else rms_norm
    scales = [arrays.get(f"{path}norm{i}.weight") for i in (1, 2)]
    change = attention(modulated(norm(x, scales[0]), *parts[:2]), arrays, f"{path}attn.", heads, context)
    x = x + parts[2][:, None] * change
    y = modulated(norm(x, scales[1]), *parts[3:5])
    if context is None:
        y = linear(gelu(linear(y, arrays, f"{path}mlp.fc1")), arrays, f"{path}mlp.fc2")
    else:
        gate, hidden = np.split(linear(y, arrays, f"{path}mlp.w12"), 2, axis=-1)
        y = linear(silu(gate) * hidden, arrays, f"{path}mlp.w3")
    return x + parts[5][:, None] * y


def last(x, condition, arrays, norm=layer_norm):
    shift, scale = np.split(linear(silu(condition), arrays, "final_layer.adaLN_modulation.1"), 2, axis=-1)
    x = norm(x, arrays.get("final_layer.norm_final.weight"))
    return images(linear(modulated(x, shift, scale), arrays, "final_layer.linear"))


def dit(arrays, x, u, labels, frequencies=None):
    """DiT's outputs, of SiT too: (n, side, side, outputs); labels as indices, the last for none."""
    condition = timestep(u, arrays, frequencies) + arrays["y_embedder.embedding_table.weight"][labels]
    x = linear(patches(x), arrays, "x_embedder.proj") + arrays["pos_embed"]
    for i in range(DEPTH):
        x = block(x, condition, arrays, f"blocks.{i}.")
    return last(x, condition, arrays)


def maskdit(arrays, x, u, labels, visible=None, masked=None):
    """MaskDiT's network F: (n, side, side, channels), of some visible patches with mask tokens for the others."""
    table = arrays["y_embedder.embedding_table.weight"].T
    condition = timestep(u, arrays) + np.concatenate([table, np.zeros((1, WIDTH))])[labels]
    x = linear(patches(x), arrays, "x_embedder.proj") + arrays["pos_embed"]
    if visible is not None:
        x = np.take_along_axis(x, visible[..., None], axis=1)
    for i in range(DEPTH):
        x = block(x, condition, arrays, f"blocks.{i}.")
    shift, scale = np.split(linear(silu(condition), arrays, "decoder_layer.adaLN_modulation.1"), 2, axis=-1)
    x = linear(modulated(layer_norm(x), shift, scale), arrays, "decoder_layer.linear")
    if visible is not None:
        whole = np.repeat(np.repeat(arrays["mask_token"], len(x), axis=0), PLACES, axis=1).astype("float64")
        np.put_along_axis(whole, visible[..., None], x, axis=1)
        x = whole
    x = x + arrays["decoder_pos_embed"]
    for i in range(2):
        x = block(x, condition, arrays, f"decoder_blocks.{i}.", heads=4)
    return last(x, condition, arrays)


def jit(arrays, x, u, labels):
    """JiT's outputs, (n, side, side, channels)."""
    label = arrays["y_embedder.embedding_table.weight"][labels].astype("float64")
    condition, context = timestep(u, arrays) + label, 0
    x = linear(linear(patches(x), arrays, "x_embedder.proj1"), arrays, "x_embedder.proj2") + arrays["pos_embed"]
    for i in range(DEPTH):
        if i == DEPTH // 3:
            added = label[:, None] + arrays["in_context_posemb"]
            x, context = np.concatenate([added, x], axis=1), added.shape[1]
        x = block(x, condition, arrays, f"blocks.{i}.", context=context)
    return last(x[:, context:], condition, arrays, rms_norm)


# Random arrays with the names of the files


def linears(shapes):
    shapes = {name: shape if isinstance(shape, tuple) else (shape,) for name, shape in shapes.items()}
    return {
        **{f"{name}.weight": shape for name, shape in shapes.items()},
        **{f"{name}.bias": shape[:1] for name, shape in shapes.items()},
    }


def block_shapes(path, width, condition=WIDTH, jit=False):
    hidden = int(4 * width * 2 / 3)
    shapes = {"adaLN_modulation.1": (6 * width, condition), "attn.qkv": (3 * width, width), "attn.proj": (width, width)}
    if jit:
        shapes |= {"mlp.w12": (2 * hidden, width), "mlp.w3": (width, hidden)}
    else:
        shapes |= {"mlp.fc1": (4 * width, width), "mlp.fc2": (width, 4 * width)}
    named = linears({path + name: shape for name, shape in shapes.items()})
    if jit:
        named |= {f"{path}norm{i}.weight": (width,) for i in (1, 2)}
        named |= {f"{path}attn.{name}_norm.weight": (width // HEADS,) for name in "qk"}
    return named


def shapes(kind, outputs=CHANNELS):
    """The shapes of the arrays of a file: `"dit"` (SiT's, too), `"maskdit"` or `"jit"`."""
    last_width = 8 if kind == "maskdit" else WIDTH
    named = linears(
        {
            "t_embedder.mlp.0": (WIDTH, FREQUENCIES),
            "t_embedder.mlp.2": (WIDTH, WIDTH),
            "final_layer.adaLN_modulation.1": (2 * last_width, WIDTH),
            "final_layer.linear": (PATCH**2 * outputs, last_width),
        }
    )
    named |= {"pos_embed": (1, PLACES, WIDTH), "y_embedder.embedding_table.weight": (CLASSES + 1, WIDTH)}
    for i in range(DEPTH):
        named |= block_shapes(f"blocks.{i}.", WIDTH, jit=kind == "jit")
    if kind == "jit":
        named |= {
            "x_embedder.proj1.weight": (5, CHANNELS, PATCH, PATCH),
            **linears({"x_embedder.proj2": (WIDTH, 5, 1, 1)}),
        }
        return named | {"in_context_posemb": (1, 3, WIDTH), "final_layer.norm_final.weight": (WIDTH,)}
    named |= linears({"x_embedder.proj": (WIDTH, CHANNELS, PATCH, PATCH)})
    if kind == "maskdit":
        named |= {"y_embedder.embedding_table.weight": (WIDTH, CLASSES), "mask_token": (1, 1, 8)}
        named |= linears({"decoder_layer.linear": (8, WIDTH), "decoder_layer.adaLN_modulation.1": (2 * WIDTH, WIDTH)})
        named |= {"decoder_pos_embed": (1, PLACES, 8)}
        for i in range(2):
            named |= block_shapes(f"decoder_blocks.{i}.", 8)
    return named


def file(kind, outputs=CHANNELS, seed=0):
    """Random arrays by name, whose outputs are of the size of one."""
    rng = np.random.default_rng(seed)
    arrays = {}
    for name, shape in shapes(kind, outputs).items():
        inputs = np.prod(shape[1:]) if len(shape) in (2, 4) and "embedding_table" not in name else 4
        arrays[name] = (rng.normal(size=shape) / np.sqrt(inputs)).astype("float32")
        if "norm" in name:
            arrays[name] += 1
    return arrays
