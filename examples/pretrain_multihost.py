"""Pre-train UMD on many devices, as the paper does on TPUs, by JAX.

One machine, whatever GPUs or TPU chips it has; nothing else is needed:

    python examples/pretrain_multihost.py --data path/to/imagenet

A TPU pod, the same command on all hosts at once:

    gcloud compute tpus tpu-vm ssh NAME --worker=all --command="python examples/pretrain_multihost.py --multihost ..."

Several machines with GPUs, one process each; Slurm's `srun --ntasks-per-node=1` needs no variables:

    export KERAS_DISTRIBUTION_JOB_ADDRESSES=10.0.0.1:1234     # of the first machine
    export KERAS_DISTRIBUTION_NUM_PROCESSES=4
    KERAS_DISTRIBUTION_PROCESS_ID=0 python examples/pretrain_multihost.py --multihost ...     # 1, 2, 3 on the others

As a trial on a laptop, two processes with two devices each:

    export KERAS_DISTRIBUTION_JOB_ADDRESSES=localhost:1234 KERAS_DISTRIBUTION_NUM_PROCESSES=2
    export XLA_FLAGS=--xla_force_host_platform_device_count=2
    for i in 0 1; do
        KERAS_DISTRIBUTION_PROCESS_ID=$i python examples/pretrain_multihost.py --multihost --data path/to/images \
            --preset umd_tiny_patch8_32 --dtype float32 --batch-size 8 &
    done; wait

`--parallelism fsdp` spreads weights, optimizer and averages over the devices, for models that one can't hold. Each host
reads its own share of the images. `--output` must be on a shared disk. After an interruption, the same command
continues.
"""

import argparse
import os

os.environ.setdefault("KERAS_BACKEND", "jax")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras

import keras_umd
from keras_umd import data, distribution, evaluation


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="a folder with train/ and val/, or a data set of TFDS")
    parser.add_argument("--data-dir", help="where TFDS keeps its data sets")
    parser.add_argument("--validation-split", default="validation", help="of TFDS")
    parser.add_argument("--multihost", action="store_true", help="one of several processes")
    parser.add_argument("--parallelism", choices=("data", "fsdp"), default="data")
    parser.add_argument("--preset", default="umd_base_patch4_64")
    parser.add_argument("--batch-size", type=int, default=1024, help="of all devices together")
    parser.add_argument("--epochs", type=int, default=800)
    parser.add_argument("--dtype", default="mixed_bfloat16")
    parser.add_argument("--backup-steps", type=int, default=1000, help="steps between two backups")
    parser.add_argument("--output", default="runs/multihost")
    args = parser.parse_args()

    # The devices, before anything is computed
    keras.utils.set_random_seed(0)
    if args.multihost:
        keras.distribution.initialize()
    if args.parallelism == "data":
        parallelism = keras.distribution.DataParallel(auto_shard_dataset=False)
    else:
        mesh = keras.distribution.DeviceMesh((keras.distribution.get_device_count(),), ["batch"])
        layout_map = keras_umd.UMD.layout_map(mesh)
        parallelism = distribution.ModelParallel(layout_map=layout_map, auto_shard_dataset=False)
    keras.distribution.set_distribution(parallelism)
    is_first = distribution.is_first_process()

    # Model and data; with `scan_blocks` the program has one block of each kind, so that it compiles faster
    model = keras_umd.UMD.from_preset(args.preset, seed=0, dtype=args.dtype, scan_blocks=True)
    train = read(args, "train", model.image_shape[0])
    validation = read(args, "val", model.image_shape[0])
    if is_first:
        print(f"{parallelism.device_mesh.devices.size} devices, {parallelism.num_processes} hosts, {len(train)} steps")

    # The training
    model.compile(keras_umd.recipes.pretraining_optimizer(args.epochs * len(train), args.batch_size))

    # MAE doesn't generate
    pictures = evaluation.DrawSamples(16, columns=8) if model.corruption.clean_ratio < 1 else lambda model: {}
    model.fit(
        train,
        epochs=args.epochs,
        validation_data=validation,
        verbose="auto" if is_first else 0,
        callbacks=[
            keras_umd.callbacks.Monitor(args.output, pictures),
            *keras_umd.callbacks.standard(args.output, save_freq=args.backup_steps, dataset=train),
        ],
    )
    if is_first:
        print(f"The model, its losses and pictures are in {args.output}")


def read(args, part, image_size):
    """This host's images; each step all hosts must have a full batch, in validation, too."""
    options = {"image_size": image_size, "labels": False, "training": part == "train", "drop_remainder": True}
    options.update(distribution.share(args.batch_size))
    if os.path.isdir(os.path.join(args.data, "train")):
        return data.from_folder(os.path.join(args.data, part), **options)
    split = "train" if part == "train" else args.validation_split
    return data.from_tfds(args.data, split, data_dir=args.data_dir, **options)


if __name__ == "__main__":
    main()
