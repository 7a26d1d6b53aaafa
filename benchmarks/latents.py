"""Time of the autoencoder in a latent pre-training, in the loop and cached.

    python benchmarks/latents.py
    python benchmarks/latents.py --size large --batch-size 256 --num-images 5120      # on a GPU

Epochs of UMD and of DiT, with Stable Diffusion's autoencoder (random weights: the time is the same) encoding each batch
before the step, and from a cache; beside them the same networks on as many tokens of pixels, which shows what UMD gains
where nothing else takes time. The median of epochs that take turns; prints a table, writes JSON.
KERAS_BACKEND=jax (the default here), tensorflow or torch chooses the engine.
"""

import functools
import itertools
import tempfile

import common
import keras
import numpy as np

import keras_umd
from keras_umd import data, latents

METHODS = ("umd", "dit")


class Encoded(keras.utils.PyDataset):
    """Batches of images, encoded when they are asked for."""

    def __init__(self, images, autoencoder):
        super().__init__()
        self.images = images
        self.autoencoder = autoencoder

    def __len__(self):
        return len(self.images)

    def sample_batch(self):
        """A batch for the checks of `fit`, without the cost of encoding one."""
        return np.zeros((1, *self.autoencoder.latent_shape(self.images.image_shape[:2])), "float32")

    def __getitem__(self, index):
        mean, std = self.autoencoder.encode(self.images[index])
        return keras.ops.convert_to_numpy(self.autoencoder.sample(mean, std))


def main():
    parser = common.parser(__doc__, "runs/latents.json")
    parser.add_argument("--size", default="small", help="tiny, small, base or large")
    parser.add_argument("--image-size", type=int, default=256)
    parser.add_argument("--num-images", type=int, default=8)
    parser.add_argument("--batch-size", type=int, default=4)
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args()

    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (args.num_images, args.image_size, args.image_size, 3), "uint8")
    images = data.from_arrays(pixels, batch_size=args.batch_size, training=False)
    autoencoder = latents.StableDiffusionAutoencoder(weights=None)
    with tempfile.TemporaryDirectory() as directory:
        _, seconds, _ = common.timed(
            functools.partial(latents.cache_latents, images, autoencoder, directory, flip=False)
        )
        print(f"Once: {args.num_images} images cached in {seconds:.1f} s, compilation included")
        cached = latents.from_latents(directory, batch_size=args.batch_size, labels=False)
        # Patches of 4x4 pixels instead of 2x2 latents: as many tokens.
        small = data.on_device(pixels[:, ::4, ::4], batch_size=args.batch_size)
        sources = {
            "in the loop": ("patch2_latent32", cached.image_shape, Encoded(images, autoencoder)),
            "cached": ("patch2_latent32", cached.image_shape, cached),
            "pixels": ("patch4_64", small.image_shape, small),
        }
        epochs = {}
        for method, (where, (preset, shape, source)) in itertools.product(METHODS, sources.items()):
            name = f"{method}_{args.size}_{preset}"
            model = keras_umd.UMD.from_preset(name, image_shape=shape, dtype=args.dtype, seed=0)
            model.compile(keras_umd.recipes.pretraining_optimizer(10**6, args.batch_size))
            epochs[method, where] = functools.partial(model.fit, source, verbose=0)
        times = {name: seconds[:, 0] for name, seconds in common.in_turns(epochs, args.repeats).items()}

    rows = {name: np.median(values) for name, values in times.items()}
    print(f"\n{'':14}{'UMD':>10}{'DiT':>10}{'UMD : DiT':>12}")
    for where in sources:
        umd, dit = (rows[method, where] for method in METHODS)
        print(f"{where:14}{umd:8.1f} s{dit:8.1f} s{umd / dit:12.2f}")
    seconds = {" ".join(name): list(values) for name, values in times.items()}
    common.write_json(args.output, arguments=vars(args), seconds_an_epoch=seconds)
    print(f"\n{common.versions()}; written to {args.output}")


if __name__ == "__main__":
    main()
