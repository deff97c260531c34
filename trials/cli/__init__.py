"""Command line ``atat``: parse the arguments, call one of the other packages, print.

:func:`main` runs a command and returns its exit code (:mod:`trials.cli.program`).
:mod:`trials.cli.parser` defines commands and options, :mod:`trials.cli.commands` what they do.
``python -m trials.cli`` is the same as ``atat``.
"""

from trials.cli.program import main

__all__ = ["main"]
