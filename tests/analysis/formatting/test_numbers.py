"""Numbers as they are printed: no negative zero, enough digits of p, open ends in words."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.formatting import interval, needed_p, number, p_relation, p_text


@given(st.floats(-1e6, 1e6), st.integers(0, 4), st.booleans())
def test_a_number_has_its_digits_and_zero_has_no_sign(
    value: float, digits: int, signed: bool
) -> None:
    text = number(value, digits, signed=signed)
    assert float(text) == pytest.approx(value, abs=0.5 * 10**-digits + 1e-9)
    assert len(text.partition(".")[2]) == digits
    if float(text) == 0:
        assert text[0] not in "+-" or digits == 0
    assert not text.startswith("-0.") or float(text) < 0


@given(st.floats(1e-16, 1))
def test_p_is_printed_with_two_significant_digits(p: float) -> None:
    assert float(p_text(p)) == pytest.approx(p, rel=0.051)


def test_a_p_below_what_floats_resolve_is_a_bound() -> None:
    assert (p_text(1e-17), p_relation(1e-17)) == ("< 1e-16", "< 1e-16")
    assert p_relation(0.012) == "= 0.012"


def test_an_infinite_end_is_called_unbounded() -> None:
    assert interval(-math.inf, 1.25, 1) == "unbounded to +1.2"


def test_the_p_of_a_look_is_named_only_at_a_look() -> None:
    assert needed_p(None) == ""
    assert needed_p(0.0194) == ", this look needs p <= 0.019"
