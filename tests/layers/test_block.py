"""Each setting of a `Block` has its property, beside formulas in NumPy."""

import math

import keras
import numpy as np
import pytest

from keras_umd.layers import Block, BlockStack, PatchEmbedding, RMSNorm, SelfAttention, TransformerBlock
from keras_umd.layers.rotary import grid_positions, rotate, rotation
from keras_umd.models.decoders import Decoder
from keras_umd.models.encoder import Encoder
from tests.conftest import array, in_one_program, trained_like
from tests.layers.test_transformer import gradient

RNG = np.random.default_rng(0)
TOKENS = RNG.normal(size=(2, 6, 16)).astype("float32")
CONDITION = RNG.normal(size=(2, 16)).astype("float32")
POSITIONS = grid_positions((2, 3))[None]
EVERYTHING = Block.modern(registers=2, in_context=3, value_residual=True, bottleneck=5)
WAYS = {"scan": {"scan_blocks": True}, "both": {"scan_blocks": True, "remat": True}}


def built(layer, *shapes):
    layer.build(*(shapes or (TOKENS.shape,)))
    return trained_like(layer)


# Normalisation and MLP


@pytest.mark.parametrize("dtype", ["float32", "mixed_bfloat16"])
def test_rms_norm_equals_its_formula(dtype):
    norm = RMSNorm(dtype=dtype)
    norm.build(TOKENS.shape)
    gain, shift, scale = RNG.normal(size=(3, 2, 1, 16)).astype("float32")
    norm.scale.assign(gain[0, 0])
    tokens = keras.ops.cast(TOKENS + 3, norm.compute_dtype)
    x = array(keras.ops.cast(tokens, "float32")).astype("float64")
    expected = x / np.sqrt((x**2).mean(axis=-1, keepdims=True) + 1e-6) * gain[0, 0]
    tolerance = {"atol": 1e-5} if dtype == "float32" else {"rtol": 2**-7, "atol": 0.02}
    for given, value in (((), expected), ((shift, scale), expected * (1 + scale) + shift)):
        result = norm(tokens, *(keras.ops.convert_to_tensor(x) for x in given))
        assert keras.backend.standardize_dtype(result.dtype) == norm.compute_dtype
        np.testing.assert_allclose(array(keras.ops.cast(result, "float32")), value, **tolerance)


def test_swiglu_equals_its_formula():
    block = built(TransformerBlock(2, conditioning=None, block=Block(mlp="swiglu")))
    assert block.mlp_gate.kernel.shape == block.mlp_hidden.kernel.shape == (16, 42)  # of 4 * 16 * 2 / 3
    for weight in block.attention.output_projection.weights:
        weight.assign(np.zeros(weight.shape))
    norm, gate, hidden, output = (
        [array(weight) for weight in layer.weights]
        for layer in (block.mlp_norm, block.mlp_gate, block.mlp_hidden, block.mlp_output)
    )
    x = (TOKENS - TOKENS.mean(axis=-1, keepdims=True)) / np.sqrt(TOKENS.var(axis=-1, keepdims=True) + 1e-6)
    x = x * norm[0] + norm[1]
    a, b = x @ gate[0] + gate[1], x @ hidden[0] + hidden[1]
    expected = TOKENS + (a / (1 + np.exp(-a)) * b) @ output[0] + output[1]
    np.testing.assert_allclose(array(block(TOKENS)), expected, atol=1e-4)


# Attention


def test_the_scale_of_queries_and_keys_does_not_matter_behind_their_norm():
    attention = built(SelfAttention(2, block=Block(qk_norm=True)))
    before = array(attention(TOKENS))
    for weight in (*attention.query.weights, *attention.key.weights):
        weight.assign(10 * array(weight))
    np.testing.assert_allclose(array(attention(TOKENS)), before, atol=1e-4)
    attention.query_norm.scale.assign(2 * array(attention.query_norm.scale))
    assert np.abs(array(attention(TOKENS)) - before).max() > 1e-2


@pytest.mark.parametrize("grid", [(7,), (2, 3), (2, 2, 3), (2, 1, 2, 2)])
def test_a_rotation_is_a_product_of_complex_numbers_and_logits_see_differences_alone(grid):
    num_axes, half = len(grid), 5  # the pairs that are left over don't turn
    query, key = RNG.normal(size=(2, 1, int(np.prod(grid)) + 1, 1, 2 * half)).astype("float32")
    pairs = half // num_axes
    frequencies = 100.0 ** (-np.arange(pairs) / pairs)

    def turned(x, positions):
        return array(rotate(x, *rotation(keras.ops.convert_to_tensor(positions), x.shape[1], 2 * half, 100.0)))

    positions = grid_positions(grid)[None]
    angles = np.zeros((query.shape[1], half))
    angles[1:, : num_axes * pairs] = (positions[0, :, :, None] * frequencies).reshape(len(positions[0]), -1)
    complex_query = (query[0, :, 0, :half] + 1j * query[0, :, 0, half:]) * np.exp(1j * angles)
    expected = np.concatenate([complex_query.real, complex_query.imag], axis=-1)
    np.testing.assert_allclose(turned(query, positions)[0, :, 0], expected, atol=1e-5)

    def logits(shift):
        return np.einsum("bqhd,bkhd->bqk", *(turned(x[:, 1:], positions + shift) for x in (query, key)))

    np.testing.assert_allclose(logits(np.array([-3, 5, 1, 8][:num_axes])), logits(0), atol=1e-4)
    unturned = np.einsum("bqhd,bkhd->bqk", query[:, 1:], key[:, 1:])
    assert np.abs(logits(0) - unturned).max() > 0.1


def test_rotated_tokens_may_come_in_any_order_with_a_place_each():
    """A masked image has its visible patches in the order of the mask."""
    block = built(TransformerBlock(2, conditioning="token", block=Block(rope=True)))
    places, order = np.repeat(POSITIONS, 2, axis=0), np.array([[3, 1, 4, 0, 2, 5], [5, 4, 3, 2, 1, 0]])
    first = array(block(TOKENS, CONDITION, positions=places))
    moved = [np.take_along_axis(x, order[..., None], axis=1) for x in (TOKENS, places)]
    actual = array(block(moved[0], CONDITION, positions=moved[1]))
    np.testing.assert_allclose(actual, np.take_along_axis(first, order[..., None], axis=1), atol=1e-5)
    assert np.abs(array(block(moved[0], CONDITION, positions=places)) - actual).max() > 1e-3
    last = block(TOKENS, CONDITION, positions=places, num_outputs=2)
    np.testing.assert_allclose(array(last), first[:, -2:], atol=1e-5)


def test_values_are_mixed_with_those_of_the_first_block():
    attention = built(SelfAttention(2, block=Block(value_residual=True)))
    first = RNG.normal(size=(2, 4, 2, 8)).astype("float32")  # two tokens have joined since

    def mixed(share):
        attention.value_mix.assign(share)
        return array(attention(TOKENS, first_value=keras.ops.convert_to_tensor(first)))

    assert array(built(SelfAttention(2, block=Block())).value.bias).shape == (16,)
    # Attention is linear in its values.
    np.testing.assert_allclose(mixed(0.3), 0.3 * mixed(1.0) + 0.7 * mixed(0.0), atol=1e-5)
    np.testing.assert_allclose(mixed(0.0), array(attention(TOKENS)), atol=1e-5)
    assert np.abs(mixed(1.0) - mixed(0.0)).max() > 1e-2


@pytest.mark.parametrize("conditioning", ["adaln_zero", "token"])
def test_a_stack_whose_values_are_not_mixed_is_a_plain_one(conditioning):
    plain = built(BlockStack(3, 2, conditioning=conditioning))
    mixing = BlockStack(3, 2, conditioning=conditioning, block=Block(value_residual=True))
    mixing.build(TOKENS.shape)
    mixes = [v for v in mixing.weights if v.name == "value_mix"]
    assert [float(array(mix)) for mix in mixes] == [0.5, 0.5]  # the first block has none
    others = [v for v in mixing.weights if v.name != "value_mix"]
    for own, other in zip(others, plain.weights, strict=True):
        own.assign(array(other))
    for mix in mixes:
        mix.assign(0.0)
    expected = array(plain(TOKENS, CONDITION))
    np.testing.assert_allclose(array(mixing(TOKENS, CONDITION)), expected, atol=1e-5)
    mixing[2].attention.value_mix.assign(1.0)
    assert np.abs(array(mixing(TOKENS, CONDITION)) - expected).max() > 1e-3


# Stacks


def tokens_seen(stack, monkeypatch, *inputs, **options):
    """The number of tokens that the attention of each block gets."""
    numbers = []
    for block in stack:
        call = block.attention.call

        def counted(tokens, *args, call=call, **kwargs):
            numbers.append(tokens.shape[1])
            return call(tokens, *args, **kwargs)

        monkeypatch.setattr(block.attention, "call", counted)
    return numbers, stack(*inputs, **options)


def test_tokens_in_context_join_at_a_third_and_registers_at_once(monkeypatch):
    stack = built(BlockStack(6, 2, block=Block(registers=2, in_context=3)))
    numbers, outputs = tokens_seen(stack, monkeypatch, TOKENS, CONDITION)
    assert numbers == [8, 8, 11, 11, 11, 11] and outputs.shape == TOKENS.shape
    at_once = built(BlockStack(2, 2, conditioning="token", block=Block(in_context=3), in_context_from=0))
    assert tokens_seen(at_once, monkeypatch, TOKENS, CONDITION)[0] == [10, 10]  # with the condition's own
    before = array(stack(TOKENS, CONDITION))
    for weight in (stack.registers, stack.context_positions):
        weight.assign(RNG.normal(size=weight.shape))
        after = array(stack(TOKENS, CONDITION))
        assert np.abs(after - before).max() > 1e-3  # the tokens attend to them
        before = after


@pytest.mark.parametrize("conditioning", ["adaln_zero", "token"])
@pytest.mark.parametrize("way", ["remat", *(pytest.param(way, marks=pytest.mark.backends("jax")) for way in WAYS)])
def test_a_modern_stack_is_the_same_however_it_is_run(way, conditioning):
    def outputs(how, **options):
        keras.utils.set_random_seed(0)
        stack = BlockStack(5, 2, conditioning=conditioning, block=EVERYTHING, **how)
        stack = built(stack, TOKENS.shape, CONDITION.shape)
        run = in_one_program(lambda *inputs: stack(*inputs, positions=POSITIONS, **options))
        return keras.tree.flatten(run(TOKENS, CONDITION))

    options = {"collect": (1, 3, 5), "num_outputs": 4}
    ways = {"remat": {"remat": True}, **WAYS}
    for actual, expected in zip(outputs(ways[way], **options), outputs({}, **options), strict=True):
        np.testing.assert_allclose(array(actual), array(expected), rtol=1e-5, atol=1e-5)


@pytest.mark.backends("jax")  # only JAX has the scan
def test_a_scan_is_cut_where_tokens_join_and_behind_the_first_block():
    import jax

    stack = built(BlockStack(9, 2, block=EVERYTHING, scan_blocks=True))
    jaxpr = jax.make_jaxpr(lambda tokens: stack(tokens, CONDITION, positions=POSITIONS))(TOKENS)
    lengths = [eqn.params["length"] for eqn in jaxpr.eqns if eqn.primitive.name == "scan"]
    assert lengths == [2, 5]  # one alone, two before the tokens in context, the last without them


# Around the stacks


@pytest.mark.parametrize("num_axes", [1, pytest.param(3, marks=pytest.mark.host), 4])
def test_encoders_and_decoders_rotate_along_any_number_of_axes(num_axes):
    images = RNG.normal(size=(2, *(4, 2, 2, 2)[:num_axes], 1)).astype("float32")
    sizes = {"num_layers": 1, "num_heads": 2, "conditioning": None, "block": Block(rope=True)}
    encoder = Encoder((2, 1, 1, 1)[:num_axes], 16, **sizes)
    representation, tokens = encoder(images)
    grid = encoder.position_embedding.grid
    assert tokens.shape == (2, np.prod(grid), 16)
    decoder = Decoder((2, 1, 1, 1)[:num_axes], grid, 1, **sizes, pixel_predictions=("first",))
    visible, masked = (np.array([order, order]) for order in ([1], [0, *range(2, np.prod(grid))]))
    given = {"visible": visible, "masked": masked, "read": {"first": "masked"}}
    if np.prod(grid) > 1:
        outputs = decoder(representation, tokens[:, :1], **given)
        assert outputs["first"].shape == (2, np.prod(grid) - 1, 2)


def test_patches_pass_the_bottleneck():
    embedding = PatchEmbedding(2, 16, bottleneck=3)
    patches = RNG.normal(size=(2, 5, 4)).astype("float32")
    outputs = array(embedding(patches))
    reduction, projection = (
        [array(weight) for weight in x.weights] for x in (embedding.reduction, embedding.projection)
    )
    assert [x.shape for x in (*reduction, *projection)] == [(4, 3), (3, 16), (16,)]
    np.testing.assert_allclose(outputs, patches @ reduction[0] @ projection[0] + projection[1], atol=1e-5)


def decoder_of(**settings):
    sizes = {"patch_size": 2, "grid": (2, 3), "channels": 1, "num_layers": 1, "num_heads": 2}
    keras.utils.set_random_seed(0)
    decoder = Decoder(**sizes, pixel_predictions=("first",), block=Block(**settings))
    decoder.build((None, 16), (None, None, 16))
    return trained_like(decoder)


def test_class_tokens_have_gradients_of_their_own_where_all_reach_the_decoder():
    class_tokens = RNG.normal(size=(2, 3, 16)).astype("float32")
    decoder = decoder_of(cls_to_decoder="all")

    def slopes(pool):
        def loss(x):
            return keras.ops.sum(keras.ops.square(decoder(pool(x), TOKENS, CONDITION)["first"]))

        return gradient(loss, class_tokens)

    alike, different = slopes(lambda x: keras.ops.mean(x, axis=1)), slopes(lambda x: x)
    np.testing.assert_allclose(alike[:, 0], alike[:, 1], rtol=1e-4, atol=1e-6)
    assert np.abs(different[:, 0] - different[:, 1]).max() > 0.1 * np.abs(different).max()


def test_self_conditioning_starts_as_none_and_adds_to_the_condition():
    plain, conditioned = decoder_of(), decoder_of(self_conditioning=True)
    values = {v.path: array(v) for v in plain.weights}
    for variable in conditioned.weights:
        if variable.path in values:
            variable.assign(values[variable.path])
    kernel = conditioned.self_conditioning.kernel
    kernel.assign(np.zeros(kernel.shape))
    representation = RNG.normal(size=(2, 16)).astype("float32")
    expected = array(plain(representation, TOKENS, CONDITION)["first"])
    np.testing.assert_array_equal(array(conditioned(representation, TOKENS, CONDITION)["first"]), expected)
    kernel.assign(np.eye(16))
    normalized = array(conditioned.self_conditioning_norm(representation))
    moved = array(plain(representation, TOKENS, CONDITION + normalized)["first"])
    np.testing.assert_allclose(array(conditioned(representation, TOKENS, CONDITION)["first"]), moved, atol=1e-5)
    assert np.abs(moved - expected).max() > 1e-3


# The object


@pytest.mark.host
def test_a_block_is_its_settings():
    block = Block.modern(registers=4)
    assert (block.norm, block.mlp, block.in_context, block.registers) == ("rms", "swiglu", 32, 4)
    revived = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(block))
    assert revived == block != Block() and hash(revived) == hash(block)
    assert Block().get_config() == {
        "qk_norm": False,
        "norm": "layer",
        "rope": False,
        "rope_theta": 10_000.0,
        "mlp": "gelu",
        "value_residual": False,
        "registers": 0,
        "in_context": 0,
        "bottleneck": None,
        "cls_to_decoder": "mean",
        "self_conditioning": False,
        "epsilon": 1e-6,
        "layer_scale": None,
        "positions": "learned",
    }


def encoder_of(image_shape=(4, 4, 1), num_heads=2, conditioning="adaln_zero", **settings):
    encoder = Encoder(1, 8, 1, num_heads, conditioning=conditioning, block=Block(**settings))
    encoder.build((None, *image_shape))
    return encoder


@pytest.mark.host
@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Block(norm="batch"), "`norm` must be one of .* Received: norm='batch'"),
        (lambda: BlockStack(1, 2, block="modern"), "`block` must be a keras_umd.layers.Block or None"),
        (lambda: encoder_of(rope=True, num_heads=4, image_shape=(4, 4, 1)), "at least 4.* Received: heads of width 2"),
        (lambda: SelfAttention(2, Block(rope=True))(TOKENS), "needs the `positions`"),
        (lambda: encoder_of(in_context=2, conditioning=None), "Received: conditioning=None, block=Block"),
        (lambda: BlockStack(3, 2, in_context_from=3), "`in_context_from` must be an integer from 0 to 2"),
        (
            lambda: Decoder(2, (2, 2), 1, 1, 2, None, pixel_predictions=("a",), block=Block(self_conditioning=True)),
            "Received: conditioning=None",
        ),
    ],
)
def test_wrong_settings_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()


# What other codebases' encoders have


def test_exact_gelu_has_the_error_function():
    block = built(TransformerBlock(2, conditioning=None, block=Block(mlp="exact_gelu")))
    hidden = array(block.mlp_hidden(TOKENS)).astype("float64")
    erf = np.vectorize(math.erf)
    expected = array(block.mlp_output((0.5 * hidden * (1 + erf(hidden / np.sqrt(2)))).astype("float32")))
    np.testing.assert_allclose(array(block._mlp(TOKENS)), expected, atol=2e-6)
    tanh = built(TransformerBlock(2, conditioning=None))
    for own, other in zip(tanh.variables, block.variables, strict=True):
        own.assign(other)
    assert 1e-5 < np.abs(array(tanh._mlp(TOKENS)) - expected).max() < 1e-2


@pytest.mark.parametrize("norm", ["layer", "rms"])
def test_epsilon_is_added_to_the_variance_of_every_norm(norm):
    block = TransformerBlock(2, conditioning=None, block=Block(norm=norm, epsilon=0.5))
    block.build(TOKENS.shape)
    x = TOKENS.astype("float64")
    centered = x - x.mean(-1, keepdims=True) if norm == "layer" else x
    expected = centered / np.sqrt((centered**2).mean(-1, keepdims=True) + 0.5)
    for layer in (block.attention_norm, block.mlp_norm):
        np.testing.assert_allclose(array(layer(TOKENS)), expected, atol=1e-5)


@pytest.mark.parametrize("conditioning", ["adaln_zero", "token", None])
def test_layer_scale_multiplies_the_branches(conditioning):
    """As if the projections before it had the product as their weights."""
    block = built(TransformerBlock(2, conditioning=conditioning, block=Block(layer_scale=0.25)))
    plain = built(TransformerBlock(2, conditioning=conditioning))
    assert abs(array(block.attention_scale).mean() - 0.25) < 0.1  # where it starts, but for what `built` adds
    scales = np.random.default_rng(0).normal(size=(2, 16)).astype("float32")
    block.attention_scale.assign(scales[0])
    block.mlp_scale.assign(scales[1])
    values = {v.path.split("/", 1)[1]: array(v) for v in block.variables}
    for variable in plain.variables:
        variable.assign(values[variable.path.split("/", 1)[1]])
    for layer, scale in ((plain.attention.output_projection, scales[0]), (plain.mlp_output, scales[1])):
        layer.kernel.assign(array(layer.kernel) * scale)
        layer.bias.assign(array(layer.bias) * scale)
    outputs = (array(layer(TOKENS, None if conditioning is None else CONDITION)) for layer in (block, plain))
    np.testing.assert_allclose(*outputs, atol=1e-5)
