"""The README.md of a preset: what it is, what was measured, how to load it, and under which licence."""

import json

LOADING = """```python
import keras_umd

model = keras_umd.{kind}.from_preset({name!r})  # or the path of this folder, or its address on a hub
```"""


def model_card(name, metadata):
    """The text of a card, with the header that the Hugging Face Hub reads.

    Args:
        name: String, of the preset.
        metadata: Dictionary, what `metadata.json` holds.
    """
    head = {"library_name": "keras", "tags": ["keras_umd", "masked-diffusion"], "license": metadata["license"]}
    lines = ["---", *(f"{key}: {json.dumps(value)}" for key, value in head.items() if value), "---", f"# {name}", ""]
    lines += [metadata["description"] or f"A `keras_umd.{metadata['kind']}` with its weights.", ""]
    lines += [LOADING.format(kind=metadata["kind"], name=name), "", "| | |", "|---|---|"]
    facts = {
        "parameters": f"{metadata['parameters']:,}",
        **{key.replace("_", " "): value for key, value in metadata["preprocessing"].items()},
        "averages of the weights": metadata["averages"],
        **metadata["versions"],
    }
    lines += [f"| {_cell(key)} | {_cell(value)} |" for key, value in facts.items()]
    if metadata["results"]:
        lines += ["", "## Results", "", "| metric | value | protocol |", "|---|---|---|"]
        lines += [f"| {' | '.join(map(_cell, _row(card)))} |" for card in metadata["results"]]
    lines += ["", "## Licence", "", metadata["license"] or "None is given: ask who made it before you use it.", ""]
    return "\n".join(lines)


def _row(card):
    """Metric, value and protocol of a result's card, as texts."""
    value = f"{card['value']:.4g}"
    if card.get("deviation") is not None:
        value += f" +- {card['deviation']:.2g}"
    return card["metric"], value, ", ".join(f"{key}: {setting}" for key, setting in card["protocol"].items())


def _cell(value):
    return str(value).replace("|", "\\|").replace("\n", " ")
