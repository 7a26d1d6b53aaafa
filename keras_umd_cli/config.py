"""Settings in a TOML file: those of `--config`, and those that a run writes into its folder."""

import difflib
import os
import pathlib
import tomllib

from keras_umd_cli.options import UsageError

CONFIG_FILE = "config.toml"


def dumps(settings):
    """Settings as TOML: numbers, strings, bools, lists and, at the end, dictionaries of them. `None` is left out.

    Args:
        settings: Dictionary.

    Returns:
        String.
    """
    values = {name: value for name, value in settings.items() if value is not None}
    lines = [f"{name} = {_value(value)}" for name, value in values.items() if not isinstance(value, dict)]
    for name, table in values.items():
        if isinstance(table, dict):
            lines += ["", f"[{name}]", dumps(table).rstrip("\n")]
    return "\n".join(lines) + "\n"


def _value(value):
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return repr(value)
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(_value, value))}]"
    if isinstance(value, (str, os.PathLike)):
        return f'"{"".join(map(_character, os.fspath(value)))}"'
    raise TypeError(f"TOML has no value for {value!r}")


def _character(character):
    if character in '"\\':
        return "\\" + character
    # Surrogates, of names that are no UTF-8, are no characters for TOML either.
    return character if character.isprintable() else f"\\u{ord(character):04x}"


def read(path, command, options, tables=()):
    """The settings in a TOML file.

    Args:
        path: String or path.
        command: String. Where the file says for which command it is, it must be this one.
        options: Dictionary of `Option`s by name, the settings that there are.
        tables: Names of dictionaries that are allowed beside them.

    Raises:
        UsageError: names file and setting.
    """
    try:
        values = tomllib.loads(pathlib.Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"{path} can't be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} is no TOML: {error}") from error
    of_command = values.pop("command", command)
    if of_command != command:
        raise UsageError(f"{path} is for `keras-umd {of_command}`. Received: it for `keras-umd {command}`")
    settings = {}
    for name, value in values.items():
        if name in tables and isinstance(value, dict):
            settings[name] = value
        elif name in options:
            settings[name] = options[name].checked(value, path)
        else:
            near = difflib.get_close_matches(name, options, 1)
            hint = f"; is it `{near[0]}`?" if near else f". There are: {', '.join(sorted(options))}"
            raise UsageError(f"{path}: `keras-umd {command}` has no setting `{name}`{hint}")
    return settings


def write(directory, command, settings):
    """Write the settings of a run into its folder, for `--config`."""
    path = pathlib.Path(directory, CONFIG_FILE)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".toml.part")
    temporary.write_text(dumps({"command": command, **settings}), encoding="utf-8")
    os.replace(temporary, path)


def of_run(directory):
    """All that a run's `config.toml` says, with `command`; `{}` without the file."""
    path = pathlib.Path(directory, CONFIG_FILE)
    return tomllib.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
