"""Pre-train UMD on several GPUs by PyTorch, where Keras has no distribution: DistributedDataParallel and a loop.

One machine, as many processes as GPUs; and four machines, the same command on each:

    torchrun --nproc-per-node 8 examples/pretrain_torch_ddp.py --data path/to/images
    torchrun --nproc-per-node 8 --nnodes 4 --rdzv-backend c10d --rdzv-endpoint 10.0.0.1:1234 \
        examples/pretrain_torch_ddp.py --data path/to/images

As a trial on a laptop, two processes:

    torchrun --nproc-per-node 2 examples/pretrain_torch_ddp.py --data path/to/images --preset umd_tiny_patch8_32 \
        --dtype float32 --batch-size 8

Each process splits its share of a batch into clean and noisy images and draws noise for them; the shares are equal, so
that the average of their gradients is that of the whole batch. Stopped, the same command goes on with the same epoch.
"""

import argparse
import os

os.environ["KERAS_BACKEND"] = "torch"

import keras
import torch
import torch.distributed as dist

import keras_umd
from keras_umd import data, distribution


class Objective(torch.nn.Module):
    """Computes the loss of images, as the module that DistributedDataParallel wraps."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, images, seeds):
        x, y = self.model.make_views(images, seed=seeds)
        return self.model.compute_loss(x, y, self.model(x, training=True))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="a folder with a sub-folder for each class")
    parser.add_argument("--preset", default="umd_base_patch4_64")
    parser.add_argument("--batch-size", type=int, default=1024, help="of all processes together")
    parser.add_argument("--epochs", type=int, default=800)
    parser.add_argument("--dtype", default="mixed_bfloat16")
    parser.add_argument("--output", default="runs/torch_ddp")
    args = parser.parse_args()

    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))  # before the model is made
    dist.init_process_group()
    train_together(args)  # its DistributedDataParallel must be deleted before the group, or both deadlock
    dist.destroy_process_group()


def train_together(args):
    keras.utils.set_random_seed(0)
    model = keras_umd.UMD.from_preset(args.preset, dtype=args.dtype)
    share = distribution.share(args.batch_size)
    train = data.from_folder(args.data, image_size=model.image_shape[:2], labels=False, **share)
    model.compile(keras_umd.recipes.pretraining_optimizer(args.epochs * len(train), args.batch_size))
    model.optimizer.build(model.trainable_variables)
    backup = os.path.join(args.output, "last.weights.h5")
    if os.path.exists(backup):
        model.load_weights(backup)
    objective = torch.nn.parallel.DistributedDataParallel(Objective(model))

    first_epoch = int(model.optimizer.iterations.numpy()) // len(train)
    for epoch in range(first_epoch, args.epochs):
        seeds = keras.random.SeedGenerator(epoch * dist.get_world_size() + dist.get_rank())
        train.go_to(epoch)
        mean_loss = 0.0
        for images in train:
            loss = objective(images, seeds)
            model.optimizer.scale_loss(loss).backward()  # for float16
            with torch.no_grad():
                gradients = [variable.value.grad for variable in model.trainable_variables]
                model.optimizer.apply(gradients, model.trainable_variables)
            objective.zero_grad()
            mean_loss += loss.detach() / len(train) / dist.get_world_size()
        dist.all_reduce(mean_loss)
        if distribution.is_first_process():
            print(f"epoch {epoch + 1}/{args.epochs}: loss {mean_loss.item():.6f}", flush=True)
            os.makedirs(args.output, exist_ok=True)
            model.save_weights(os.path.join(args.output, "next.weights.h5"))
            os.replace(os.path.join(args.output, "next.weights.h5"), backup)
    if distribution.is_first_process():
        model.save(os.path.join(args.output, "model.keras"))
        print(f"The model is in {args.output}")


if __name__ == "__main__":
    main()
