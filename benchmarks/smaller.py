"""What int8 and int4 cost: sizes, 10-shot accuracy, label agreement of samples, before and after.

python benchmarks/smaller.py [--model umd_digits] [--samples 500]

The accuracy is of the patches' tokens, with ten labels a class, over ten draws. The agreement is the share of samples
that the five nearest of the training images take for their label, as on the card of the preset.
"""

import os
import tempfile

import common
import numpy as np

import keras_umd
from keras_umd import evaluation

SAMPLING = {"num_steps": 20, "sampler": "dpmpp_2m", "guidance": 2.0, "seed": 0}


def int8(model):
    model.quantize("int8")
    return model


def int8_blocks(model):
    """All but the embeddings and the head."""
    names = {"query", "key", "value", "output_projection", "mlp_hidden", "mlp_output"}
    model.quantize("int8", filters=lambda layer: layer.name in names)
    return model


def int4(model):
    model.quantize("int4")
    return model


def file_size(model):
    with tempfile.TemporaryDirectory() as folder:
        model.save_weights(os.path.join(folder, "model.weights.h5"))
        return os.path.getsize(os.path.join(folder, "model.weights.h5"))


def memory(model):
    """Bytes of the network's weights; int4 kernels are packed, two to a byte."""
    return sum(np.asarray(common.keras.ops.convert_to_numpy(v)).nbytes for v in model.network_weights)


def main():
    arguments = common.parser(__doc__, "benchmarks/results/smaller.json")
    arguments.add_argument("--model", default="umd_digits")
    arguments.add_argument("--samples", type=int, default=500)
    args = arguments.parse_args()
    train, test = common.digits()
    judge = evaluation.KNNProbe(5)

    def agreement(images, labels):
        pixels = [x.reshape(len(x), -1) / 255.0 for x in (train[0], images)]
        return float(np.mean(judge.accuracies((pixels[0], train[1]), (pixels[1], labels))))

    labels = np.arange(args.samples) % 10
    rows = []
    for name, change in (("float32", lambda m: m), ("int8", int8), ("int8, blocks", int8_blocks), ("int4", int4)):
        model = change(keras_umd.UMD.from_preset(args.model))
        tokens = [_tokens(model, images) for images in (train[0], test[0])]
        shots = evaluation.FewShotProbe(10, num_draws=10).accuracies((tokens[0], train[1]), (tokens[1], test[1]))
        images = model.generate(labels, **SAMPLING)
        right = agreement(images, labels)
        rows.append([name, memory(model), file_size(model), float(np.mean(shots)), float(np.std(shots)), right])
    common.write_json(args.output, rows=rows)
    print(f"Of real test images the agreement is {agreement(*test):.3f}.")
    print("| weights | in memory, KB | file, KB | 10-shot accuracy | label agreement |\n|---|---:|---:|---:|---:|")
    for name, held, size, shots, deviation, right in rows:
        print(f"| {name} | {held / 1e3:.0f} | {size / 1e3:.0f} | {shots:.3f} ± {deviation:.3f} | {right:.3f} |")


def _tokens(model, images):
    """Of the network as it is: a feature extractor would have floats of its int8 kernels."""
    encoded = []
    for batch in np.array_split(images, 8):
        condition = model.condition(np.zeros(1, "int32"))
        tokens = model.encoder(model.prepare_images(batch), condition=condition)[1]
        encoded.append(common.keras.ops.convert_to_numpy(tokens).reshape(len(batch), -1))
    return np.concatenate(encoded)


if __name__ == "__main__":
    main()
