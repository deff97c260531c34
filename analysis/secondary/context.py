"""Run the secondary analyses of a record and share their results by name."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar

import pandas as pd

from analysis.inference.table_checks import NotEstimable, list_names
from analysis.pipeline.primary import Results
from analysis.record.reader import Record
from analysis.schema.columns import label, robust_columns_of
from analysis.secondary.registry import SECTIONS, find_section

_Result = TypeVar("_Result")


@dataclass(frozen=True, kw_only=True)
class SecondaryResults(Mapping[str, Any]):
    """Results of the secondary analyses by section name; None where there is none."""

    found: dict[str, Any]
    notes: tuple[str, ...]  # what could not be estimated, and why

    def __getitem__(self, name: str) -> Any:
        return self.found[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.found)

    def __len__(self) -> int:
        return len(self.found)


def analyse_secondary(record: Record, results: Results) -> SecondaryResults:
    """Run every registered section on a record.

    Args:
        record: of the campaign.
        results: registered comparisons of the same record.

    Returns:
        One result a section, None where the record has nothing to estimate or not enough data.
    """
    context = Context(record, results)
    found = {name: context.result(name) for name in SECTIONS}
    return SecondaryResults(found=found, notes=tuple(context.notes))


class Context:
    """What a section estimates from: the record, its registered results, other sections' results.

    Attributes:
        record: of the campaign.
        results: registered comparisons.
        notes: what could not be estimated so far, and why.
    """

    def __init__(self, record: Record, results: Results) -> None:
        self.record = record
        self.results = results
        self.notes: list[str] = []
        self._found: dict[str, Any] = {}

    def result(self, name: str) -> Any:
        """Return the result of a section, estimated at the first call; None if there is none."""
        if name not in self._found:
            section = find_section(name)
            label = section.label or name.replace("_", " ")
            self._found[name] = self.attempt(label, section.estimate, self)
        return self._found[name]

    def attempt(
        self, label: str, estimator: Callable[..., _Result], *args: Any, **options: Any
    ) -> _Result | None:
        """Call an estimator; note the reason under ``label`` and return None if it cannot."""
        try:
            return estimator(*args, **options)
        except NotEstimable as reason:
            note = f"{label}: {reason}"
            if note not in self.notes:
                self.notes.append(note)
            return None

    @property
    def protocol(self) -> dict[str, Any]:
        """Protocol of the campaign."""
        return self.record.protocol

    @property
    def pair(self) -> dict[str, str]:
        """Arms of the primary contrast, as the keyword arguments of an estimator."""
        primary = self.results.contrasts[0]
        return {"arm": primary.arm, "against": primary.against}

    @cached_property
    def robust(self) -> list[str]:
        """Robust-accuracy columns that vary over the analysed units, by increasing epsilon."""
        units = self.results.analysed
        return [
            c for c in robust_columns_of(list(units.columns)) if len(set(units[c].dropna())) > 1
        ]

    @cached_property
    def mediators(self) -> list[str]:
        """Robust-accuracy columns that may carry the effect; none in an A/A check."""
        return [] if self.results.same_training else self.robust

    def measured(self, *columns: str) -> pd.DataFrame:
        """Return the analysed units for which all of these columns were measured."""
        return self.results.analysed.dropna(subset=list(columns))

    @cached_property
    def joint(self) -> list[str]:
        """Varying robust accuracies that a model of all of them at once can use.

        A unit without any of them is left out. One that lacks for another unit is left out itself
        and named in the notes, so that one missing value costs no unit its other epsilons.
        """
        units = self.results.analysed
        some = units.loc[units[self.robust].notna().any(axis=1)] if self.robust else units
        gaps = {c: some["unit_id"][some[c].isna()] for c in self.robust}
        for column, lacking in gaps.items():
            if len(lacking):
                self.notes.append(
                    f"models of all epsilons leave out {label(column)}, which was not measured for "
                    f"{list_names(lacking)}"
                )
        return [c for c in self.robust if not len(gaps[c])]

    @cached_property
    def complete(self) -> pd.DataFrame:
        """Analysed units for which every robust accuracy of a joint model was measured."""
        return self.measured(*self.joint)
