"""Pre-train UMD on ImageNet at 64x64, as the paper does (table 4), or on any other images.

    python examples/pretrain_imagenet64.py --data path/to/imagenet            # with the folders train/ and val/
    python examples/pretrain_imagenet64.py --data imagenet2012                # of TFDS; see --data-dir
    python examples/pretrain_imagenet64.py --data path/to/imagenet --on-device    # 15.7 GB in the accelerator's memory

After an interruption, the same command continues with the next batch. See runs/imagenet64/progress.png, or
`tensorboard --logdir runs/imagenet64`.
KERAS_BACKEND=jax (the default here), tensorflow or torch chooses the engine.
"""

import argparse
import os

os.environ.setdefault("KERAS_BACKEND", "jax")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras

import keras_umd
from keras_umd import data, evaluation


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="a folder with train/ and val/, or a data set of TFDS")
    parser.add_argument("--data-dir", help="where TFDS keeps its data sets")
    parser.add_argument("--validation-split", default="validation", help="of TFDS")
    parser.add_argument("--on-device", action="store_true", help="keep all images in the accelerator's memory")
    parser.add_argument("--preset", default="umd_base_patch4_64")
    parser.add_argument("--batch-size", type=int, default=1024)
    parser.add_argument("--epochs", type=int, default=800)
    parser.add_argument("--dtype", default="mixed_bfloat16")
    parser.add_argument("--backup-steps", type=int, default=1000, help="steps between two backups")
    parser.add_argument("--picture-epochs", type=int, help="epochs between two pictures; by default 5%% of the time")
    parser.add_argument("--output", default="runs/imagenet64")
    args = parser.parse_args()

    keras.utils.set_random_seed(0)
    model = keras_umd.UMD.from_preset(args.preset, seed=0, dtype=args.dtype)
    image_size = model.image_shape[0]

    # The data
    validation = read(args, "val", image_size, training=False)
    if args.on_device:
        images, _ = read(args, "train", image_size, training=False).as_arrays()
        train = data.on_device(images, batch_size=args.batch_size)
    else:
        train = read(args, "train", image_size, training=True)
    print(f"{train.num_images} images to train, {validation.num_images} to validate, {len(train)} steps an epoch")

    # The training
    model.compile(keras_umd.recipes.pretraining_optimizer(args.epochs * len(train), args.batch_size))
    pictures = [evaluation.DrawReconstructions(validation[0][:8])]
    if model.corruption.clean_ratio < 1:  # MAE doesn't generate
        pictures.append(evaluation.DrawSamples(16, columns=8))
    model.fit(
        train,
        epochs=args.epochs,
        validation_data=validation,
        callbacks=[
            keras_umd.callbacks.Monitor(args.output, pictures, every_epochs=args.picture_epochs),
            *keras_umd.callbacks.standard(args.output, save_freq=args.backup_steps, dataset=train),
        ],
    )
    print(f"The model, its losses and pictures are in {args.output}")


def read(args, part, image_size, training):
    options = {"image_size": image_size, "batch_size": args.batch_size, "training": training, "labels": False}
    if os.path.isdir(os.path.join(args.data, "train")):
        return data.from_folder(os.path.join(args.data, part), **options)
    split = "train" if part == "train" else args.validation_split
    return data.from_tfds(args.data, split, data_dir=args.data_dir, **options)


if __name__ == "__main__":
    main()
