"""`keras-umd cache-latents`."""

from keras_umd import data, latents
from keras_umd.commands import choices
from keras_umd.commands.common import tell


def cache_latents(settings, dry_run=False):
    """Encode a folder of images with Stable Diffusion's autoencoder, for a latent model.

    Args:
        settings: Dictionary, as of `keras_umd_cli.tables`.
        dry_run: Bool.
    """
    settings = {"directory": "latents", "image_size": 256, "batch_size": 64, "views": 1, "flip": True, **settings}
    folder = choices.look_at(settings["images"], settings.get("labels"))
    settings["labels"] = folder.class_names is not None
    print(f"{settings['images']}: {folder}")
    if tell("cache-latents", settings, dry_run):
        return
    options = {name: settings[name] for name in ("image_size", "batch_size", "labels")}
    if settings["views"] == 1:
        options["training"] = False
    else:  # the crops with which the paper fine-tunes
        options.update(flip=False, shuffle=False, drop_remainder=False, area_range=(0.95, 1.0))
    dataset = data.from_folder(settings["images"], **options)
    autoencoder = latents.StableDiffusionAutoencoder(settings.get("weights", "stable_diffusion"))
    directory = settings["directory"]
    latents.cache_latents(dataset, autoencoder, directory, views=settings["views"], flip=settings["flip"])
    print(f"The latents are in {directory}")
