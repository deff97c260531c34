"""Effects by class: the omnibus test keeps its size, shrinkage is towards the block's mean."""

from __future__ import annotations

from itertools import combinations, product

import numpy as np
import pandas as pd
import pytest

from analysis.inference.heterogeneity import class_heterogeneity
from analysis.inference.multiplicity import benjamini_hochberg
from analysis.inference.table_checks import NotEstimable

PAIR = {"arm": "a", "against": "b", "seed": 1}


def draw(effects: list[float], seed: int = 0, per_cell: int = 4, blocks: int = 2) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    rows = []
    for b in range(blocks):
        levels = rng.uniform(0.5, 0.7, len(effects))
        for arm in "ab":
            for i in range(per_cell):
                shift = rng.normal(0, 0.05)  # shared by all classes of a run
                for c, effect in enumerate(effects):
                    mean = np.clip(levels[c] + shift - effect * (arm == "a"), 0, 1)
                    row = (f"b{b}/{arm}{i}", f"b{b}", arm, c, 40, rng.binomial(40, mean))
                    rows.append(row)
    return pd.DataFrame(rows, columns=["unit_id", "block", "arm", "class", "n", "k_1"])


def test_omnibus_p_equals_brute_force() -> None:
    classes = draw([0.0, 0.1, 0.3], per_cell=2)
    found = class_heterogeneity(classes, **PAIR)
    rates = classes.assign(rate=100 * classes["k_1"] / classes["n"])
    wide = rates.pivot(index=["block", "unit_id"], columns="class", values="rate")
    blocks = [wide.loc[b].to_numpy() for b in ("b0", "b1")]
    values = []
    for chosen in product(combinations(range(4), 2), repeat=2):
        total = 0.0
        for y, pick in zip(blocks, chosen, strict=True):
            inside = np.isin(np.arange(4), pick)
            d = y[inside].mean(axis=0) - y[~inside].mean(axis=0)
            total += ((d - d.mean()) ** 2).sum()
        values.append(total)
    own = values[0]  # units a0 and a1 come first in both blocks
    assert found.omnibus_p == pytest.approx(np.mean(np.array(values) >= own - 1e-9))
    assert found.exact


def test_equal_effects_are_rejected_no_more_often_than_alpha_and_unequal_ones_found() -> None:
    null = [class_heterogeneity(draw([0.3] * 6, seed=s, blocks=1), **PAIR) for s in range(120)]
    assert np.mean([f.omnibus_p <= 0.1 for f in null]) < 0.18
    apart = class_heterogeneity(draw([0.0, 0.0, 0.0, 0.5, 0.5, 0.5]), **PAIR)
    assert apart.omnibus_p < 0.01
    assert apart.spread > 15


def test_shrunken_effects_lie_between_the_raw_one_and_the_blocks_mean() -> None:
    found = class_heterogeneity(draw([0.1, 0.2, 0.4], seed=2), **PAIR)
    for block in ("b0", "b1"):
        mine = [c for c in found.classes if c.block == block]
        mean = np.mean([c.raw for c in mine])
        for c in mine:
            assert min(mean, c.raw) - 1e-9 <= c.shrunken <= max(mean, c.raw) + 1e-9
    adjusted = benjamini_hochberg(np.array([c.p for c in found.classes]))
    assert [c.adjusted_p for c in found.classes] == pytest.approx(list(adjusted))
    assert "6 classes" in str(found)


def test_units_with_different_classes_are_refused() -> None:
    classes = draw([0.1, 0.2])
    with pytest.raises(NotEstimable, match="not measured on the same classes"):
        class_heterogeneity(classes.iloc[1:], **PAIR)
    with pytest.raises(NotEstimable, match="two finished units of each arm"):
        class_heterogeneity(draw([0.1, 0.2], per_cell=1), **PAIR)


def test_classes_stand_in_the_order_of_the_numbers_in_their_names() -> None:
    names = ["10", "s2", "s10", "s10b", "x"]
    rows = draw([0.0] * len(names))
    numbered = class_heterogeneity(rows, **PAIR)
    shuffled = [2, 0, 4, 1, 3]  # row order says nothing
    named = rows.assign(**{"class": rows["class"].map(dict(enumerate(names)))})
    found = class_heterogeneity(named.sort_values("class", key=lambda c: c.map(
        dict(zip(names, shuffled, strict=True)))), **PAIR)  # fmt: skip
    assert [c.name for c in found.classes if c.block == "b0"] == names
    assert [c.raw for c in found.classes] == [c.raw for c in numbered.classes]
