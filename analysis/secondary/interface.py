"""Interface of a secondary analysis: what a file of this package defines as ``SECTION``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from analysis.formatting.table import Table
from analysis.pipeline.primary import Results

if TYPE_CHECKING:
    from analysis.secondary.context import Context

# Where the page prints a section, in the order of the page.
PLACES = ("claims", "flow", "sensitivity", "outcomes", "leakage", "accuracy", "classes", "looks")

Found = TypeVar("Found")


def _no_sentence(results: Results, found: Any) -> list[str]:
    return []


@dataclass(frozen=True, kw_only=True)
class Section(Generic[Found]):
    """A secondary analysis: its estimate, and the table and sentences that report it.

    Attributes:
        name: of the module that defines the section; its result is found under it.
        place: where the page prints the section, one of :data:`PLACES`.
        estimate: returns the result, or None where the record has nothing to estimate. It may
            raise NotEstimable: the reason is then listed in the report.
        sentence: returns what the page says of a result, each sentence a paragraph.
        table: returns the table of a result; it is written as CSV, to ``tables.md`` and to the
            page, unless it has no rows.
        title: heading on the page; sections of one place and title that follow each other share
            it. Without a title the table stands in the text of the page.
        note: small print below the table.
        absent: sentence for the page where there is no result.
        table_name: file name of the table; the section's name if empty.
        style: CSS classes of the table.
        label: name in the list of what could not be estimated; the section's name if empty.
    """

    name: str
    place: str
    estimate: Callable[[Context], Found | None]
    sentence: Callable[[Results, Found], str | list[str]] = _no_sentence
    table: Callable[[Results, Found], Table] | None = None
    title: str | Callable[[Results], str] = ""
    note: str | Callable[[Results, Found], str | list[str]] = ""
    absent: str | Callable[[Results], str] = ""
    table_name: str = ""
    style: str = "wide"
    label: str = ""

    def __post_init__(self) -> None:
        if self.place not in PLACES:
            raise ValueError(
                f"the page has no place {self.place!r} for the section {self.name!r}; "
                f"places: {', '.join(PLACES)}"
            )
