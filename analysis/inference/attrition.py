"""Failed units by arm, and bounds on the effect over all units."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

from analysis.inference.table_checks import NotEstimable, check_columns, check_range
from analysis.schema.columns import unit_of


@dataclass(frozen=True, kw_only=True, slots=True)
class Attrition:
    """Units without an outcome in two arms, and bounds on the effect that include them.

    Worst-case bounds are on the blocked difference of arm means over all units that have ended.
    Lee's are on that over the units that would have finished in either arm. Both are in the printed
    unit and do not include sampling error. Bounds that do not exist are None.
    """

    arm: str
    against: str
    missing_arm: int
    missing_against: int
    n_arm: int  # units that have ended
    n_against: int
    fisher_p: float  # of the null that both arms lose units at the same rate
    worst_low: float | None  # None where the outcome has no largest value
    worst_high: float | None
    lee_low: float | None  # None where no block has outcomes of both arms
    lee_high: float | None
    lee_trims: tuple[str, ...]  # the arms that are trimmed in a block, where they lost fewer
    unit: str

    def __str__(self) -> str:
        lost = (
            f"{self.missing_arm} of {self.n_arm} units of {self.arm} and {self.missing_against} of "
            f"{self.n_against} of {self.against} have no outcome (Fisher p = {self.fisher_p:.3g})"
        )
        return (
            f"{lost}; worst case {self._ends(self.worst_low, self.worst_high)}, Lee bounds "
            f"{self._ends(self.lee_low, self.lee_high)}"
        )

    def _ends(self, low: float | None, high: float | None) -> str:
        """Format bounds with their unit."""
        known = low is not None and high is not None
        return f"{low:+.3g} to {high:+.3g} {self.unit}" if known else "not estimable"


def attrition_bounds(units: pd.DataFrame, outcome: str, *, arm: str, against: str) -> Attrition:
    """Bound the effect where outcomes are missing; ``units`` holds all units that have ended.

    Arms are compared within the blocks that hold both, and blocks are averaged.
    Worst case after Manski (1990): missing outcomes are at either end of their range. Lee (2009),
    Proposition 1a: assuming that within a block the arm changes failing in one direction only, the
    arm that lost fewer units is trimmed by the excess share, from the top or from the bottom.

    Raises:
        ValueError: a column is missing, or a fraction is outside [0, 1].
        NotEstimable: no block holds units of both arms that have ended.
    """
    check_columns(units, ["unit_id", "block", "arm", outcome])
    check_range(units, outcome)
    unit = unit_of(outcome)
    ended = units.loc[units["arm"].isin([arm, against])]
    blocks = [_Block.of(rows, outcome, arm, against) for _, rows in ended.groupby("block")]
    cells = [b for b in blocks if len(b.arm) and len(b.against)]
    if not cells:
        raise NotEstimable(f"no block holds units of both {arm} and {against} that have ended")
    counts = {a: _counts(ended.loc[ended["arm"] == a, outcome]) for a in (arm, against)}
    worst = _worst_case(cells, unit.largest) if np.isfinite(unit.largest) else (None, None)
    lee = _average([(b.always, b.lee()) for b in cells if b.always > 0])
    trimmed = {arm: any(b.excess > 0 for b in cells), against: any(b.excess < 0 for b in cells)}
    ends = [None if end is None else float(unit.scale * end) for end in (*worst, *lee)]
    return Attrition(
        arm=arm,
        against=against,
        missing_arm=counts[arm][0],
        missing_against=counts[against][0],
        n_arm=sum(counts[arm]),
        n_against=sum(counts[against]),
        fisher_p=float(np.asarray(stats.fisher_exact([counts[arm], counts[against]]))[1]),
        worst_low=ends[0],
        worst_high=ends[1],
        lee_low=ends[2],
        lee_high=ends[3],
        lee_trims=tuple(a for a, cut in trimmed.items() if cut and lee[0] is not None),
        unit=unit.name,
    )


def _counts(values: pd.Series) -> tuple[int, int]:
    """Return the numbers of missing and of known outcomes."""
    known = int(np.isfinite(values.to_numpy(dtype=float)).sum())
    return len(values) - known, known


def _average(
    parts: list[tuple[float, tuple[float, float]]],
) -> tuple[float, float] | tuple[None, None]:
    """Average (weight, bounds) of the blocks; without a block there are no bounds."""
    total = sum(weight for weight, _ in parts)
    if not total > 0:
        return None, None
    low, high = (sum(w * bounds[i] for w, bounds in parts) / total for i in (0, 1))
    return low, high


def _worst_case(blocks: list[_Block], largest: float) -> tuple[float, float] | tuple[None, None]:
    """Return the blocked difference with each missing outcome at the end that lowers, raises it."""
    parts = []
    for b in blocks:
        ends = []
        for fill in ((0.0, largest), (largest, 0.0)):
            one, other = (
                np.where(np.isfinite(v), v, f).mean()
                for v, f in zip((b.arm, b.against), fill, strict=True)
            )
            ends.append(float(one - other))
        n, k = len(b.arm) + len(b.against), len(b.arm)
        parts.append((k * (n - k) / n, (ends[0], ends[1])))
    return _average(parts)


@dataclass(frozen=True, slots=True)
class _Block:
    """Outcomes of the ended units of two arms in one block; NaN where one is missing."""

    arm: np.ndarray
    against: np.ndarray

    @classmethod
    def of(cls, rows: pd.DataFrame, outcome: str, arm: str, against: str) -> _Block:
        """Return the outcomes of a block."""
        return cls(*(rows.loc[rows["arm"] == a, outcome].to_numpy(float) for a in (arm, against)))

    @property
    def shares(self) -> tuple[float, float]:
        """Shares of the units of each arm that have an outcome."""
        return float(np.isfinite(self.arm).mean()), float(np.isfinite(self.against).mean())

    @property
    def excess(self) -> float:
        """Share of the first arm less that of the second, exactly 0 where they are equal."""
        one, other = self.shares
        return 0.0 if np.isclose(one, other) else one - other

    @property
    def always(self) -> float:
        """Number of units of the block that would have an outcome in either arm."""
        return (len(self.arm) + len(self.against)) * min(self.shares)

    def lee(self) -> tuple[float, float]:
        """Return Lee's bounds; units at the cut count in part."""
        one, other = (np.sort(v[np.isfinite(v)]) for v in (self.arm, self.against))
        left = min(self.shares) / max(self.shares) if self.excess else 1.0
        cut, whole = (one, other) if self.excess > 0 else (other, one)
        low, high = (_trimmed_mean(cut[::step], left) for step in (1, -1))
        mean = float(whole.mean())
        return (low - mean, high - mean) if self.excess > 0 else (mean - high, mean - low)


def _trimmed_mean(ordered: np.ndarray, share: float) -> float:
    """Average the first ``share`` of the values; the value at the cut has a partial weight."""
    weight = np.clip(share * len(ordered) - np.arange(len(ordered)), 0, 1)
    return float(weight @ ordered / weight.sum())
