"""A callback that measures the speed of a training, and its share of the device's peak."""

import math
import time

import keras

from keras_umd.backend.devices import training_devices
from keras_umd.planning.devices import as_device, device_of_kind
from keras_umd.planning.flops import step_flops
from keras_umd.utils.checks import check_integers

clock = time.perf_counter


class Throughput(keras.callbacks.Callback):
    """Adds the speed of each epoch to its logs, so that `fit`, its history and the callbacks behind it show it.

    `images_per_second`; `teraflops_per_second` of matrix products, forward and backward, without the recomputation of
    `remat`; and where the device is known, `utilization`, their share of the peak of all devices ("MFU").

    The first epoch of a `fit` counts from its second execution on, and without its last one if that has fewer images
    than the others: both compile. (If the length of an epoch isn't known, its end counts anyway.) Later epochs count as
    a whole, other callbacks included, validation excluded. An epoch of which nothing counts has NaN.

    The host waits for the device in two steps of the first epoch only, so that devices stay busy.

    Example:

    >>> run = [callbacks.Throughput(), *callbacks.standard("runs/umd")]
    >>> model.fit(images, batch_size=8, epochs=2, callbacks=run)

    Args:
        device: String, a name in `keras_umd.planning.DEVICES`; or a `keras_umd.Device`. Defaults to the one that the
            backend names, if it is among those.
        num_devices: Integer. Defaults to those of Keras' distribution or TensorFlow's strategy, or to 1.
    """

    def __init__(self, device=None, *, num_devices=None):
        super().__init__()
        check_integers(1, optional=True, num_devices=num_devices)
        self.device = as_device(device)
        self.num_devices = num_devices

    def __repr__(self):
        return f"<Throughput: device={self.device}, num_devices={self.num_devices}>"

    def on_train_begin(self, logs=None):
        kind, num_devices = training_devices()
        device = self.device or device_of_kind(kind)
        num_devices = self.num_devices or num_devices
        self._peak = None if device is None else num_devices * device.peak_flops(self.model.compute_dtype)
        self._steps_per_execution = self.model.steps_per_execution
        self._is_first_epoch = True

    def on_epoch_begin(self, epoch, logs=None):
        self._marks = [] if self._is_first_epoch else [(clock(), 0)]
        self._num_executions = 0
        self._is_over = False

    def on_train_batch_begin(self, batch, logs=None):
        if not self._is_first_epoch:
            return
        self._num_executions += 1
        num_steps = self.params["steps"]
        is_last = num_steps is not None and batch + self._steps_per_execution >= num_steps
        if self._num_executions == 2 or (self._num_executions > 2 and is_last):
            self._mark()

    def on_test_begin(self, logs=None):
        self._end_training()  # now: validation resets the metrics, which count the images

    def on_epoch_end(self, epoch, logs=None):
        self._end_training()
        if self._is_first_epoch:
            counts = [images for _, images in self._marks]
            self._batch_size = math.ceil(counts[0] / min(self._steps_per_execution, self.params["steps"] or math.inf))
            knows_last = len(counts) == 3 or self._num_executions == 2
            if knows_last and counts[-1] - counts[-2] < counts[0]:  # the last execution compiled, too
                self._marks.pop()
            self._is_first_epoch = False
        (start, before), (end, after) = self._marks[0], self._marks[-1]
        images, seconds = after - before, end - start
        logs["images_per_second"] = images / seconds if images else math.nan
        flops_per_second = self._flops(images) / seconds if images else math.nan
        logs["teraflops_per_second"] = flops_per_second / 1e12
        if self._peak is not None:
            logs["utilization"] = flops_per_second / self._peak

    def _mark(self):
        """Note the time and the images of the epoch so far, which Keras' mean of the losses counts as its weight.

        On JAX, reading `self.model` waits for the last step.
        """
        mean = next(metric for metric in self.model.metrics if metric.name == "loss")
        images = round(float(keras.ops.convert_to_numpy(mean.count)))  # before the clock: it may wait for the device
        self._marks.append((clock(), images))

    def _end_training(self):
        if not self._is_over:
            self._mark()
        self._is_over = True

    def _flops(self, images):
        full, rest = divmod(images, self._batch_size)
        return sum(
            num_batches * (part.forward + part.backward)
            for num_batches, batch_size in ((full, self._batch_size), (1, rest))
            if num_batches and batch_size
            for part in step_flops(self.model, batch_size)
        )
