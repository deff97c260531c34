"""The command line `atat`."""

from trials.cli.parser import main

__all__ = ["main"]
