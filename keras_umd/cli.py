"""The command line, `keras-umd`: one command a task, the same arguments as in Python (docs/command_line.md).

The program begins in `keras_umd_cli`, which chooses the backend before this package and Keras are imported.
"""

import sys

from keras_umd.commands import COMMANDS
from keras_umd_cli import main


def run(command, settings, dry_run=False):
    """Run a command.

    Example:

    >>> run("generate", {"model": "runs/photos", "num_images": 4})

    Args:
        command: String, such as `"pretrain"`.
        settings: Dictionary of its options by name, as in its TOML file.
        dry_run: Bool. Whether to print the settings that it would take, and do nothing.
    """
    COMMANDS[command](settings, dry_run)


if __name__ == "__main__":
    sys.exit(main())
