"""For the reference: examples in docstrings become code, which Markdown would take for quotations."""

import griffe


class Examples(griffe.Extension):
    """Puts a fence around each group of lines that starts with `>>>`."""

    def on_object(self, *, obj, **kwargs):
        if obj.docstring:
            obj.docstring.value = "\n".join(fenced(obj.docstring.value.splitlines()))


def fenced(lines):
    is_code = False
    for line in lines:
        if not is_code and line.lstrip().startswith(">>>"):
            is_code, indent = True, line[: len(line) - len(line.lstrip())]
            yield f"{indent}```pycon"
        elif is_code and not line.strip():
            is_code = False
            yield f"{indent}```"
        yield line
    if is_code:
        yield f"{indent}```"
