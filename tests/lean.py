"""Imported first in a process of a test: without what Keras would import beside its backend, which takes seconds."""

import os
import sys

UNUSED = {"tensorflow", "sklearn", "matplotlib"} - {os.environ.get("KERAS_BACKEND")}
sys.modules.update(dict.fromkeys(UNUSED))  # to import what is None there is an ImportError
