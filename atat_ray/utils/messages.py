"""Lines for the user from code that prints nothing itself.

A line goes to stderr, or to the function that :func:`lines_to` names. A process whose output nobody
sees passes its lines on to one whose output the user sees.
"""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache

LOGGER = logging.getLogger("atat_ray")


def counted(n: int, noun: str) -> str:
    """Return a number with its noun, in the plural unless it is 1: ``1 unit``, ``2 units``."""
    return f"{n} {noun}{'' if n == 1 else 's'}"


class Sink(logging.Handler):
    """Handler that gives each line to a function."""

    def __init__(self, take: Callable[[str], None]) -> None:
        super().__init__()
        self.take = take

    def emit(self, record: logging.LogRecord) -> None:
        """Give the line of a log record to the function."""
        self.take(record.getMessage())


def tell(line: str) -> None:
    """Tell the user one line."""
    LOGGER.warning("%s", line)


@lru_cache(maxsize=1000)
def tell_once(line: str) -> None:
    """Tell the user one line about a file that this process reads again and again."""
    tell(line)


@contextmanager
def lines_to(take: Callable[[str], None]) -> Iterator[None]:
    """Give the lines of this process to a function while the block runs."""
    handlers, propagate = LOGGER.handlers, LOGGER.propagate
    LOGGER.handlers, LOGGER.propagate = [Sink(take)], False
    try:
        yield
    finally:
        LOGGER.handlers, LOGGER.propagate = handlers, propagate
