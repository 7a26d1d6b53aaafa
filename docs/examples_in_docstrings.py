"""For the reference: examples and call arguments in docstrings, which Markdown would take for quotations and prose."""

import re

import griffe


class Examples(griffe.Extension):
    """Puts a fence around each group of lines that starts with `>>>`, and makes a list of the call arguments."""

    def on_object(self, *, obj, **kwargs):
        if obj.docstring:
            obj.docstring.value = "\n".join(fenced(listed(obj.docstring.value.splitlines())))


def fenced(lines):
    is_code = False
    for line in lines:
        if not is_code and line.lstrip().startswith(">>>"):
            is_code, indent = True, line[: len(line) - len(line.lstrip())]
            yield f"{indent}```pycon"
        elif is_code and not line.strip():
            is_code = False
            yield f"{indent}```"
        yield re.sub(r"\s+# doctest: \+SKIP$", "", line)
    if is_code:
        yield f"{indent}```"


def listed(lines):
    is_inside = False
    for line in lines:
        is_inside = line == "Call arguments:" or (is_inside and (not line or line.startswith(" ")))
        yield re.sub(r"^    (\w[\w, ]*): ", r"    - `\1`: ", line) if is_inside else line
