"""What a pre-trained MAE loses or gains where it goes on as UMD.

    python benchmarks/mae_to_umd.py

Trains an MAE on scikit-learn's digits, then goes on twice from its weights: as MAE, and as UMD, whose clean half begins
with MAE's loss. Prints the 10-shot accuracy of the features, of the class token and of the mean of the patches.

`--seeds 2 --pretraining-steps 400`, PyTorch on two CPU cores, mean and standard deviation; a short training, of 4
visible patches of 16, so that what counts is that neither is behind the other:

                     class token       mean of the patches
    MAE              0.559 +- 0.026    0.546 +- 0.006
    going on as MAE  0.590 +- 0.037    0.570 +- 0.036      200 steps
    going on as UMD  0.590 +- 0.012    0.575 +- 0.011
"""

import os

import common
import keras
import numpy as np

import keras_umd
from keras_umd.weights import from_mae

HEADS = {"num_heads": 4, "decoder_heads": 2}
SIZES = {"image_shape": (8, 8, 1), "patch_size": 2, "hidden_dim": 64, "num_layers": 3, "num_heads": 4}


def main():
    parser = common.parser(__doc__, "runs/mae_to_umd")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--pretraining-steps", type=int, default=600)
    parser.add_argument("--steps", type=int, default=200)
    args = parser.parse_args()
    print(common.versions())
    train, test = common.digits()
    rows = {}
    for seed in range(args.seeds):
        keras.utils.set_random_seed(seed)
        arrays = fresh_arrays(np.random.default_rng(seed))
        mae = trained(read(arrays, keras_umd.Corruption.mae()), train[0], args.pretraining_steps, 1e-3, seed)
        rows[f"MAE, seed {seed}"] = accuracies(mae, train, test)
        for name in ("mae", "umd"):
            model = read(arrays, getattr(keras_umd.Corruption, name)())
            take_over(model, mae)
            first = accuracies(model, train, test)
            model = trained(model, train[0], args.steps, 3e-4, seed + 1)
            rows[f"going on as {name}, seed {seed}"] = accuracies(model, train, test)
            print(f"seed {seed}, {name}: {first} {rows[f'going on as {name}, seed {seed}']}", flush=True)
        common.write_json(os.path.join(args.output, "digits.json"), rows=rows)
    for name in ("MAE", "going on as mae", "going on as umd"):
        values = np.array([list(row.values()) for key, row in rows.items() if key.startswith(f"{name}, seed")])
        shown = " ".join(f"{m:.3f} +- {s:.3f}" for m, s in zip(values.mean(0), values.std(0), strict=True))
        print(f"{name:20} {shown}")


def fresh_arrays(rng):
    """Weights of an MAE that was never trained, by the names of facebookresearch."""

    def matrix(units, inputs):
        return rng.uniform(-1, 1, (units, inputs)) * np.sqrt(6 / (units + inputs))

    def stack(path, width, number):
        arrays = {}
        for i in range(number):
            sizes = {"attn.qkv": (3, 1), "attn.proj": (1, 1), "mlp.fc1": (4, 1), "mlp.fc2": (1, 4)}
            for part, (units, inputs) in sizes.items():
                arrays[f"{path}{i}.{part}.weight"] = matrix(units * width, inputs * width)
                arrays[f"{path}{i}.{part}.bias"] = np.zeros(units * width)
            arrays |= norm(f"{path}{i}.norm1", width) | norm(f"{path}{i}.norm2", width)
        return arrays

    def norm(name, width):
        return {f"{name}.weight": np.ones(width), f"{name}.bias": np.zeros(width)}

    def places(width):
        table = keras_umd.layers.PositionEmbedding((4, 4), "sincos")
        table.build((None, None, width))
        return np.concatenate([np.zeros((1, width)), keras.ops.convert_to_numpy(table.positions.value)])[None]

    return {
        "patch_embed.proj.weight": matrix(64, 4).reshape(64, 1, 2, 2),
        "patch_embed.proj.bias": np.zeros(64),
        "cls_token": rng.normal(0, 0.02, (1, 1, 64)),
        "pos_embed": places(64),
        **stack("blocks.", 64, 3),
        **norm("norm", 64),
        "decoder_embed.weight": matrix(32, 64),
        "decoder_embed.bias": np.zeros(32),
        "mask_token": rng.normal(0, 0.02, (1, 1, 32)),
        "decoder_pos_embed": places(32),
        **stack("decoder_blocks.", 32, 1),
        **norm("decoder_norm", 32),
        "decoder_pred.weight": matrix(4, 32),
        "decoder_pred.bias": np.zeros(4),
    }


def read(arrays, corruption):
    return from_mae(arrays, standardized="half", normalize=False, corruption=corruption, **HEADS)


def take_over(model, mae):
    """Give a model the weights of the trained MAE, which are all of its own but those of the condition."""
    variables = {variable.path: variable for variable in model.network_weights}
    for variable in mae.network_weights:
        variables[variable.path].assign(keras.ops.convert_to_numpy(variable.value))


def trained(model, images, steps, rate, seed):
    keras.utils.set_random_seed(seed)
    model.compile(keras.optimizers.AdamW(rate, weight_decay=0.05, beta_2=0.95))
    order = np.random.default_rng(seed).integers(0, len(images), (steps, 128))
    model.fit(images[order.reshape(-1)], batch_size=128, verbose=0)
    return model


def accuracies(model, train, test):
    probe, result = keras_umd.evaluation.FewShotProbe(10, num_draws=10), {}
    for pooling in ("cls", "mean"):
        extractor = model.feature_extractor(pooling=pooling)
        features = [extractor.predict(images, verbose=0) for images in (train[0], test[0])]
        pairs = (features[0], train[1]), (features[1], test[1])
        result[pooling] = round(float(np.mean(probe.accuracies(*pairs))), 4)
    return result


if __name__ == "__main__":
    main()
