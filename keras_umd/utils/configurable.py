"""Objects that are their settings: masks, targets, schedules, samplers."""

import keras


class Configurable:
    """A plain object that Keras can save: `get_config` returns the constructor's arguments.

    Arguments may be such objects themselves, or lists of them. Register subclasses with
    `keras.saving.register_keras_serializable`.
    """

    def get_config(self):
        return {}

    @classmethod
    def from_config(cls, config):
        return cls(**{name: revive(value) for name, value in config.items()})

    def __repr__(self):
        settings = ", ".join(f"{name}={value!r}" for name, value in self.get_config().items())
        return f"{type(self).__name__}({settings})"


def revive(value):
    """The object that `keras.saving.serialize_keras_object` described; anything else as it is."""
    if isinstance(value, list):
        return [revive(item) for item in value]
    is_description = isinstance(value, dict) and "class_name" in value
    return keras.saving.deserialize_keras_object(value) if is_description else value
