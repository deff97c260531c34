"""Size and coverage by simulation, with the code that writes docs/validity.md."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

BENCHMARKS = Path(__file__).parents[3] / "benchmarks"


def load(name: str) -> ModuleType:
    """Load a script of the benchmarks as a module."""
    spec = importlib.util.spec_from_file_location(name, BENCHMARKS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def validity() -> ModuleType:
    """Load the script on two arms in one block."""
    return load("validity")


@pytest.fixture(scope="module")
def designs() -> ModuleType:
    """Load the script on other designs."""
    return load("validity_designs")


def test_designs_are_analysed_as_one_table_is(designs: ModuleType) -> None:
    for blocks, a, b in ((2, 3, 3), (1, 3, 6), (6, 1, 1), (4, 1, 2)):
        frame = designs.unit_frame(blocks, (a, b))
        designs.p_values(frame, designs.draw(frame, (6.0, 60.0), 5, seed=1))  # checks the draws


def test_formulas_of_the_simulation_are_those_of_the_package(validity: ModuleType) -> None:
    y = validity.draw(5, (60.0, 6.0), 20, seed=3)
    p, studentised = validity.randomisation_p(y, 3)
    validity.check(y, validity.means_p(y), p, studentised)


@pytest.mark.slow
@pytest.mark.parametrize("phis", [(60.0, 60.0), (60.0, 6.0)])
@pytest.mark.parametrize("n", [5, 8, 10, 20])
def test_size_and_coverage(validity: ModuleType, n: int, phis: tuple[float, float]) -> None:
    trials = 10_000
    y = validity.draw(n, phis, trials, seed=100 + n)
    p, means = validity.randomisation_p(y, n)[0], validity.means_p(y)
    size, coverage = np.mean(np.maximum(p, means) <= 0.05), np.mean(means > 0.05)
    if (n, phis) == (5, (60.0, 6.0)):  # as docs/validity.md says
        assert 0.05 < size < 0.065
        assert 0.925 < coverage < 0.94
        return
    assert size <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / trials)
    assert 0.94 <= coverage <= 0.96


@pytest.mark.slow
@pytest.mark.parametrize("n", [5, 10])
def test_unequal_spread_of_skewed_outcomes_raises_the_size(validity: ModuleType, n: int) -> None:
    """As docs/validity.md says: at precision 60 v 6 and a mean of 0.8 the size is above 5 %."""
    y = validity.draw(n, (60.0, 6.0), 10_000, seed=200 + n)
    p, studentised = validity.randomisation_p(y, n)
    assert 0.05 < np.mean(p <= 0.05) < 0.10
    np.testing.assert_allclose(p, studentised)  # one block, equal numbers: the same test


@pytest.mark.slow
@pytest.mark.parametrize(
    "design", [(1, 3, 9), (1, 4, 5), (2, 2, 6), (2, 3, 3), (8, 1, 1), (10, 1, 1), (6, 1, 2)]
)
def test_size_in_other_designs(designs: ModuleType, design: tuple[int, int, int]) -> None:
    """Where the smaller arm is the more variable one, too."""
    blocks, a, b = design
    frame, trials = designs.unit_frame(blocks, (a, b)), 4_000
    test, means = designs.p_values(frame, designs.draw(frame, (6.0, 60.0), trials, seed=7))
    size = np.mean(np.maximum(test, means) <= 0.05)
    assert size <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / trials)
    assert np.mean(means > 0.05) >= 0.93
