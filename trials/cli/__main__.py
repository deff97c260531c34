"""Run the command line as `python -m trials.cli`."""

import sys

from trials.cli import main

sys.exit(main())
