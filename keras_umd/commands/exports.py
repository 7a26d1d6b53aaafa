"""`keras-umd export`."""

from keras_umd import weights
from keras_umd.backend.exporting import FORMATS
from keras_umd.commands.common import SAMPLING, chosen, load_model, run_folder, sampling_options, tell


def export(settings, dry_run=False):
    """Write a part of a model as a program for another runtime.

    Args:
        settings: Dictionary, as of `keras_umd_cli.tables`.
        dry_run: Bool.
    """
    settings = {"what": "encoder", "format": "onnx", **settings}
    name = f"{settings['what']}{FORMATS[settings['format']].suffix}"
    settings = {"path": str(run_folder(settings["model"]) / "exports" / name), **settings}
    options = chosen(settings, "pooling", "layer", *SAMPLING)
    if settings["what"] == "sampler":
        options |= sampling_options(settings)
    if tell("export", {**settings, **options}, dry_run):
        return
    model = load_model(settings["model"])
    if model.num_classes is None and "guidance" not in settings:
        options.pop("guidance", None)  # a run's recommendation for models with classes
    weights.export(model, settings["path"], settings["what"], settings["format"], **options)
    print(f"The {settings['what']} is in {settings['path']}")
