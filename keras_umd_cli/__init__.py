"""The program `keras-umd`: what it reads and decides before Keras, and so a backend, is imported.

It is a package of its own because `import keras_umd` imports Keras: `--help`, `runs` and wrong arguments need none, and
the backend must be chosen before. What the commands do is in `keras_umd.commands`.
"""

from keras_umd_cli.program import main

__all__ = ["main"]
