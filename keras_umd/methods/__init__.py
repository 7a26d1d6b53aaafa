"""The published methods as settings of one model: functions that return constructor arguments of `UMD`."""

from keras_umd.methods.changed import a2mim, context_encoder, dmjd, gmml, mfm, split_brain
from keras_umd.methods.decoding import cae, cropmae, crossmae, diffmae, localmim, maskfeat, simmim, usp, videomae_v2
from keras_umd.methods.denoising import dit, mae, maskdit, umd, umd_modern, umd_one_head, umd_x0
from keras_umd.methods.flows import jit, sit
from keras_umd.methods.looking import adamae, attmask, hpm
from keras_umd.methods.masked import colormae, fgmae, pixio, video_mae_random, videomae
from keras_umd.methods.method import list_methods as list  # keras_umd.methods.list()
from keras_umd.methods.method import method

__all__ = [
    "a2mim",
    "adamae",
    "attmask",
    "cae",
    "colormae",
    "context_encoder",
    "cropmae",
    "crossmae",
    "diffmae",
    "dit",
    "dmjd",
    "fgmae",
    "gmml",
    "hpm",
    "jit",
    "list",
    "localmim",
    "mae",
    "maskdit",
    "maskfeat",
    "method",
    "mfm",
    "pixio",
    "simmim",
    "sit",
    "split_brain",
    "umd",
    "umd_modern",
    "umd_one_head",
    "umd_x0",
    "usp",
    "video_mae_random",
    "videomae",
    "videomae_v2",
]
