"""Speed of reading and cropping images, beside decoding the same files alone.

    python benchmarks/input_pipeline.py

JPEG files of 500x375 pixels, made of scikit-learn's two photos with some grain, so that they are as large as
ImageNet's, 110 KB. Every figure is the median of rounds in which all take turns; compare them only within one run.
KERAS_BACKEND=jax (the default here), tensorflow or torch chooses the engine of `fit`.
"""

import functools
import io
import os
import tempfile
from concurrent.futures import ThreadPoolExecutor

import common
import keras
import numpy as np
import tensorflow as tf
from PIL import Image
from sklearn.datasets import load_sample_images

from keras_umd import data

CORES = os.cpu_count()
SIZES = (64, 256)


def main():
    parser = common.parser(__doc__, "runs/input_pipeline.json")
    parser.add_argument("--num-images", type=int, default=3000)
    parser.add_argument("--batch-size", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    if common.BACKEND != "tensorflow":
        tf.config.set_visible_devices([], "GPU")

    with tempfile.TemporaryDirectory() as folder:
        paths = make_jpegs(folder, args.num_images)
        size = np.mean([os.path.getsize(path) for path in paths])
        print(f"{len(paths)} JPEG files of 500x375 pixels and {size / 1000:.0f} KB on average; {CORES} cores\n")
        cases = {
            "decode, tf.image": functools.partial(decode_with_tf, paths),
            "decode, Pillow": functools.partial(decode_with_pillow, paths),
        }
        for image_size in SIZES:
            options = {"image_size": image_size, "batch_size": args.batch_size, "labels": False}
            for loader in ("tensorflow", "python"):
                dataset = data.from_folder(folder, loader=loader, **options)
                model = nothing(dataset.image_shape)
                cases[f"{loader}, {image_size}"] = functools.partial(read, dataset)
                cases[f"{loader}, {image_size}, fit"] = functools.partial(model.fit, dataset, verbose=0)
        still = data.from_folder(
            folder, image_size=64, batch_size=args.batch_size, training=False, labels=False, loader="python"
        )
        cases["on_device, 64"] = gathering(data.on_device(still.as_arrays()[0], batch_size=args.batch_size))
        results = {}
        for name, times in common.in_turns(cases, args.rounds).items():
            wall, cpu = np.median(times, axis=0)
            results[name] = {"images_per_second": len(paths) / wall, "images_per_core_second": len(paths) / cpu}

    print(f"\n{'':28}{'images/s':>10}{'per core second':>18}{'of the decoding':>18}")
    for name, result in results.items():
        limit = results["decode, Pillow" if name.startswith("python") else "decode, tf.image"]
        result["of_decoding"] = result["images_per_core_second"] / limit["images_per_core_second"]
        share = "" if name.startswith("on_device") else f"{result['of_decoding']:.0%}"
        print(f"{name:28}{result['images_per_second']:10.0f}{result['images_per_core_second']:18.0f}{share:>18}")
    common.write_json(args.output, bytes_of_a_file=size, results=results)
    print(f"\n{common.versions()}, TensorFlow {tf.__version__}; written to {args.output}")


def make_jpegs(folder, count, different=300):
    rng = np.random.default_rng(0)
    photos = [Image.fromarray(photo) for photo in load_sample_images().images]
    paths = [os.path.join(folder, f"{i:05}.jpg") for i in range(count)]
    for i, path in enumerate(paths[:different]):
        width = rng.integers(500, 641)
        height = int(width * 0.75 * 0.88)
        left, top = rng.integers(0, 641 - width), rng.integers(0, 428 - height)
        crop = photos[i % 2].resize((500, 375), Image.BICUBIC, box=(left, top, left + width, top + height))
        grain = np.asarray(crop) + rng.normal(0, 9, (375, 500, 3))
        Image.fromarray(np.clip(grain, 0, 255).astype("uint8")).save(path, quality=94)
    for i, path in enumerate(paths[different:]):
        os.link(paths[i % different], path)
    return paths


def decode_with_tf(paths):
    dataset = tf.data.Dataset.from_tensor_slices(paths)
    dataset = dataset.map(lambda path: tf.image.decode_jpeg(tf.io.read_file(path), 3)[0], num_parallel_calls=CORES)
    options = tf.data.Options()
    options.threading.max_intra_op_parallelism = 1
    for _ in dataset.batch(100).with_options(options):
        pass


def decode_with_pillow(paths):
    def decode(path):
        with open(path, "rb") as file:
            Image.open(io.BytesIO(file.read())).load()

    with ThreadPoolExecutor(CORES) as pool:
        list(pool.map(decode, paths, chunksize=16))


def read(dataset):
    for _ in dataset:
        pass


def nothing(image_shape):
    """A model with a nearly free step, to which all images are sent."""
    layers = [keras.Input(image_shape, dtype="uint8"), keras.layers.Cropping2D(image_shape[0] // 2 - 1)]
    model = keras.Sequential([*layers, keras.layers.Rescaling(1 / 255), keras.layers.Flatten(), Total()])
    model.compile(keras.optimizers.SGD(0.0), jit_compile=False)
    return model


class Total(keras.layers.Layer):
    """One weight and a loss, as `fit` needs them."""

    def build(self, input_shape):
        self.scale = self.add_weight(shape=(), initializer="ones")

    def call(self, inputs):
        self.add_loss(self.scale * keras.ops.mean(inputs))
        return inputs


def gathering(dataset):
    """A function that makes an epoch of batches as the training step does, compiled alone."""
    layer = dataset.device_layer
    function = common.compiled(lambda batch: layer(batch)[0], layer.variables)

    def run():
        for batch in dataset:
            keras.ops.convert_to_numpy(function({k: keras.ops.convert_to_tensor(v) for k, v in batch.items()}))

    return run


if __name__ == "__main__":
    main()
