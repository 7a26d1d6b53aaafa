"""What the commands of `keras-umd` do, each a function of its settings and of whether it is to do nothing but tell."""

from keras_umd.commands.exports import export
from keras_umd.commands.latents import cache_latents
from keras_umd.commands.planning import doctor, plan
from keras_umd.commands.sampling import generate, inpaint
from keras_umd.commands.scores import evaluate, probe
from keras_umd.commands.training import finetune, pretrain

__all__ = ["COMMANDS"]

COMMANDS = {
    "pretrain": pretrain,
    "finetune": finetune,
    "generate": generate,
    "inpaint": inpaint,
    "probe": probe,
    "evaluate": evaluate,
    "cache-latents": cache_latents,
    "export": export,
    "plan": plan,
    "doctor": doctor,
}
