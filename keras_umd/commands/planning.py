"""`keras-umd plan` and `keras-umd doctor`."""

import os

from keras_umd import planning
from keras_umd.commands.common import chosen, load_model, tell
from keras_umd.models import UMD

PLAN = ("device", "num_devices", "shard_weights", "utilization", "num_images", "epochs")


def plan(settings, dry_run=False):
    """Print FLOPs, memory and hours of a training.

    Args:
        settings: Dictionary, as of `keras_umd_cli.tables`.
        dry_run: Bool.
    """
    settings = {"batch_size": 256, **settings}
    if tell("plan", settings, dry_run):
        return
    name = settings["model"]
    model = load_model(name) if os.path.exists(name) else UMD.from_preset(name, **chosen(settings, "dtype"))
    print(planning.plan(model, settings["batch_size"], **chosen(settings, *PLAN)))


def doctor(settings, dry_run=False):
    """Print what decides the speed of a training here.

    Args:
        settings: Dictionary, as of `keras_umd_cli.tables`.
        dry_run: Bool.
    """
    if not tell("doctor", settings, dry_run):
        print(planning.doctor(load_model(settings["model"]) if "model" in settings else None))
