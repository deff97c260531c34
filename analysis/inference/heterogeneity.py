"""Heterogeneity of an effect over classes: a test of equal effects, and shrunken class effects.

Exploratory. Classes of one model share its training, so whole units are reallocated. People differ
between blocks, so a class is always a class of its block.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd

from analysis.inference.multiplicity import benjamini_hochberg
from analysis.inference.reallocation import Reallocation
from analysis.inference.table_checks import NotEstimable, check_clusters, check_columns


@dataclass(frozen=True, kw_only=True, slots=True)
class ClassEffect:
    """Effect on one class of one block, in percentage points."""

    block: str
    name: str
    raw: float
    shrunken: float  # towards the block's mean effect
    p: float  # by reallocating the units of the block
    adjusted_p: float  # Benjamini-Hochberg over all classes


@dataclass(frozen=True, kw_only=True, slots=True)
class Heterogeneity:
    """Test of equal class effects, and the effects in the order of blocks and classes."""

    arm: str
    against: str
    omnibus_p: float  # of the null that all classes of a block have one effect
    spread: float  # estimated SD of true class effects, percentage points
    noise: float  # root mean square of the error of one class effect, percentage points
    exact: bool  # whether every allocation was enumerated
    classes: tuple[ClassEffect, ...]

    def __str__(self) -> str:
        return (
            f"{self.arm} - {self.against} over {len(self.classes)} classes: true effects spread by "
            f"{self.spread:.3g} pp (noise of one {self.noise:.3g}), equal effects p = "
            f"{self.omnibus_p:.3g}"
        )


def class_heterogeneity(
    classes: pd.DataFrame,
    *,
    arm: str,
    against: str,
    seed: int,
    hits: str = "k_1",
    total: str = "n",
) -> Heterogeneity:
    """Test whether all classes have the same effect, and shrink the class effects.

    The omnibus statistic is the sum of squares of class effects around their block's mean. An
    effect that is the same for all classes of a unit cancels in it, so its randomisation test tests
    exactly equal effects. Shrinkage is empirical Bayes with one noise and one spread by the method
    of moments (Efron & Morris 1975).

    Args:
        classes: one row a unit and class: ``unit_id``, ``block``, ``arm``, ``class``, and counts.
        arm, against: the two arms; effects are ``arm`` minus ``against``.
        seed: of the reallocations, where they are too many to enumerate.
        hits, total: columns of the counts; the outcome of a class is ``hits`` / ``total``.

    Raises:
        ValueError: a column is missing, or a unit has two arms or two blocks.
        NotEstimable: a block has fewer than two units of an arm, or units of a block were measured
            on different classes.
    """
    check_columns(classes, ["unit_id", "block", "arm", "class", hits, total])
    rows = classes.loc[classes["arm"].isin([arm, against])]
    check_clusters(rows, "unit_id")
    rates = rows.assign(rate=100.0 * rows[hits] / rows[total])
    parts = [
        _Block.of(str(block), inside, arm)
        for block, inside in rates.groupby("block", sort=True)
        if inside["arm"].nunique() == 2
    ]
    if not parts or any(min(p.z.sum(), (1 - p.z).sum()) < 2 for p in parts):
        raise NotEstimable("class effects need two finished units of each arm in every block")
    z = np.concatenate([p.z for p in parts])
    block = np.repeat(np.arange(len(parts)), [len(p.z) for p in parts])
    reallocation = Reallocation(z=z, block=block, seed=seed)
    widest = max(p.y.shape[1] for p in parts)
    wide = np.concatenate([np.pad(p.y, ((0, 0), (0, widest - p.y.shape[1]))) for p in parts])
    sums = reallocation.treated_sums(np.column_stack([z, wide]))
    own, scatter, effects, p_values = _reference(reallocation, parts, sums)
    spread2, noise2 = _variances(parts, effects)
    factor = spread2 / (spread2 + noise2) if spread2 + noise2 > 0 else 0.0
    return Heterogeneity(
        arm=arm,
        against=against,
        omnibus_p=float(np.mean(scatter >= scatter[own] * (1 - 1e-9))),
        spread=float(np.sqrt(spread2)),
        noise=float(np.sqrt(noise2)),
        exact=reallocation.exact,
        classes=tuple(_class_effects(parts, effects, p_values, factor)),
    )


def _class_effects(
    parts: list[_Block], effects: list[np.ndarray], p_values: list[np.ndarray], factor: float
) -> Iterator[ClassEffect]:
    """Shrink effects by ``factor`` towards their block's mean and adjust all p-values together."""
    adjusted = iter(benjamini_hochberg(np.concatenate(p_values)))
    for part, effect, p in zip(parts, effects, p_values, strict=True):
        mean = effect.mean()
        for name, raw, class_p in zip(part.names, effect, p, strict=True):
            yield ClassEffect(
                block=part.name,
                name=name,
                raw=float(raw),
                shrunken=float(mean + factor * (raw - mean)),
                p=float(class_p),
                adjusted_p=float(next(adjusted)),
            )


def _variances(parts: list[_Block], effects: list[np.ndarray]) -> tuple[float, float]:
    """Return the variance of true class effects and that of the noise of one class effect."""
    raw = np.concatenate([e - e.mean() for e in effects])
    noise2 = float(np.mean(np.concatenate([p.noise for p in parts])))
    return max(0.0, float(np.sum(raw**2)) / (len(raw) - len(parts)) - noise2), noise2


@dataclass(frozen=True, slots=True)
class _Block:
    """Rates of one block: units x classes, in percent."""

    name: str
    names: list[str]
    z: np.ndarray  # (units,)
    y: np.ndarray  # (units, classes)
    noise: np.ndarray  # (classes,) variance of each class effect

    @classmethod
    def of(cls, name: str, rows: pd.DataFrame, arm: str) -> _Block:
        """Arrange the rows of one block as units x classes."""
        table = rows.pivot(index="unit_id", columns="class", values="rate")
        table = table[sorted(table.columns, key=_natural)]
        if table.isna().to_numpy().any():
            raise NotEstimable(f"units of block {name} were not measured on the same classes")
        arms = rows.drop_duplicates("unit_id").set_index("unit_id")["arm"].reindex(table.index)
        z = (arms == arm).to_numpy(dtype=float)
        y = table.to_numpy(dtype=float)
        # class effects are compared with their block's mean, so each unit's mean is subtracted
        centred = y - y.mean(axis=1, keepdims=True)
        noise = np.zeros(y.shape[1])
        for value in (0.0, 1.0):
            if (z == value).sum() > 1:
                noise += centred[z == value].var(axis=0, ddof=1) / (z == value).sum()
        return cls(name, [str(c) for c in table.columns], z, y, noise)


def _natural(name: object) -> tuple[list[str | int], str]:
    """Return a sort key that takes the numbers in a name as numbers: s2 is before s10."""
    text = str(name)
    parts = re.split(r"(\d+)", text)  # texts and numbers alternate
    return [int(part) if i % 2 else part for i, part in enumerate(parts)], text


def _reference(
    reallocation: Reallocation, parts: list[_Block], sums: list[np.ndarray]
) -> tuple[int, np.ndarray, list[np.ndarray], list[np.ndarray]]:
    """Return the observed row, the scatter in every reallocation, and class effects and p by block.

    The scatter is the sum of squares of class effects around their block's mean.
    """
    scatters, effects, p_values = [], [], []
    for part, s, (n, k) in zip(parts, sums, reallocation.sizes, strict=True):
        treated = s[:, 1 : 1 + part.y.shape[1]]
        drawn = treated / k - (part.y.sum(axis=0) - treated) / (n - k)
        own = int(np.argmax(s[:, 0]))
        effects.append(drawn[own])
        p_values.append(np.mean(np.abs(drawn) >= np.abs(drawn[own]) - 1e-9, axis=0))
        scatters.append(((drawn - drawn.mean(axis=1, keepdims=True)) ** 2).sum(axis=1))
    overlap = reallocation.combine([s[:, 0] for s in sums])
    return int(np.argmax(overlap)), reallocation.combine(scatters), effects, p_values
