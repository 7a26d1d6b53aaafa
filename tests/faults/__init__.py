"""Faults on purpose: kills, power cuts, damage, full disks. `make faults` runs all; `make test`, a sample of each."""

import os

IN_FULL = bool(os.environ.get("KERAS_UMD_FAULTS"))
