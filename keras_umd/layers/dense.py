"""The projections of the network: Keras' `Dense`, whose LoRA factors survive a file."""

import contextlib
import gc

import keras
from keras import ops

FACTORS = ("lora_kernel_a", "lora_kernel_b")


@contextlib.contextmanager
def heap_left_alone():
    """What there is isn't searched for garbage.

    Keras collects all garbage after each kernel that it deletes: to quantise B/4 took 29 s instead of 2.
    """
    if gc.get_freeze_count():  # a user has chosen what is never collected; to add to it couldn't be taken back
        yield
        return
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


@keras.saving.register_keras_serializable("keras_umd")
class Dense(keras.layers.Dense):
    """As `keras.layers.Dense`, but files keep LoRA factors beside the kernel.

    Keras adds their product to the kernel in the file, and reads factors of zero, both of them: no gradient ever moves
    them again, and a moving average of kernel and factors doesn't belong to what was read.

    A layer without factors that reads a file with them adds the product to its kernel; one with factors that reads a
    file without begins anew with a product of zero.
    """

    @property
    def lora_scale(self):
        """The factor of the product of the LoRA factors; 0 without them, as PyTorch's tracer reads every property."""
        return self.lora_alpha / self.lora_rank if self.lora_rank else 0.0

    def quantize(self, mode=None, type_check=True, config=None):
        """As of `keras.layers.Dense`, which refuses its subclasses."""
        with heap_left_alone():
            return super().quantize(mode, type_check=False, config=config)

    def save_own_variables(self, store):
        if not self.lora_enabled:
            super().save_own_variables(store)
            return
        self.lora_enabled = False  # for Keras, which would add the product
        try:
            super().save_own_variables(store)
        finally:
            self.lora_enabled = True
        for name in FACTORS:
            store[name] = getattr(self, name)
        store["lora_scale"] = ops.convert_to_numpy(self.lora_scale)

    def load_own_variables(self, store):
        store = {key: store[key] for key in store.keys()}  # noqa: SIM118 (Keras' store can't be iterated)
        factors = [store.pop(name, None) for name in FACTORS]
        scale = store.pop("lora_scale", None)
        if not self.lora_enabled:
            if scale is not None:
                if self.quantization_mode is not None:
                    raise ValueError(
                        "LoRA factors can't be added to a quantised kernel; enable LoRA before loading the file. "
                        f"Received: {self.path}"
                    )
                store["0"] = store["0"][...] + scale[...] * (factors[0][...] @ factors[1][...])
            super().load_own_variables(store)
            return
        first = ops.copy(self.lora_kernel_a.value)
        super().load_own_variables(store)  # sets both factors to zero
        self.lora_kernel_a.assign(first if scale is None else factors[0])
        if scale is not None:
            self.lora_kernel_b.assign(factors[1])
