"""The transformation of Hall (1992), against its formula, its inverse and scipy's k-statistics."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from analysis.skewness import corrected, third_moment, uncorrected


def test_the_third_moment_is_fishers_k_statistic() -> None:
    values = np.random.default_rng(2).beta(8, 2, (7, 3))
    np.testing.assert_allclose(third_moment(values), [stats.kstat(c, 3) for c in values.T])


def test_the_transformation_is_the_printed_cubic() -> None:
    t, g = -1.5, 0.4
    cubic = ((1 + g * t / 3) ** 3 - 1) / g + g / 6  # the same, completed to a cube
    assert corrected(t, g) == pytest.approx(cubic)
    assert corrected(t, 0.0) == t


@given(st.floats(-30, 30), st.floats(-1.5, 1.5))
def test_the_inverse_undoes_it(x: float, g: float) -> None:
    assert corrected(uncorrected(x, g), g) == pytest.approx(x, abs=1e-4)


def test_it_is_monotone_so_that_an_interval_is_one() -> None:
    t = np.linspace(-40, 40, 2001)
    for g in (-1.2, -0.3, 0.3, 1.2):
        assert (np.diff(corrected(t, g)) >= 0).all()
