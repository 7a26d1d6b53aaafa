"""Options: one table for the command line, the TOML file and the documentation."""

import argparse
import dataclasses
from typing import Any

CHOSEN = "chosen by what is there"  # a default that the command finds for itself


class UsageError(Exception):
    """What the user has to change; the program shows it without a traceback."""


@dataclasses.dataclass(frozen=True)
class Option:
    """An argument of a Python function, by the same name.

    Args:
        name: String, with underscores. On the command line `image_size` is `--image-size`.
        kind: `int`, `float`, `str`, `bool`; `word`, a number or else a string; or a list of one of them, for several.
        help: String.
        default: The default of the Python function, shown in the help and applied there; or `CHOSEN`.
        choices: Tuple of strings, or `None` for any.
        count: Integer, how many values a list has, or `None` for any number.
        is_positional: Bool. Whether it stands without its name.
        is_required: Bool, of a positional one.
    """

    name: str
    kind: Any
    help: str
    default: Any = None
    choices: tuple | None = None
    count: int | None = None
    is_positional: bool = False
    is_required: bool = True

    @property
    def flag(self):
        return "--" + self.name.replace("_", "-")

    def add_to(self, parser):
        """Add it to a parser. Without a value it is absent, so that the Python function's default holds."""
        settings = {"help": self.described(), "default": argparse.SUPPRESS}
        if self.kind is bool:
            parser.add_argument(self.flag, action=argparse.BooleanOptionalAction, **settings)
            return
        is_list = isinstance(self.kind, list)
        settings["type"] = self.kind[0] if is_list else self.kind
        if self.choices:
            settings["choices"] = self.choices
        if is_list:
            settings["nargs"] = self.count or "+"
        if self.is_positional:
            # Not required here: the file of --config may have it.
            parser.add_argument(self.name, **{**settings, "nargs": settings.get("nargs", "?")})
        else:
            parser.add_argument(self.flag, metavar=None if self.choices else self._metavar(), **settings)

    def _metavar(self):
        kind = self.kind[0] if isinstance(self.kind, list) else self.kind
        one = {int: "N", float: "X", word: "VALUE"}.get(kind, "TEXT")
        return (one,) * self.count if self.count else one

    def described(self):
        if self.default is None:
            return self.help
        default = " ".join(map(str, self.default)) if isinstance(self.default, (list, tuple)) else self.default
        return f"{self.help} (default: {default})".replace("%", "%%")

    def checked(self, value, where):
        """The value of a TOML file, or an error that names the file and the setting."""
        kind, is_list = (self.kind[0], True) if isinstance(self.kind, list) else (self.kind, False)
        values = value if is_list else [value]
        types = {int: int, float: (int, float), str: str, bool: bool, word: (int, float, str)}[kind]
        is_right = isinstance(values, list) and all(
            isinstance(item, types) and (kind is bool or not isinstance(item, bool)) for item in values
        )
        is_right &= self.count is None or (is_list and len(values) == self.count)
        if not is_right:
            what = f"a list of {self.count or 'one or more'} {kind.__name__}" if is_list else f"a {kind.__name__}"
            raise UsageError(f"{where}: `{self.name}` must be {what}. Received: {value!r}")
        if self.choices and not set(values) <= set(self.choices):
            raise UsageError(f"{where}: `{self.name}` must be one of {self.choices}. Received: {value!r}")
        return value


def word(text):
    """A number where it is one, else a string: `0.999` or `average`."""
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            pass
    return text
