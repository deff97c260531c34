"""Foreign text cannot act on a terminal."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atat_ray.utils.terminal import LINE, printable, printable_lines


@given(st.text(), st.integers(1, 50))
def test_any_text_becomes_printable_and_short(text, limit):
    shown = printable(text, limit)
    assert shown.isprintable()
    assert len(shown) <= 10 * limit + 40


@given(st.text(st.characters(categories=["L", "N", "P"]), max_size=50))
def test_text_that_is_printable_and_short_is_not_changed(text):
    assert printable(text) == text


@pytest.mark.parametrize("mark", ["\x1b[2J", "\x1b]0;title\x07", "\n", "\r", "\x9b1m", "\u202e",
                                  "\u2028", "\x7f", "\udc80", "\x00"])  # fmt: skip
def test_what_a_terminal_acts_on_is_shown_as_an_escape(mark):
    assert printable(f"a{mark}b") == "a" + mark.encode("unicode_escape").decode() + "b"


def test_lines_of_a_message_stay_lines():
    assert printable_lines("one\ntwo\x1b[31m") == "one\ntwo\\x1b[31m"
    assert len(printable_lines("x" * 10 * LINE)) < LINE + 40
