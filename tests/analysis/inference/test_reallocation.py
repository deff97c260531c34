"""Reallocations within blocks: their number, their smallest p, and permutations of any values."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.inference import reallocation
from analysis.inference.randomisation import randomisation_test
from analysis.inference.reallocation import (
    Reallocation,
    draws_for,
    format_count,
    permute_within_blocks,
    smallest_p,
)


@given(st.lists(st.integers(0, 3), min_size=1, max_size=12), st.integers(0, 99))
def test_permutations_keep_the_values_of_every_block_and_begin_as_observed(
    blocks: list[int], seed: int
) -> None:
    block, values = np.array(blocks), np.arange(len(blocks)) / 7
    drawn = permute_within_blocks(values, block, draws=20, seed=seed)
    assert drawn.shape == (21, len(blocks))
    np.testing.assert_array_equal(drawn[0], values)
    for b in set(blocks):
        inside = np.sort(drawn[:, block == b], axis=1)
        np.testing.assert_array_equal(inside, np.tile(values[block == b], (21, 1)))
    again = permute_within_blocks(values, block, draws=20, seed=seed)
    np.testing.assert_array_equal(drawn, again)


def test_permutations_are_uniform_over_a_block() -> None:
    drawn = permute_within_blocks(np.arange(3), np.zeros(3, int), draws=6_000, seed=0)
    counts = np.unique(drawn[1:], axis=0, return_counts=True)[1]
    assert counts == pytest.approx([1_000] * 6, abs=150)


def test_permutations_of_nothing_are_empty() -> None:
    empty = np.array([], dtype=np.int16)
    assert permute_within_blocks(empty, empty, draws=5, seed=0).shape == (6, 0)


def test_sampled_sums_are_those_of_permuted_arms(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reallocation, "ENUMERATION_LIMIT", 1)
    monkeypatch.setattr(reallocation, "DRAWS", 30)
    z, block = np.array([1, 0, 0, 1, 1, 0.0]), np.array([0, 0, 0, 1, 1, 1])
    found = Reallocation(z=z, block=block, seed=5)
    y = np.random.default_rng(0).normal(size=(6, 2))
    drawn = permute_within_blocks(z, block, draws=30, seed=5)
    for b, sums in enumerate(found.treated_sums(y)):
        np.testing.assert_allclose(sums, drawn[:, block == b] @ y[block == b])


def test_large_designs_draw_fewer_allocations_but_never_below_a_tenth() -> None:
    assert [draws_for(n) for n in (16, 100, 500, 10_000)] == [99_999, 99_999, 20_000, 9_999]
    assert [draws_for(n, 9_999) for n in (16, 1_000, 2_000, 10**6)] == [9_999, 9_999, 5_000, 999]


def test_large_numbers_are_printed_as_powers_of_ten() -> None:
    assert [format_count(n) for n in (1, 4900, 10**9 - 1)] == ["1", "4,900", "999,999,999"]
    assert format_count(10**400 * 104) == "1.0e+402"  # too large for a float


def test_the_smallest_p_counts_the_mirror_image_of_equal_arms_only() -> None:
    assert smallest_p([(4, 4)] * 2) == pytest.approx(2 / 4900)
    assert smallest_p([(4, 12)]) == pytest.approx(1 / 1820)  # the mirror is another design
    assert smallest_p([(8, 8)] * 4) == 1 / 100_000  # sampled


@pytest.mark.parametrize("sizes", [[(3, 3)], [(2, 5), (2, 5)], [(1, 2)] * 3, [(3, 3), (2, 4)]])
def test_the_smallest_p_is_that_of_the_most_extreme_data(sizes: list[tuple[int, int]]) -> None:
    rows = [
        (f"{b}{arm}{i}", b, arm)
        for b, pair in enumerate(sizes)
        for arm, count in zip("ab", pair, strict=True)
        for i in range(count)
    ]
    units = pd.DataFrame(rows, columns=["unit_id", "block", "arm"])
    y = np.where(units["arm"] == "a", 0.9, 0.0) + np.linspace(0, 0.01, len(units)) ** 2
    found = randomisation_test(units.assign(y=y), "y", arm="a", against="b", seed=0)
    assert found.p == pytest.approx(smallest_p(sizes))
