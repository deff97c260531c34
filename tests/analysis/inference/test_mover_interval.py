"""MOVER intervals, against t intervals and Newcombe's published example."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from analysis.inference import mover_interval as mover

MEANS, ERRORS = st.floats(0.02, 0.98), st.floats(0.001, 0.2)


@given(MEANS, ERRORS, MEANS, ERRORS, st.floats(0.1, 10))
def test_symmetric_limits_give_a_t_interval(
    m1: float, s1: float, m0: float, s0: float, c: float
) -> None:
    low, high = mover.difference_limits((m1, s1), (m0, s0), c, fraction=False)
    half = c * np.hypot(s1, s0)
    assert (low, high) == pytest.approx((m1 - m0 - half, m1 - m0 + half))


def test_limits_recover_newcombes_example() -> None:
    """Newcombe (1998), Stat. Med. 17:873, Table II: 56/70 v 48/80 by Wilson limits (method 10)."""

    def wilson(hits: int, n: int) -> tuple[float, float, float]:
        z, p = 1.959963985, hits / n
        middle, half = 2 * n * p + z**2, z * np.sqrt(z**2 + 4 * n * p * (1 - p))
        return p, (middle - half) / (2 * (n + z**2)), (middle + half) / (2 * (n + z**2))

    limits = iter([wilson(56, 70)[1:], wilson(48, 80)[1:]])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mover, "mean_limits", lambda *args, **options: next(limits))
        low, high = mover.difference_limits((56 / 70, 0.0), (48 / 80, 0.0), 1.96, fraction=True)
    assert (round(low, 4), round(high, 4)) == (0.0524, 0.3339)


@pytest.mark.parametrize(("mean", "precision"), [(0.8, 6.0), (0.35, 20.0), (0.95, 60.0)])
def test_the_scale_removes_the_skewness_of_studentised_beta_means(
    mean: float, precision: float
) -> None:
    """Hall (1992): the remaining term in T^2, with the third moment of scipy's Beta."""
    beta = stats.beta(mean * precision, (1 - mean) * precision)
    skewness, sd, c = float(beta.stats(moments="s")), float(beta.std()), 1e-3
    low, high = mover.mean_limits(mean, sd, c, fraction=True)  # of one outcome: n = 1, s = sd
    # m - u = T s with T = c + skewness T^2 / 3 at first order, so the limits bend by this much
    bend = ((high - mean) - (mean - low)) / (c**2 * sd)
    expected = 2 * skewness / 3
    assert bend == pytest.approx(expected * (precision + 2) / (precision + 1), rel=1e-3)


@given(MEANS, ERRORS, MEANS, ERRORS, st.floats(-0.9, 0.9))
def test_the_critical_value_puts_an_end_at_the_value(
    m1: float, s1: float, m0: float, s0: float, value: float
) -> None:
    c = float(mover.critical_value((m1, s1), (m0, s0), value, fraction=True))
    if abs(c) < 50:
        ends = mover.difference_limits((m1, s1), (m0, s0), abs(c), fraction=True)
        assert ends[1 if c < 0 else 0] == pytest.approx(value, abs=1e-6)
    assert (c < 0) == (value > m1 - m0) or c == 0


@given(MEANS, ERRORS, MEANS, ERRORS, st.floats(0.1, 50))
def test_limits_stay_within_2_and_mirror_and_widen_with_c(
    m1: float, s1: float, m0: float, s0: float, c: float
) -> None:
    low, high = mover.difference_limits((m1, s1), (m0, s0), c, fraction=True)
    assert low <= m1 - m0 <= high
    assert high - low <= 2
    turned = mover.difference_limits((1 - m1, s1), (1 - m0, s0), c, fraction=True)
    assert turned == pytest.approx((-high, -low), abs=1e-9)
    wider = mover.difference_limits((m1, s1), (m0, s0), 2 * c, fraction=True)
    assert wider[0] <= low
    assert wider[1] >= high
