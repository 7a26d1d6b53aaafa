"""Time of evaluation beside the networks alone, and its memory.

    python benchmarks/evaluation.py                              # half an hour on two cores
    KERAS_BACKEND=tensorflow python benchmarks/evaluation.py     # Inception is the fastest there, on a CPU

The Inception network has random weights here: what it costs doesn't depend on them. Prints a table, writes JSON.
"""

import json
import os
import resource
import tempfile

import common
import keras
import numpy as np
from common import timed

import keras_umd
from keras_umd import callbacks, evaluation


def main():
    parser = common.parser(__doc__, "runs/evaluation.json")
    parser.add_argument("--num-images", type=int, default=2000, help="through Inception")
    parser.add_argument("--num-features", type=int, default=50_000, help="for statistics and memory")
    parser.add_argument("--only", choices=("memory", "few_shot", "statistics", "monitor", "fid"), nargs="+")
    args = parser.parse_args()
    measurements = {
        "memory": ("memory of 50,000 images' scores, beyond the network", lambda: memory(args.num_features)),
        "few_shot": ("few-shot probe, 100,000 x 768, 1000 classes", few_shot),
        "statistics": ("statistics of 50,000 x 2048 features", lambda: statistics(args.num_features)),
        "monitor": ("Monitor's share of a training", monitor),
        "fid": ("FID beside Inception alone", lambda: fid(args.num_images)),
    }
    rows = {}
    for key in args.only or measurements:
        name, measure = measurements[key]
        rows[name] = measure()
        print(f"{name}: " + ", ".join(f"{key} {value:.4g}" for key, value in rows[name].items()), flush=True)
    common.write_json(args.output, arguments=vars(args), rows=rows)


def memory(num_images):
    """Peak memory of all scores but the neighbourhoods, the reference's features included."""
    inputs = keras.Input((4, 4, 3))
    features = keras.layers.Dense(2048)(keras.layers.Flatten()(inputs))
    network = keras.Model(inputs, {"features": features, "logits": keras.layers.Dense(1008)(features / 1000)})
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (num_images, 4, 4, 3)).astype("uint8")
    network.predict(images[:64], verbose=0)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    reference = evaluation.Reference.of(network, images[::-1], verbose=False)
    metrics = ["frechet", "inception_score", "kernel"]
    _, seconds, _ = timed(lambda: evaluation.evaluate_images(images, reference, network, metrics, verbose=False))
    return {"GB": (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1e6, "seconds": seconds}


def few_shot():
    rng = np.random.default_rng(0)
    train = rng.normal(size=(100_000, 768)).astype("float32"), np.arange(100_000) % 1000
    test = rng.normal(size=(50_000, 768)).astype("float32"), np.arange(50_000) % 1000
    probe = evaluation.FewShotProbe(shots=100, num_draws=1)
    _, seconds, cpu_seconds = timed(lambda: probe.accuracies(train, test))
    return {"seconds": seconds, "CPU seconds": cpu_seconds}


def statistics(num_features):
    features = np.random.default_rng(0).normal(size=(num_features, 2048)).astype("float32")
    collected = evaluation.FeatureStatistics(2048)

    def collect():
        for start in range(0, num_features, 64):
            collected.update(features[start : start + 64])
        return collected.covariance

    covariance, seconds, _ = timed(collect)
    moments = (collected.mean, covariance, np.zeros(2048), np.eye(2048))
    _, distance_seconds, _ = timed(evaluation.gaussian_distance, *moments)
    return {"seconds": seconds, "seconds for the distance": distance_seconds}


def monitor():
    """The demo's model with everything that can be tracked, at the default cadence."""
    (images, labels), _ = common.digits()
    train, test = (images[:1000], labels[:1000]), (images[1000:], labels[1000:])
    sizes = {"hidden_dim": 96, "num_layers": 2, "num_heads": 4, "decoder_layers": 1, "conditioning": "token"}
    model = keras_umd.UMD((8, 8, 1), patch_size=2, **sizes, seed=0)
    model.compile("adamw")
    inputs = keras.Input((8, 8, 1))
    network = keras.Model(inputs, keras.layers.Dense(64)(keras.layers.Flatten()(inputs)))
    reference = evaluation.Reference.of(network, train[0], verbose=False)
    evaluations = [
        evaluation.TrackProbe((train, test)),
        evaluation.TrackRank(test[0]),
        evaluation.TrackGeneration(reference, network, num_images=256),
        evaluation.DrawSamples(16),
        evaluation.DrawReconstructions(test[0][:8]),
    ]
    with tempfile.TemporaryDirectory() as directory:
        callback = callbacks.Monitor(directory, evaluations)
        fit = {"batch_size": 64, "epochs": 120, "verbose": 0, "callbacks": [callback]}
        _, seconds, _ = timed(lambda: model.fit(train[0], **fit))
        with open(os.path.join(directory, "evaluations.jsonl")) as file:
            lines = [json.loads(line) for line in file]
    costs = [line["seconds"] for line in lines if line["kind"] == "evaluation"]
    training = seconds - sum(costs)
    return {
        "evaluations": len(costs),
        "share": sum(costs) / training,
        "share without the first, which compiles, and the last": sum(costs[1:-1]) / training,
        "seconds of training": training,
    }


def fid(num_images):
    """In turns, so that both see the same machine; every image once."""
    network = evaluation.FIDInception()
    images = np.random.default_rng(0).integers(0, 256, (num_images, 64, 64, 3)).astype("uint8")
    reference = evaluation.Reference.of(network, images[:64], keep_features=False, verbose=False)
    batches = [images[start : start + 50] for start in range(0, num_images, 50)]
    network.predict_on_batch(batches[0])
    _, alone, alone_cpu = timed(lambda: [network.predict_on_batch(batch) for batch in batches])
    judge = lambda: evaluation.evaluate_images(batches, reference, network, ["frechet"], verbose=False)  # noqa: E731
    _, whole, whole_cpu = timed(judge)
    return {
        "ratio of CPU seconds": whole_cpu / alone_cpu,
        "ratio": whole / alone,
        "seconds": whole,
        "images/s": num_images / alone,
    }


if __name__ == "__main__":
    main()
