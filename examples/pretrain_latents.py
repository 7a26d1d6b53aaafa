"""Pre-train UMD on the latents of ImageNet at 256x256, from the cache that examples/cache_latents.py writes.

    python examples/pretrain_latents.py --latents imagenet_latents

After an interruption, the same command continues with the next batch. See runs/latents/progress.png, or
`tensorboard --logdir runs/latents`.
KERAS_BACKEND=jax (the default here), tensorflow or torch chooses the engine.
"""

import argparse
import os

os.environ.setdefault("KERAS_BACKEND", "jax")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras

import keras_umd
from keras_umd import callbacks, evaluation, latents

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--latents", required=True, help="the folder that examples/cache_latents.py made")
parser.add_argument("--preset", default="umd_large_patch2_latent32")
parser.add_argument("--batch-size", type=int, default=1024)
parser.add_argument("--epochs", type=int, default=400)
parser.add_argument("--dtype", default="mixed_bfloat16")
parser.add_argument("--backup-steps", type=int, default=1000, help="steps between two backups")
parser.add_argument("--picture-epochs", type=int, help="epochs between two pictures; by default 5%% of the time")
parser.add_argument("--weights", nargs=2, metavar=("ENCODER", "DECODER"), help="files of keras-cv's networks")
parser.add_argument("--random-weights", action="store_true", help="to try this out without the real ones")
parser.add_argument("--output", default="runs/latents")
args = parser.parse_args()

keras.utils.set_random_seed(0)
weights = None if args.random_weights else args.weights or "stable_diffusion"
autoencoder = latents.StableDiffusionAutoencoder(weights)
train = latents.from_latents(args.latents, batch_size=args.batch_size, labels=False, autoencoder=autoencoder)
print(f"{train.num_images} images, {len(train)} steps an epoch, latents of shape {train.image_shape}")
model = keras_umd.UMD.from_preset(args.preset, image_shape=train.image_shape, seed=0, dtype=args.dtype)
model.autoencoder = autoencoder  # `generate` gives images
model.compile(keras_umd.recipes.pretraining_optimizer(args.epochs * len(train), args.batch_size))


# MAE doesn't generate
pictures = evaluation.DrawSamples(8, columns=4) if model.corruption.clean_ratio < 1 else lambda model: {}
monitor = callbacks.Monitor(args.output, pictures, every_epochs=args.picture_epochs)
backups = callbacks.standard(args.output, save_freq=args.backup_steps, dataset=train)
model.fit(train, epochs=args.epochs, callbacks=[monitor, *backups])
print(f"The model, its losses and pictures are in {args.output}")
