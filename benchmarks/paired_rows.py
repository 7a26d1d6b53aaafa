"""Rows that hold a clean and a noisy image, `pack=True`, beside views that run one after the other.

    python benchmarks/paired_rows.py                                  # S/4, B/4 and L/2: counts, and a block's time
    python benchmarks/paired_rows.py --steps 2                        # whole steps of S/4 besides; minutes
    python benchmarks/paired_rows.py --synthetic --steps 2            # small models, to see that it works

JAX only. Counted for UMD and MAE: matrix products in the lowered training step; FLOPs of an image by `keras_umd.plan`
and, with all that isn't a matrix product, by XLA; the encoder's tokens as attention pads them on a TPU, and the pairs
of tokens that it then computes. No weights are made for that. Measured in turns: CPU seconds of a block of the encoder,
forward and backward, for clean and noisy images apart and in rows, with query, key and value by three products or by
one; with `--steps`, of training steps, after which losses and weights are compared. Prints tables, writes JSON.
"""

import types

import common
import jax
import keras
import numpy as np
from compiled_step import SMALL, shapes_of_model
from keras import ops

import keras_umd
from keras_umd.backend.attention import attention
from keras_umd.backend.kernels import project
from keras_umd.layers import TransformerBlock
from keras_umd.layers.self_attention import SelfAttention
from keras_umd.models.packing import padded
from keras_umd.models.presets import preset_config

SIZES = {"S/4": "small_patch4_64", "B/4": "base_patch4_64", "L/2": "large_patch2_latent32"}


def main():
    parser = common.parser(__doc__, "runs/paired_rows.json")
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=list(SIZES))
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--steps", type=int, default=0, help="training steps of an epoch, of the first size")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--synthetic", action="store_true", help="small models instead of the sizes")
    args = parser.parse_args()
    if common.BACKEND != "jax":
        raise SystemExit(f"This counts what JAX lowers. Received: KERAS_BACKEND={common.BACKEND}")

    print(f"batch of {args.batch_size}; {common.versions()}\n")
    sizes = ["small"] if args.synthetic else args.sizes
    rows, times = [], {}
    print("              products     GFLOP an image         tokens, padded            pairs of tokens")
    print("            apart  rows   plan   XLA: apart, rows   apart | rows              apart     rows")
    for size in sizes:
        for method in ("umd", "mae"):
            row = counts(size, method, args)
            rows.append(row)
            planned, (apart, packed), products = row["planned_gflop"], row["gflop"], row["products"]
            print(
                f"{size:6}{method:5}{products[0]:6}{products[1]:6}{planned:9.2f}{apart:10.2f}{packed:9.2f}    "
                f"{tokens(row['apart'])} | {tokens(row['rows']):16}{pairs(row['apart']):9}{pairs(row['rows']):9}",
                flush=True,
            )
        times[size] = block_times(size, args)
    for size, values in times.items():
        print(f"\nblock of {size}, forward and backward: CPU seconds, and their ratio to those of views apart")
        report(values)
    trained = train(sizes[0], args) if args.steps else None
    seconds = {size: {name: of.tolist() for name, of in values.items()} for size, values in times.items()}
    common.write_json(args.output, arguments=vars(args), counts=rows, block_seconds=seconds, trained=trained)


def tokens(lengths):
    return " + ".join(f"{length} -> {padded(length)}" for length in lengths)


def pairs(lengths):
    return sum(padded(length) ** 2 for length in lengths)


def report(times):
    first = next(iter(times.values()))[:, 1]
    for name, values in times.items():
        ratio = values[:, 1] / first
        print(f"{name:28} {np.median(values[:, 1]):8.3f} s   {np.median(ratio):.3f} +- {np.std(ratio):.3f}")


# What is counted


def counts(size, method, args):
    """Products, FLOPs and tokens of one training step, of views apart and of rows."""
    settings = keras_umd.UMD.presets[method](schedule="cosine" if size != "L/2" else "linear")
    asked = types.SimpleNamespace(synthetic=args.synthetic, preset=preset(size, method), batch_size=args.batch_size)
    products, flops = [], []
    for pack in (False, True):
        model, state = shapes_of_model(asked, {**settings, "pack": pack, "seed": 0})
        dtype = "float32" if model.value_range is None else "uint8"
        images = jax.ShapeDtypeStruct((args.batch_size, *model.image_shape), dtype)
        lowered = jax.jit(model.train_step).lower(state, (images,))
        products.append(lowered.as_text().count("stablehlo.dot_general"))
        flops.append(lowered.cost_analysis()["flops"] / args.batch_size / 1e9)
    apart = lengths(model)
    return {
        "size": size,
        "method": method,
        "products": products,
        "planned_gflop": keras_umd.plan(model, args.batch_size).model_flops / args.batch_size / 1e9,
        "gflop": flops,
        "apart": apart,
        "rows": [sum(apart)],
    }


def preset(size, method):
    return None if size == "small" else f"{method}_{SIZES[size]}"


def lengths(model):
    """The tokens of an image of each view in the encoder's attention."""
    beside = model.encoder.num_cls_tokens + (model.conditioning == "token")
    return [beside + view.num_visible(model.grid) for view in model.corruption.views]


# What is measured


class OneProduct(SelfAttention):
    """Query, key and value by one matrix product, of the three kernels side by side."""

    def call(self, tokens, num_outputs=None, lengths=None, **given):
        layers = (self.query, self.key, self.value)
        kernel = ops.concatenate([layer.kernel for layer in layers], axis=1)
        bias = ops.concatenate([layer.bias for layer in layers])
        joined = ops.matmul(ops.reshape(tokens, (-1, tokens.shape[-1])), kernel) + bias
        joined = ops.reshape(joined, (-1, tokens.shape[1], 3 * tokens.shape[-1]))
        mixed = attention(*(self._heads(x) for x in ops.split(joined, 3, axis=-1)), lengths)
        return project(self.output_projection, ops.reshape(mixed, (-1, *tokens.shape[1:])))


def block_times(size, args):
    """CPU seconds of a block for half a batch of clean and half a batch of noisy images."""
    config = SMALL if size == "small" else preset_config(preset(size, "umd"), keras_umd.UMD.presets)
    dim, heads = config["hidden_dim"], config["num_heads"]
    of_images = (65, 161) if size != "small" else (5, 11)
    rng, number = np.random.default_rng(0), max(1, args.batch_size // 2)
    images = [rng.normal(size=(number, length, dim)).astype("float32") for length in of_images]
    conditions = [rng.normal(size=(number, dim)).astype("float32") for _ in of_images]

    def apart(block, images, conditions):
        return sum(ops.sum(ops.sin(block(*given))) for given in zip(images, conditions, strict=True))

    def rows(block, images, conditions):
        condition = ops.reshape(ops.stack(conditions, axis=1), (-1, dim))
        return ops.sum(ops.sin(block(ops.concatenate(images, axis=1), condition, lengths=of_images)))

    cases = {}
    for name, attention_layer in (("three products", SelfAttention), ("one product", OneProduct)):
        keras.utils.set_random_seed(0)
        block = TransformerBlock(heads)
        block.attention = attention_layer(heads, name="attention")
        block.build((None, None, dim))
        for how, function in (("apart", apart), ("rows", rows)):
            cases[f"{how}, {name}"] = gradient(function, block, images, conditions)
    return common.in_turns(cases, args.repeats)


def gradient(function, block, images, conditions):
    """A function without arguments that computes the gradients of weights and inputs."""

    def loss(values, images, conditions):
        with keras.StatelessScope(state_mapping=list(zip(block.trainable_variables, values, strict=True))):
            return function(block, images, conditions)

    run = jax.jit(jax.grad(loss, argnums=(0, 1, 2)))
    values = [variable.value for variable in block.trainable_variables]
    return lambda: jax.block_until_ready(run(values, images, conditions))


def train(size, args):
    """Time whole steps in turns, and compare losses and weights after as many of both kinds."""
    models, losses = {}, {False: [], True: []}
    for pack in losses:
        keras.utils.set_random_seed(0)
        if size == "small":
            models[pack] = keras_umd.UMD(**SMALL, pack=pack, seed=0)
        else:
            models[pack] = keras_umd.UMD.from_preset(preset(size, "umd"), pack=pack, seed=0)
        models[pack].compile(keras.optimizers.SGD(0.01))
    shape = (args.batch_size * args.steps, *models[True].image_shape)
    images = np.random.default_rng(0).integers(0, 256, shape).astype("uint8")
    if models[True].value_range is None:
        images = images.astype("float32") / 127.5 - 1

    def epoch(pack):
        history = models[pack].fit(images, batch_size=args.batch_size, shuffle=False, verbose=0).history
        losses[pack] += history["loss"]

    times = common.in_turns({"apart": lambda: epoch(False), "rows": lambda: epoch(True)}, args.repeats)
    times = {name: seconds / args.steps for name, seconds in times.items()}
    print(f"\ntraining step of {size} with SGD, CPU seconds, and their ratio to those of views apart")
    report(times)
    loss_error = float(np.max(np.abs(np.divide(losses[True], losses[False]) - 1)))
    weights = zip(models[True].get_weights(), models[False].get_weights(), strict=True)
    weight_error = max(float(np.max(np.abs(ours - theirs), initial=0)) for ours, theirs in weights)
    steps = len(losses[True]) * args.steps
    print(f"after {steps} steps: losses differ by {loss_error:.1e} at most, weights by {weight_error:.1e}")
    return {
        "seconds": {name: seconds.tolist() for name, seconds in times.items()},
        "loss_error": loss_error,
        "weight_error": weight_error,
    }


if __name__ == "__main__":
    main()
