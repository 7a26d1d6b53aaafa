"""The program: reads its arguments, chooses the backend, runs the command, and shows errors as one line."""

import argparse
import contextlib
import sys
import warnings

from keras_umd_cli import backends, config, runs
from keras_umd_cli.options import UsageError
from keras_umd_cli.tables import COMMANDS

DESCRIPTION = "Unified Masked Diffusion: train on a folder of images, generate, judge. One command a task."


def main(argv=None):
    """Run `keras-umd` with arguments.

    Example:

    >>> main(["pretrain", "photos", "--epochs", "10"])
    0

    Args:
        argv: List of strings, or `None` for those of the process.

    Returns:
        Integer, the exit status: 0; 1 after an error, 2 for wrong arguments, 130 after Ctrl-C.
    """
    arguments = vars(make_parser().parse_args(argv))
    command, with_traceback = arguments.pop("command"), arguments.pop("traceback", False)
    try:
        with _short_warnings():
            if command == "runs":
                print(runs.run(**arguments))
            else:
                _run(command, arguments)
    except KeyboardInterrupt:
        print("\nStopped. A training goes on with the same command.", file=sys.stderr)
        return 130
    except Exception as error:
        if with_traceback:
            raise
        kind = "" if isinstance(error, (UsageError, ValueError)) else f"{type(error).__name__}: "
        said = str(error).replace("resume='force'", "--resume force")  # as it is called here
        print(f"keras-umd: error: {kind}{said}", file=sys.stderr)
        return 2 if isinstance(error, UsageError) else 1
    return 0


def make_parser():
    """The parser of all commands."""
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--traceback", action="store_true", help="show where an error comes from")
    parser = argparse.ArgumentParser(prog="keras-umd", description=DESCRIPTION)
    parsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, command in COMMANDS.items():
        one = parsers.add_parser(name, help=command.help, description=command.help, parents=[common])
        for option in command.options:
            option.add_to(one)
        one.add_argument("--config", metavar="FILE", help="a TOML file of these settings, as runs write it")
        one.add_argument("--dry-run", action="store_true", help="show the settings that it would take, and end")
        one.add_argument("--backend", help="jax, torch or tensorflow (default: KERAS_BACKEND, or what is installed)")
    one = parsers.add_parser("runs", help="look at runs and compare them", parents=[common])
    runs.add_arguments(one)
    return parser


def settings_of(command, arguments):
    """The settings of a command: its arguments, and below them those of the file.

    Raises:
        UsageError: for a required one that neither has.
    """
    options = COMMANDS[command].by_name()
    given = {name: value for name, value in arguments.items() if name in options}
    path = arguments.get("config")
    of_file = config.read(path, command, options, COMMANDS[command].tables) if path else {}
    settings = {**of_file, **given}
    for option in options.values():
        if option.is_positional and option.is_required and option.name not in settings:
            raise UsageError(f"`keras-umd {command}` needs {option.name.upper()}: {option.help}")
    return settings


def _run(command, arguments):
    settings = settings_of(command, arguments)
    print(backends.choose(arguments.get("backend")))
    from keras_umd import cli

    cli.run(command, settings, dry_run=arguments["dry_run"])


@contextlib.contextmanager
def _short_warnings():
    """Warnings as one line, without the place in the code."""
    before = warnings.formatwarning
    warnings.formatwarning = lambda message, category, *args, **kwargs: f"Warning: {message}\n"
    try:
        yield
    finally:
        warnings.formatwarning = before
