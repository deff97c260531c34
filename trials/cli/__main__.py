"""Run the command line by ``python -m trials.cli``."""

import sys

from trials.cli import main

sys.exit(main())
