"""Freezing of layers that are made late."""


def propagate_trainable(layer):
    """Freeze the sublayers of a layer that is itself frozen, as one loaded from a file with `trainable=False`.

    Layers made after `super().__init__(trainable=False)` would otherwise be trained.
    """
    if not layer.trainable:
        layer.trainable = True  # toggled, since TensorFlow ignores an assignment that changes nothing
        layer.trainable = False
