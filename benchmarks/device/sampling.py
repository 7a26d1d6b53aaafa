"""Images a second of the sampler."""

import common
import numpy as np

import keras_umd
from device import memory
from device.models import TINY_BATCH, make_model

NUM_STEPS, TINY_NUM_STEPS = 50, 2


def sampling(setting, size, batch_size):
    """`generate` of a batch with DPM-Solver++ 2M, without guidance, once the program is compiled.

    Args:
        setting: `Setting`.
        size: String, a preset without its method.
        batch_size: Integer.
    """
    batch_size = TINY_BATCH if setting.tiny else batch_size
    num_steps = TINY_NUM_STEPS if setting.tiny else NUM_STEPS
    model = make_model(setting, "dit", size, batch_size)

    def generate():
        return model.generate(num_images=batch_size, batch_size=batch_size, num_steps=num_steps, sampler="dpmpp_2m")

    _, first, _ = common.timed(generate)
    seconds = float(np.median([common.timed(generate)[1] for _ in range(3)]))
    # A call of the network is the forward pass of a DiT's step, which reads both predictions of all patches.
    flops = num_steps * sum(part.forward for part in keras_umd.plan(model, batch_size).parts)
    return {
        "batch_size": batch_size,
        "num_steps": num_steps,
        "seconds": seconds,
        "images_per_second": batch_size / seconds,
        "flops_per_second": flops / seconds,
        "first_seconds": first,
        "peak_bytes": memory.peak(),
    }
