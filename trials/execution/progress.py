"""What the user sees while a campaign runs: a live table on a terminal, plain lines elsewhere."""

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

RUNNING = "running"


@dataclass(frozen=True, kw_only=True, slots=True)
class Progress:
    """How far a campaign is; no outcome is in it.

    Attributes:
        counts: units by arm and state.
        seconds_left: estimate from the units that ended in this run; None before the first.
        per_minute: units that ended a minute in this run.
    """

    counts: dict[str, dict[str, int]]
    seconds_left: float | None
    per_minute: float


def go_unheard() -> None:
    """Print to nobody from now on, as the reader of our output, such as `head`, has seen enough."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


class Lines:
    """Plain lines, for files and pipes."""

    def __init__(self, stream: Any = None) -> None:
        self.stream = stream

    def say(self, line: str) -> None:
        """Print a line at once; where nobody reads any more, the work goes on without."""
        try:
            print(line, file=self.stream or sys.stdout, flush=True)
        except BrokenPipeError:
            go_unheard()

    def show(self, progress: Progress) -> None:
        """Say nothing: the lines of the units tell it."""


class Table(Lines):
    """A table that is drawn again and again below the lines."""

    def __init__(self) -> None:
        super().__init__()
        from rich.console import Console
        from rich.live import Live

        self.console = Console(highlight=False)
        self.live = Live(console=self.console, refresh_per_second=2, transient=True)
        self.progress: Progress | None = None
        self.told = time.monotonic()
        self.live.get_renderable = self.render

    def say(self, line: str) -> None:
        """Print a line above the table."""
        self.console.print(line, markup=False)

    def show(self, progress: Progress) -> None:
        """Take the numbers of the table."""
        self.progress, self.told = progress, time.monotonic()

    def render(self) -> Any:
        """Draw the table as it is now."""
        from rich.table import Table as Grid

        if self.progress is None:
            return ""
        states = list(next(iter(self.progress.counts.values())))
        grid = Grid(box=None, pad_edge=False, header_style="dim")
        grid.add_column("arm")
        for state in states:
            grid.add_column(state, justify="right")
        for arm, counts in self.progress.counts.items():
            grid.add_row(arm, *(str(counts[state]) for state in states))
        grid.caption = self.words()
        grid.caption_justify = "left"
        return grid

    def words(self) -> str:
        """Say how long it will take, counted down since the last unit ended."""
        progress = self.progress
        if progress is None or progress.seconds_left is None:
            return "the first units are running; Ctrl-C stops after their present stage"
        left = progress.seconds_left - (time.monotonic() - self.told)
        return f"about {clock(left)} left, {progress.per_minute:.1f} units a minute"


@contextmanager
def screen(*, plain: bool = False) -> Iterator[Lines]:
    """Give the live table where there is a terminal, else lines; ``plain`` sends them to stderr."""
    if plain:
        yield Lines(sys.stderr)
    elif sys.stdout.isatty():
        table = Table()
        with table.live:
            yield table
    else:
        yield Lines()


def clock(seconds: float) -> str:
    """Write a duration as people say it: 45 s, 3 min, 2.5 h."""
    if seconds < 90:
        return f"{max(seconds, 1):.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
