"""Which class of an optimizer Keras takes on a backend."""


def optimizer_base(optimizer_class):
    """The class to derive an optimizer from, so that it has the update that Keras has for this backend.

    On PyTorch, Keras makes of `keras.optimizers.AdamW(...)` an instance of a class of its own, whose update is a few
    kernels for all variables together. A class derived from the public one would get the loop over single variables.

    Args:
        optimizer_class: A class of `keras.optimizers`.

    Returns:
        It, or the subclass of it that calling it would give.
    """
    return type(optimizer_class.__new__(optimizer_class))  # not initialized: a variable would start the device
