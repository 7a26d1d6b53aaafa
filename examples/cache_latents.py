"""Encode a data set with Stable Diffusion's autoencoder, once, for examples/pretrain_latents.py.

    python examples/cache_latents.py --data path/to/imagenet/train --output imagenet_latents
    python examples/cache_latents.py --data imagenet2012 --output imagenet_latents           # of TFDS; see --data-dir

ImageNet at 256x256 with mirror images takes 42 GB. After an interruption, the same command continues. The weights of
the autoencoder (335 MB) are downloaded, unless --weights names the files of keras-cv's encoder and decoder.
KERAS_BACKEND=jax (the default here), tensorflow or torch chooses the engine.
"""

import argparse
import os

os.environ.setdefault("KERAS_BACKEND", "jax")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras

from keras_umd import data, latents

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--data", required=True, help="a folder with a folder for each class, or a data set of TFDS")
parser.add_argument("--data-dir", help="where TFDS keeps its data sets")
parser.add_argument("--split", default="train", help="of TFDS")
parser.add_argument("--image-size", type=int, default=256)
parser.add_argument("--batch-size", type=int, default=64)
parser.add_argument("--views", type=int, default=1, help="random crops of each image; 1 is the middle")
parser.add_argument("--weights", nargs=2, metavar=("ENCODER", "DECODER"), help="files of keras-cv's networks")
parser.add_argument("--random-weights", action="store_true", help="to try this out without the real ones")
parser.add_argument("--output", required=True)
args = parser.parse_args()

options = {"image_size": args.image_size, "batch_size": args.batch_size}
if args.views == 1:
    options["training"] = False
else:  # the paper fine-tunes with crops of 0.95 to 1.0 of the area
    options.update(flip=False, shuffle=False, drop_remainder=False, area_range=(0.95, 1.0))
if os.path.isdir(args.data) and not os.path.exists(os.path.join(args.data, "dataset_info.json")):
    images = data.from_folder(args.data, **options)
else:
    images = data.from_tfds(args.data, args.split, data_dir=args.data_dir, **options)
keras.utils.set_random_seed(0)  # for --random-weights: the same in every run
weights = None if args.random_weights else args.weights or "stable_diffusion"
autoencoder = latents.StableDiffusionAutoencoder(weights)
print(f"{images.num_images} images of {len(images.class_names)} classes")
latents.cache_latents(images, autoencoder, args.output, views=args.views)
print(f"The latents are in {args.output}")
