"""Settings objects that Keras can write to a file and read again."""

import inspect

import keras


class Configurable:
    """The base of objects that consist of their constructor's arguments, kept as attributes of the same names.

    Arguments may be such objects themselves, or lists of them.

    Register a subclass with `keras.saving.register_keras_serializable` to have it in a model's file. One that keeps an
    argument in another form overrides `get_config`.

    Example:

    >>> class Euler(Configurable):
    ...     def __init__(self, strength=1.0):
    ...         self.strength = strength
    >>> Euler(0.5)
    Euler(strength=0.5)
    """

    def get_config(self):
        """Dictionary of the constructor's arguments.

        Raises:
            NotImplementedError: if one of them isn't an attribute.
        """
        missing = [name for name in _argument_names(self) if not hasattr(self, name)]
        if missing:
            raise NotImplementedError(
                f"{type(self).__name__} must keep its arguments as attributes, or override `get_config`. "
                f"Received: no attribute for {missing}"
            )
        return {name: getattr(self, name) for name in _argument_names(self)}

    @classmethod
    def from_config(cls, config):
        return cls(**{name: revive(value) for name, value in config.items()})

    def __repr__(self):
        names = (name for name in _argument_names(self) if getattr(self, name, None) is not None)
        return f"{type(self).__name__}({', '.join(f'{name}={getattr(self, name)!r}' for name in names)})"


def _argument_names(instance):
    parameters = inspect.signature(type(instance)).parameters.values()
    return [p.name for p in parameters if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]


def revive(value):
    """The object that `keras.saving.serialize_keras_object` described; anything else as it is."""
    if isinstance(value, list):
        return [revive(item) for item in value]
    is_description = isinstance(value, dict) and "class_name" in value
    return keras.saving.deserialize_keras_object(value) if is_description else value
