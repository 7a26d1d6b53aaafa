"""What to change so that training is faster, each with its reason: a function of what `doctor` found."""

import dataclasses

NO_BFLOAT16 = ("T4", "V100 32GB")


@dataclasses.dataclass(frozen=True)
class Hint:
    """A change.

    Args:
        change: String, what to do.
        reason: String, what it gives.
    """

    change: str
    reason: str


def hints(facts):
    """A list of `Hint`s, the gravest first.

    Args:
        facts: Dictionary, as the fields of `keras_umd.planning.doctor.Diagnosis`.
    """
    return [Hint(*found) for rule in RULES for found in rule(facts)]


def _backend(facts):
    return facts["versions"]["backend"].split()[0]


def _is_accelerated(facts):
    return facts["devices"]["platform"] != "cpu"


def unused_accelerators(facts):
    devices = facts["devices"]
    if devices["on_the_machine"] and not _is_accelerated(facts):
        found = " and ".join(devices["on_the_machine"])
        yield (
            f"Install the build of {_backend(facts)} for the {found} of this machine, or unset what hides it.",
            "its driver is there, and the backend computes on the CPU",
        )
    if len(devices["kinds"]) > devices["in_use"] and _is_accelerated(facts):
        how = {
            "jax": "keras.distribution.set_distribution(keras.distribution.DataParallel())",
            "tensorflow": "build and compile the model in tf.distribute.MirroredStrategy().scope()",
            "torch": "start a process for each, as examples/pretrain_torch_ddp.py does",
        }[_backend(facts)]
        yield f"Share the batch among all devices: {how}.", f"{devices['in_use']} of {len(devices['kinds'])} are in use"


def precision(facts):
    chosen, devices = facts["precision"], facts["devices"]
    has_bfloat16 = devices["known_as"] not in NO_BFLOAT16
    best = "mixed_bfloat16" if has_bfloat16 else "mixed_float16"
    if _is_accelerated(facts) and chosen["compute_dtype"] == "float32":
        yield (
            f'Set keras.config.set_dtype_policy("{best}"), or dtype="{best}" of the model.',
            "products in 16 bits are two to eight times as fast, and activations take half the memory; norms, softmax, "
            "losses and weights stay in float32",
        )
        if devices["platform"] == "gpu" and chosen["float32_products"] == "float32" and has_bfloat16:
            how = {
                "jax": 'jax.config.update("jax_default_matmul_precision", "tensorfloat32")',
                "tensorflow": "tf.config.experimental.enable_tensor_float_32_execution(True)",
                "torch": 'torch.set_float32_matmul_precision("high")',
            }[_backend(facts)]
            yield f"Or, to stay in float32: {how}.", "it multiplies at a tenth of the speed of TF32 or less"
    if devices["platform"] == "tpu" and chosen["compute_dtype"] == "float16":
        yield "Take bfloat16 instead of float16.", "TPUs have no products in float16, and it overflows above 65504"
    if chosen["variable_dtype"] in ("bfloat16", "float16"):
        yield (
            f"Take mixed_{chosen['variable_dtype']} for training.",
            "the optimizer's updates are smaller than the steps between weights of 16 bits, and are lost",
        )


def attention(facts):
    if facts["attention"]["is_switched_off"]:
        yield (
            "Call keras.config.enable_flash_attention().",
            "keras.config.disable_flash_attention() was called, and the attention matrix goes through memory",
        )
    if _backend(facts) == "tensorflow" and _is_accelerated(facts):
        yield (
            "Set KERAS_BACKEND=jax, or remat=True of the model if memory runs out.",
            "TensorFlow has no fused attention: each block keeps a float32 matrix of tokens by tokens for each head",
        )


def compilation(facts):
    compiled = facts["compilation"]
    if compiled["slow_modes"]:
        yield (
            f"Switch off {', '.join(compiled['slow_modes'])}.",
            "settings for finding errors and for float64: every step runs operation by operation, or is computed twice",
        )
    if _backend(facts) == "jax" and compiled["cache"] is None:
        yield (
            "Set JAX_COMPILATION_CACHE_DIR to a folder that stays.",
            "each start, also after a preemption, compiles every program anew",
        )
    if "xla_force_host_platform_device_count" in compiled["flags"].get("XLA_FLAGS", ""):
        yield (
            "Take --xla_force_host_platform_device_count out of XLA_FLAGS.",
            "these devices are shares of one CPU, for tests",
        )


def data(facts):
    decoders = facts["data"]["decoders"]
    if not {"OpenCV", "Pillow"} <= {*decoders}:
        yield (
            "pip install pillow opencv-python-headless.",
            "the readers that work without TensorFlow need Pillow to open images and OpenCV to resize them",
        )
    if facts["devices"]["platform"] == "tpu" and _backend(facts) == "jax" and "TensorFlow" in decoders:
        yield (
            'Install tensorflow-cpu, or call tf.config.set_visible_devices([], "TPU") before JAX starts.',
            "TensorFlow takes the TPU for itself when a reader imports it first",
        )
    if _is_accelerated(facts) and facts["data"]["cpu_cores"] < 4 * len(facts["devices"]["kinds"]):
        yield (
            "Train with keras_umd.data.on_device if the images fit into memory, or from cached latents.",
            f"{facts['data']['cpu_cores']} CPU cores decode fewer images than {len(facts['devices']['kinds'])} x "
            f"{facts['devices']['kinds'][0]} can take",
        )


RULES = (unused_accelerators, precision, attention, compilation, data)
