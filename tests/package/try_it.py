"""What `make package` runs outside of the repository, with the package installed: `python -I try_it.py BACKEND`.

With the backend "none" it is an environment without any, where the import must say what to install.
"""

import importlib.metadata
import importlib.resources
import os
import pathlib
import sys

import numpy as np

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]


def train_and_generate():
    import keras_umd

    assert pathlib.Path(keras_umd.__file__).parent != REPOSITORY / "keras_umd", "that is the repository's"
    assert importlib.metadata.version("keras-umd") == keras_umd.__version__
    assert importlib.resources.files("keras_umd").joinpath("py.typed").is_file()
    model = keras_umd.UMD((8, 8, 1), patch_size=2, hidden_dim=16, num_layers=1, num_heads=2, decoder_layers=1)
    model.compile("adamw")
    model.fit(np.random.default_rng(0).integers(0, 256, (16, 8, 8, 1)).astype("uint8"), batch_size=8, verbose=0)
    samples = model.generate(num_images=2, num_steps=4)
    assert samples.shape == (2, 8, 8, 1) and samples.dtype == "uint8"
    return f"keras_umd {keras_umd.__version__} trained and generated"


def is_told_what_to_install():
    try:
        import keras_umd  # noqa: F401
    except ImportError as error:
        assert "pip install 'keras-umd[jax]'" in str(error), error
        return "the import says what to install"
    raise AssertionError("a backend is installed here")


if __name__ == "__main__":
    backend = sys.argv[1]
    if backend != "none":
        os.environ["KERAS_BACKEND"] = backend
    print(f"{backend}: {is_told_what_to_install() if backend == 'none' else train_and_generate()}")
