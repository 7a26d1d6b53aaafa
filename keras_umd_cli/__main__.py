"""`python -m keras_umd_cli`."""

import sys

from keras_umd_cli import main

sys.exit(main())
