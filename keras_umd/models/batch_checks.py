"""The values of every batch, checked within the compiled step; what is wrong is raised when the host next looks."""

import keras
from keras import ops

from keras_umd.utils.checks import check_labels
from keras_umd.utils.images import RANGE_TOLERANCE

FAULTS = {
    "not_finite": "`images` must be finite. Received: {count} images with NaN or infinite values",
    "out_of_range": (
        "Float images must lie in the model's value_range={value_range}; scale them, or pass uint8 images, which are "
        "scaled inside. Received: {count} images with values outside"
    ),
    "labels": (
        "`labels` must lie in [0, {num_classes}), the model's classes. Received: {count} labels outside, which counted "
        "as no label"
    ),
}


class BatchChecks(keras.metrics.Metric):
    """Counts images and labels that a model can't use, for `raise_faults`.

    `fit` checks the first batch of a data set on the host (`fit_inputs.py`); to read the others there would stall an
    accelerator. A metric, since Keras hands the variables of metrics through its steps on all backends. It shows
    nothing and isn't saved.
    """

    def __init__(self):
        super().__init__(name="batch_checks", dtype="float32")
        self.counts = {name: self.add_variable((), "zeros", dtype="float32", name=f"num_{name}") for name in FAULTS}

    def reset_state(self):
        """Nothing is reset: `fit` evaluates before its epoch ends, and Keras would forget what the epoch met."""

    def result(self):
        return {}

    def update(self, model, images, labels=None):
        """Count what is wrong with a batch.

        Args:
            model: Model with `value_range` and `num_classes`.
            images: uint8 or float tensor `(batch, *image_shape)`.
            labels: Int tensor `(batch,)` or `(batch, 1)`, or `None`.

        Returns:
            The images, and the labels with the null label where they name no class, nor -1 where that is allowed: as an
            index they would read the weights of another class, or memory behind the table.
        """
        if hasattr(images, "dtype") and "float" in keras.backend.standardize_dtype(images.dtype):
            axes = tuple(range(1, len(images.shape)))
            is_right = ops.isfinite(images)
            if model.corruption.hides_gaps:
                is_right = ops.logical_or(is_right, ops.isnan(images))
            is_finite = ops.all(is_right, axis=axes)
            self._count("not_finite", ops.logical_not(is_finite))
            if model.value_range is not None:
                low, high = model.value_range
                slack = RANGE_TOLERANCE * (high - low)
                is_outside = ops.any(ops.logical_or(images < low - slack, images > high + slack), axis=axes)
                self._count("out_of_range", ops.logical_and(is_outside, is_finite))
        if labels is not None and model.num_classes and "int" in keras.backend.standardize_dtype(labels.dtype):
            may_lack = model.objective.takes_unlabelled
            check_labels(labels, model.num_classes, may_lack)  # raises at once where the host has them
            is_class = ops.logical_and(labels >= (-1 if may_lack else 0), labels < model.num_classes)
            self._count("labels", ops.logical_not(is_class))
            labels = ops.where(is_class, labels, ops.cast(model.num_classes, labels.dtype))
        return images, labels

    def _count(self, name, is_wrong):
        self.counts[name].assign_add(ops.sum(ops.cast(is_wrong, "float32")))

    def take_faults(self, model, but=()):
        """What the batches since the last call had, one line a fault, and begin to count anew."""
        counts = {name: int(ops.convert_to_numpy(variable)) for name, variable in self.counts.items()}
        self.forget()
        values = {"num_classes": model.num_classes, "value_range": model.value_range}
        return [
            FAULTS[name].format(count=count, **values) for name, count in counts.items() if count and name not in but
        ]

    def forget(self):
        """Begin to count anew."""
        for variable in self.variables:
            variable.assign(0.0)

    def save_own_variables(self, store):
        """Nothing to save."""

    def load_own_variables(self, store):
        """Nothing to load."""


class RaiseFaults(keras.callbacks.Callback):
    """Raises what a model's `batch_checks` have counted, at the end of each epoch and of each evaluation."""

    def set_model(self, model):
        super().set_model(model)
        model.batch_checks.forget()  # what a `fit` that was stopped has counted

    def _raise(self):
        model = self.model
        # Steps on images that aren't finite are left out by a guard, which counts and reports them.
        faults = model.batch_checks.take_faults(model, but=("not_finite",) if model.guards else ())
        if faults:
            raise ValueError("In the batches after the first: " + " ".join(faults))

    def on_epoch_end(self, epoch, logs=None):
        self._raise()

    def on_test_begin(self, logs=None):
        self._raise()  # what the epoch's training has met, before its validation

    def on_test_end(self, logs=None):
        self._raise()
