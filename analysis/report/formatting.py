"""Format numbers, intervals and p-values for tables and sentences."""

from __future__ import annotations


def number(value: float, digits: int, *, signed: bool = False) -> str:
    """Format a number without a negative zero: ``-0.0`` is printed ``0.0``."""
    text = f"{round(value, digits) + 0.0:{'+' if signed else ''}.{digits}f}"
    return text.replace("+0." + "0" * digits, "0." + "0" * digits) if signed else text


def p_text(p: float) -> str:
    """Format a p-value with two significant digits."""
    if p < 1e-16:
        return "< 1e-16"
    if p < 1e-4:
        return f"{p:.1e}"
    if p >= 0.1:
        return f"{p:.2f}"
    return f"{p:.{1 + next(d for d in range(1, 5) if p >= 10.0**-d)}f}"


def interval(low: float, high: float, digits: int) -> str:
    """Format an interval; a side that the data leave open is said so."""
    ends = [
        "unbounded" if abs(v) == float("inf") else number(v, digits, signed=True)
        for v in (low, high)
    ]
    return f"{ends[0]} to {ends[1]}"


def p_relation(p: float) -> str:
    """Return ``= 0.012`` or ``< 1e-16``."""
    text = p_text(p)
    return text if text.startswith("<") else f"= {text}"
