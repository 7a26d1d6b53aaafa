"""The arguments that `generate` and its relatives share, written down once."""

import dataclasses
import difflib
import inspect
from typing import Any

import numpy as np

from keras_umd.sampling import guidance, samplers
from keras_umd.sampling.time_grids import is_explicit
from keras_umd.utils.checks import check_integers, check_one_of, require

PAPER_STEPS = 250
DTYPES = ("uint8", "float32")
# Names of before, and those of other libraries: what they are here.
RENAMED = {
    "eta": "`sampler`, whose number is the eta of DDIM",
    "steps": "'num_steps'",
    "num_inference_steps": "'num_steps'",
    "guidance_scale": "'guidance'",
    "cfg_scale": "'guidance'",
}


@dataclasses.dataclass(frozen=True, eq=False)
class Settings:
    """Settings of sampling; `UMD.generate` documents them. Names and numbers become objects here."""

    num_steps: Any = None
    sampler: Any = None
    guidance: Any = None
    initial_noise: Any = None
    seed: Any = None
    predict_from: Any = None
    weights: Any = "average"
    image_indices: Any = None
    batch_size: Any = None
    verbose: Any = False
    jit_compile: Any = "auto"
    dtype: Any = "uint8"

    def __post_init__(self):
        object.__setattr__(self, "sampler", samplers.get(self.sampler))
        object.__setattr__(self, "guidance", guidance.get(self.guidance))
        check_integers(1, optional=True, batch_size=self.batch_size, num_steps=self.num_steps)
        for name in ("batch_size", "num_steps"):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, int(getattr(self, name)))
        for name in ("verbose", "jit_compile"):
            value = getattr(self, name)
            is_right = value == "auto" if isinstance(value, str) else isinstance(value, (bool, np.bool_))
            require(is_right, f"`{name}` must be 'auto', True or False.", **{name: value})
        check_one_of(DTYPES, dtype=self.dtype)

    def rows(self, schedule, start=None, needs_signal=False):
        """The sampler's rows, with the guidance of each call; `start` as of `Sampler.rows`.

        Raises:
            ValueError: if the prediction that is read `needs_signal` and the schedule leaves none somewhere.
        """
        num_steps = self.num_steps
        if num_steps is None and not is_explicit(self.sampler.timesteps):
            num_steps = min(PAPER_STEPS, schedule.num_timesteps) if start is None else 1
        rows = self.sampler.rows(num_steps, schedule, start)
        require(
            not needs_signal or np.all(rows["signal"] != 0),
            f"At timestep {rows['timestep'][0]:g} the schedule leaves no signal, and the noise tells nothing of "
            "the image; read another prediction, or give the sampler `timesteps` that start lower, as 'karras' do.",
            predict_from=self.predict_from,
        )
        scales = np.asarray(self.guidance.scales(rows["timestep"], schedule), "float32")
        return {**rows, "guidance_scale": scales, "is_guided": scales != 1}


def settings_of(function, options, **given):
    """The `Settings` among the keyword arguments of a function; a TypeError that names it for any other.

    Args:
        function: String, its name.
        options: Dictionary, what the caller passed.
        **given: Settings that the function makes itself, and takes under another name.
    """
    names = [field.name for field in dataclasses.fields(Settings) if field.name not in given]
    for name in options:
        if name in names:
            continue
        close = (
            [RENAMED[name]] if name in RENAMED else [repr(other) for other in difflib.get_close_matches(name, names)]
        )
        meant = f"; did you mean {' or '.join(close)}?" if close else f". It takes {', '.join(names)}."
        raise TypeError(f"`{function}` takes no argument {name!r}{meant} Received: {name}={options[name]!r:.200}")
    return Settings(**options, **given)


def takes_settings(function):
    """`function(..., **options)` as `help` and notebooks show it: with all settings as keyword arguments."""
    signature = inspect.signature(function)
    given = [p for p in signature.parameters.values() if p.kind is not p.VAR_KEYWORD]
    options = [
        inspect.Parameter(field.name, inspect.Parameter.KEYWORD_ONLY, default=field.default)
        for field in dataclasses.fields(Settings)
        if field.name not in signature.parameters
    ]

    function.__signature__ = signature.replace(parameters=[*given, *options])
    return function
