"""Training steps as `fit` runs them."""

import contextlib

import common
import keras
import numpy as np

import keras_umd
from device import memory
from device.models import batch_that_fits, make_model, random_images
from device.rates import measured_device
from device.runner import LeftOut

STEPS, TINY_STEPS = 20, 2  # of an epoch
EPOCHS = 4  # the first compiles


def step(setting, method, size, batch_size, resident=False, flash=True, **options):
    """Speed, share of the device's rates and memory of a training step.

    Args:
        setting: `Setting`.
        method: String, as in a preset.
        size: String, the preset without its method.
        batch_size: Integer, halved where `plan` says that it doesn't fit.
        resident: Bool. Whether the images lie on the device, or come from NumPy arrays.
        flash: Bool. Whether a fused attention kernel may be taken.
        **options: Of the model, and `steps_per_execution`.
    """
    model = make_model(setting, method, size, batch_size, **options)
    batch_size = batch_that_fits(setting, model, batch_size, memory.limit())
    with contextlib.nullcontext() if flash else without_flash(model):
        seconds, first, loss = fit(setting, model, batch_size, resident)
    if not np.isfinite(loss):
        raise ValueError(f"The loss is {loss}.")
    planned = keras_umd.plan(model, batch_size, measured_device(setting))
    ceilings = (planned.unfused_ceiling, planned.fused_ceiling)
    return {
        "batch_size": batch_size,
        "seconds": seconds,
        "images_per_second": batch_size / seconds,
        "flops": planned.model_flops,
        "flops_per_second": planned.model_flops / seconds,
        "ceilings": [ceiling and ceiling.utilization for ceiling in ceilings],
        "first_epoch_seconds": first,
        "loss": loss,
        "peak_bytes": memory.peak(),
        "planned_bytes": planned.memory.total,
    }


@contextlib.contextmanager
def without_flash(model):
    """A context in which the attention of a model that isn't compiled yet is plain products."""
    before = keras_umd.doctor(model).attention["kernel"]
    keras.config.disable_flash_attention()
    try:
        if keras_umd.doctor(model).attention["kernel"] == before:
            raise LeftOut(f"{before} is the only attention kernel here")
        yield
    finally:
        keras.config.enable_flash_attention()


def fit(setting, model, batch_size, resident=False):
    """Train for some epochs; returns the median seconds of a step, those of the first epoch, and the last loss."""
    steps = max(TINY_STEPS if setting.tiny else STEPS, model.steps_per_execution)
    images = random_images(model, batch_size * steps)
    source = {"x": images, "batch_size": batch_size}
    if resident:
        if model.value_range is None or images.shape[-1] > 4:
            raise LeftOut("`data.on_device` takes uint8 images, not latents")
        source = {"x": keras_umd.data.on_device(images, batch_size=batch_size, area_range=(1.0, 1.0))}
    clock = Clock()
    history = model.fit(**source, epochs=EPOCHS, verbose=0, callbacks=[clock])
    return float(np.median(clock.seconds[1:])) / steps, clock.seconds[0], history.history["loss"][-1]


class Clock(keras.callbacks.Callback):
    """Wall seconds of each epoch, up to its logs, which are there when its last step is done."""

    def on_train_begin(self, logs=None):
        self.seconds = []

    def on_epoch_begin(self, epoch, logs=None):
        self.start = common.now()

    def on_epoch_end(self, epoch, logs=None):
        self.seconds.append(float((common.now() - self.start)[0]))
