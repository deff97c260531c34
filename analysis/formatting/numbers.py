"""Format numbers, intervals and p-values for tables and sentences."""

from __future__ import annotations

from analysis.schema.columns import unit_of


def number(value: float, digits: int, *, signed: bool = False) -> str:
    """Format a number; a rounded zero has no sign: ``-0.04`` with one digit is ``0.0``."""
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


def model_p_text(p: float) -> str:
    """Format the p-value of a model: below 0.0001 its digits are not reliable."""
    return p_text(p) if p >= 1e-4 else "< 0.0001"


def p_relation(p: float) -> str:
    """Return ``= 0.012`` or ``< 1e-16``."""
    text = p_text(p)
    return text if text.startswith("<") else f"= {text}"


def needed_p(threshold: float | None) -> str:
    """Return ``, this look needs p <= 0.019`` at a planned look; nothing without a threshold."""
    return "" if threshold is None else f", this look needs p <= {p_text(threshold)}"


def interval(low: float, high: float, digits: int) -> str:
    """Format an interval; an infinite end is printed as ``unbounded``."""
    ends = [
        "unbounded" if abs(v) == float("inf") else number(v, digits, signed=True)
        for v in (low, high)
    ]
    return f"{ends[0]} to {ends[1]}"


def slope_digits(outcome: str) -> int:
    """Return the decimals of a change in the outcome for one point of accuracy."""
    unit = unit_of(outcome)
    return 2 if unit.name == "pp" else unit.digits + 2


def unit_names(outcome: str) -> dict[str, str]:
    """Name the unit of the outcome in the plural (``many``), the singular and of a slope."""
    unit = unit_of(outcome).name
    if unit == "pp":
        many, one, per = "points of leakage", "one point of leakage", "a point of accuracy"
    else:  # a simple slope is one of fractions, so that of a distance is for all of accuracy
        many, one = f"units of the outcome ({unit})", f"one unit of the outcome ({unit})"
        per = "for 100 points of accuracy"
    return {"many": many, "one": one, "slope": f"{many} {per}"}
