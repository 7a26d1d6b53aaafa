"""The commands and their options. Names and defaults are those of the Python functions; a test compares them."""

import dataclasses

from keras_umd_cli.options import CHOSEN, Option, word


@dataclasses.dataclass(frozen=True)
class Command:
    """A command by its help, the Python functions whose arguments it has, and its options."""

    help: str
    functions: tuple
    options: tuple
    tables: tuple = ()  # dictionaries that its TOML file may have, beside the options

    def by_name(self):
        return {option.name: option for option in self.options}


def _without(options, *names):
    return tuple(option for option in options if option.name not in names)


MODEL = Option("model", str, "a run's folder, a .keras file, or a preset with weights", is_positional=True)
IMAGES = Option("images", str, "a folder of images; its sub-folders, if any, are classes", is_positional=True)
DIRECTORY = Option("directory", str, "the folder to write into", CHOSEN)
SEED = Option("seed", int, "for everything that is drawn", 0)
BATCH = Option("batch_size", int, "images at a time", 64)

YES = ("true", "false", "force")

DATA = (
    Option("image_size", int, "height and width of the images", CHOSEN),
    Option("labels", bool, "whether sub-folders are classes", CHOSEN),
    Option("class_names", [str], "the sub-folders to read, in the order of their indices", "all"),
    Option("channels", int, "3, 1 for grey images, or 4 to keep what is transparent", 3),
    Option("area_range", [float], "shares of the area that random crops have", (0.8, 1.0), count=2),
    Option("flip", bool, "whether to flip half of the training images", True),
    Option("loader", str, "what reads the files", CHOSEN, ("tensorflow", "python")),
    Option("workers", int, "threads that read", CHOSEN),
    Option("on_error", str, "what to do with images that can't be read", "skip", ("skip", "raise")),
    Option("max_bad_share", float, "the share of bad images at which to stop all the same", 0.01),
)
RUN = (
    DIRECTORY,
    Option("batch_size", int, "images of a step", CHOSEN),
    Option("epochs", int, "passes over the images", CHOSEN),
    Option("steps_per_epoch", int, "steps of an epoch, in which few images are repeated", CHOSEN),
    Option("base_learning_rate", float, "the peak at batch size 256", CHOSEN),
    Option("save_freq", word, "'epoch', or the steps between two checkpoints", "epoch"),
    Option("keep", int, "how many of the last checkpoints to keep", 3),
    Option("resume", str, "whether to go on with a run in the folder; force: also with other settings", "true", YES),
    Option("monitor", bool, "whether to draw samples, reconstructions and curves while it trains", True),
    Option("tensorboard", bool, "whether to write all that for TensorBoard, too", False),
    SEED,
)
NETWORK = (
    Option("method", str, "a published method, such as umd, mae or dit, where no preset names it", "umd"),
    Option("preset", str, "a named configuration, such as umd_small_patch4_64", CHOSEN),
    Option("patch_size", int, "height and width of a patch", CHOSEN),
    Option("hidden_dim", int, "width of the encoder", CHOSEN),
    Option("num_layers", int, "blocks of the encoder", CHOSEN),
    Option("num_heads", int, "heads of attention", CHOSEN),
    Option("decoder_layers", int, "blocks of the decoder", CHOSEN),
    Option("label_dropout", float, "share of the labels dropped in training", 0.1),
    Option("scan_blocks", bool, "on JAX, run equal blocks as one loop", False),
    Option("remat", bool, "less memory for a third more work in the blocks", False),
    Option("dtype", str, "precision, such as mixed_bfloat16", "float32"),
)
SAMPLING = (
    Option("num_steps", int, "calls of the network for each image", "the run's, or 250"),
    Option("sampler", word, "ddim, dpmpp_2m, heun, or the eta of DDIM", "the run's, or 1"),
    Option("guidance", float, "the scale; 1 is no guidance", "the run's, or 1"),
    Option("predict_from", str, "the head to read: a target's name, or both", CHOSEN),
    Option("weights", word, "average, raw, or the decay of an average", "average"),
)
PROBES = ("few-shot", "knn", "linear", "ridge")
POOLING = Option("pooling", str, "of the tokens", "cls", ("cls", "mean", "cls+mean"))
LAYER = Option("layer", int, "the block after which to take the features", "the last")
PARTS = ("encoder", "denoiser", "sampler")
FORMATS = ("saved_model", "onnx", "litert", "openvino", "torch")

COMMANDS = {
    "pretrain": Command(
        "train a new model on a folder of images",
        ("data.from_folder", "UMD", "recipes.pretraining_optimizer", "callbacks.standard", "callbacks.StopAfter"),
        (
            IMAGES,
            *DATA,
            *NETWORK,
            *RUN,
            Option("steps", int, "steps of the training, instead of epochs", CHOSEN),
            Option("minutes", float, "time to train, which chooses network and steps where they aren't said", None),
            Option("weight_decay", float, "of AdamW", 0.05),
        ),
        ("sampling",),
    ),
    "finetune": Command(
        "train a model further, with the classes of a folder, for generation",
        ("data.from_folder", "UMD.with_classes", "recipes.finetuning_optimizer", "callbacks.standard"),
        (
            MODEL,
            dataclasses.replace(IMAGES, is_required=False, help=f"{IMAGES.help} (default: those of the run)"),
            *_without(DATA, "image_size", "channels", "area_range"),
            Option("area_range", [float], "shares of the area that random crops have", (0.95, 1.0), count=2),
            Option("label_dropout", float, "share of the labels dropped in training", "the model's"),
            Option("freeze", [str], "parts that training leaves as they are", None, ("encoder", "decoder")),
            *RUN,
            Option("steps", int, "steps of the training, instead of epochs", CHOSEN),
            Option("weight_decay", float, "of AdamW", 0.0),
        ),
        ("sampling",),
    ),
    "generate": Command(
        "generate images from noise: PNG files and a picture of them",
        ("UMD.generate", "generate_to"),
        (
            MODEL,
            Option("num_images", int, "how many", 16),
            Option("labels", [str], "names or numbers of classes, which the images take in turn", "all classes"),
            *SAMPLING,
            BATCH,
            SEED,
            Option("format", str, "files of each image, or one of all", "png", ("npz", "png")),
            DIRECTORY,
        ),
    ),
    "inpaint": Command(
        "generate a part of images, to fit what is around it",
        ("UMD.inpaint",),
        (
            MODEL,
            IMAGES,
            Option("mask", str, "a picture, white where to generate", None),
            Option("box", [float], "top, left, height, width of the part, as shares of the image", None, count=4),
            Option("num_images", int, "how many images of the folder", 8),
            Option("labels", [str], "names or numbers of classes, which the images take in turn", "none"),
            *SAMPLING,
            dataclasses.replace(BATCH, default="all"),
            SEED,
            DIRECTORY,
        ),
    ),
    "probe": Command(
        "score a model's features on labelled images",
        ("UMD.feature_extractor", "evaluation.evaluate_features", "data.from_folder", "evaluation.FewShotProbe"),
        (
            MODEL,
            dataclasses.replace(IMAGES, help="a folder with a folder for each class"),
            Option("test", str, "a folder of test images", "a part of the others"),
            Option("validation_split", float, "the share of images to test on, without --test", 0.2),
            Option("probes", [str], "the kinds of classifiers", ("few-shot",), PROBES),
            Option("shots", int, "labelled images of each class, of the few-shot probe", 10),
            Option("k", int, "neighbours, of the knn probe", 20),
            POOLING,
            LAYER,
            Option("timesteps", int, "noise level of the images", 0),
            Option("weights", word, "average, raw, or the decay of an average", "average"),
            Option("batch_size", int, "images at a time", 256),
            DIRECTORY,
        ),
    ),
    "evaluate": Command(
        "score generated images against real ones",
        ("evaluation.evaluate_generator", "evaluation.evaluate_images", "UMD.generate"),
        (
            MODEL,
            Option("reference", str, "real images: a folder, or the .npz of a Reference", is_positional=True),
            Option("network", str, "weights of FID's Inception (.pth, .npz), or a Keras model (.keras)", None),
            Option("images", str, "images to score instead of generated ones: .npz, or a folder of PNG", None),
            Option("num_images", int, "how many to generate", 50_000),
            Option("metrics", [str], "the scores", CHOSEN, ("frechet", "inception_score", "kernel", "neighbourhoods")),
            *SAMPLING,
            BATCH,
            SEED,
            DIRECTORY,
        ),
    ),
    "cache-latents": Command(
        "encode a folder of images with Stable Diffusion's autoencoder, once",
        ("latents.cache_latents", "data.from_folder", "latents.StableDiffusionAutoencoder"),
        (
            IMAGES,
            dataclasses.replace(DIRECTORY, default="latents"),
            Option("image_size", int, "height and width of the images", 256),
            Option("labels", bool, "whether sub-folders are classes", CHOSEN),
            BATCH,
            Option("views", int, "crops of each image", 1),
            Option("flip", bool, "whether to keep the mirror image, too", True),
            Option("weights", [str], "files of keras-cv's encoder and decoder", "downloaded", count=2),
        ),
    ),
    "export": Command(
        "write a part of a model as a program that runs without Keras",
        ("weights.export", "UMD.feature_extractor", "UMD.generate"),
        (
            MODEL,
            Option("what", str, "the part", "encoder", PARTS),
            Option("format", str, "the runtime's", "onnx", FORMATS),
            Option("path", str, "the file to write", CHOSEN),
            POOLING,
            LAYER,
            Option("num_steps", int, "calls of the network in the sampler", "the run's, or 50"),
            Option("sampler", word, "dpmpp_2m, heun, or 0 for DDIM without noise on the way", "the run's, or 0"),
            *_without(SAMPLING, "num_steps", "sampler"),
        ),
    ),
    "plan": Command(
        "count FLOPs, memory and hours of a training before it starts",
        ("plan",),
        (
            dataclasses.replace(MODEL, help="a run's folder, a .keras file or the name of a preset"),
            Option("batch_size", int, "images of one step on all devices", 256),
            Option("device", str, "a name that the planner knows, such as 'TPU v4', for times", None),
            Option("num_devices", int, "a divisor of the batch size", 1),
            Option("shard_weights", bool, "whether each device holds its share of the weights", False),
            Option("utilization", float, "the assumed share of the device's peak", 0.4),
            Option("num_images", int, "images of the data set, for the time of the whole training", None),
            Option("epochs", int, "passes over the data set", 1),
            Option("dtype", str, "precision, such as mixed_bfloat16", "float32"),
        ),
    ),
    "doctor": Command(
        "see what decides the speed here, and what to change",
        ("doctor",),
        (dataclasses.replace(MODEL, is_required=False),),
    ),
}
