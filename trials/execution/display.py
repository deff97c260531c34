"""What the user sees during a run: a live table on a terminal, plain lines elsewhere."""

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from atat_ray.utils.terminal import printable_lines


@dataclass(frozen=True, kw_only=True, slots=True)
class Progress:
    """How far a campaign is; it contains no outcome.

    Attributes:
        counts: units by arm and status.
        seconds_left: estimate from the units that ended in this run; None before the first.
        per_minute: units that ended a minute in this run.
    """

    counts: dict[str, dict[str, int]]
    seconds_left: float | None
    per_minute: float


def discard(stream: Any) -> None:
    """Discard what is printed to a stream from now on: its reader ended, or its disk is full."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


class Lines:
    """Plain lines, for files and pipes."""

    def __init__(self, stream: Any = None) -> None:
        self.stream = stream

    def say(self, line: str) -> None:
        """Print a line at once; output that cannot be written does not end the run."""
        stream = self.stream or sys.stdout
        try:
            print(printable_lines(line), file=stream, flush=True)
        except OSError:
            discard(stream)

    def show(self, progress: Progress) -> None:
        """Print nothing: there is a line for each unit already."""

    def close(self) -> None:
        """Leave the terminal as it was."""

    def end_process(self, line: str, code: int) -> None:
        """Print a last line and end this process at once, whatever its other threads wait for.

        Ray's client waits outside of Python, where neither exceptions nor signal handlers reach it.
        """
        self.close()
        print(f"atat: {line}", file=sys.stderr, flush=True)
        os._exit(code)


class LiveTable(Lines):
    """A table that is redrawn below the lines."""

    def __init__(self) -> None:
        super().__init__()
        from rich.console import Console
        from rich.live import Live

        self.console = Console(highlight=False)
        self.live = Live(console=self.console, refresh_per_second=2, transient=True)
        self.progress: Progress | None = None
        self.updated = time.monotonic()
        self.live.get_renderable = self.render

    def say(self, line: str) -> None:
        """Print a line above the table."""
        try:
            self.console.print(printable_lines(line), markup=False)
        except OSError:
            discard(sys.stdout)

    def close(self) -> None:
        """Remove the table."""
        self.live.stop()

    def show(self, progress: Progress) -> None:
        """Update the table."""
        self.progress, self.updated = progress, time.monotonic()

    def render(self) -> Any:
        """Draw the table as it is now."""
        from rich.table import Table

        if self.progress is None:
            return ""
        states = list(next(iter(self.progress.counts.values())))
        table = Table(box=None, pad_edge=False, header_style="dim")
        table.add_column("arm")
        for state in states:
            table.add_column(state, justify="right")
        for arm, counts in self.progress.counts.items():
            table.add_row(arm, *(str(counts[state]) for state in states))
        table.caption = self.caption()
        table.caption_justify = "left"
        return table

    def caption(self) -> str:
        """Say how long it will take, counted down since the last unit ended."""
        progress = self.progress
        if progress is None or progress.seconds_left is None:
            return "the first units are running; Ctrl-C stops after their current stage"
        left = progress.seconds_left - (time.monotonic() - self.updated)
        return f"about {format_duration(left)} left, {progress.per_minute:.1f} units a minute"


@contextmanager
def open_display(*, plain: bool = False) -> Iterator[Lines]:
    """Open the live table on a terminal, plain lines elsewhere; ``plain`` prints to stderr."""
    if plain:
        yield Lines(sys.stderr)
    elif sys.stdout.isatty():
        table = LiveTable()
        with table.live:
            yield table
    else:
        yield Lines()


def format_duration(seconds: float) -> str:
    """Write a duration in the unit that suits it.

    >>> [format_duration(seconds) for seconds in (45, 180, 9000)]
    ['45 s', '3 min', '2.5 h']
    """
    if seconds < 90:
        return f"{max(seconds, 1):.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
