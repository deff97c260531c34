"""Lay out the examination as tables: sensitivity, integrity, mechanism, costs, classes."""

from __future__ import annotations

from analysis.inference.group_sequential import stagewise_interval
from analysis.pipeline.primary import Results
from analysis.pipeline.secondary import Examination
from analysis.report.formatting import interval, number, p_text
from analysis.report.table import Table
from analysis.schema.columns import label, short_label, unit_of


def sensitivity_table(results: Results, exam: Examination) -> Table:
    """Show the primary effect by every method, the registered ones first."""
    primary = results.primary
    digits = unit_of(results.outcome).digits
    rows: list[tuple[str, ...]] = [("registered",)]

    def add(name: str, estimate: float, low: float, high: float, p: str = "") -> None:
        rows.append((name, number(estimate, digits, signed=True), interval(low, high, digits), p))

    if (d := primary.difference) is not None:
        add(f"difference in means ({d.method})", d.estimate, d.low, d.high, p_text(d.p))
        if results.look is not None:
            low, high = stagewise_interval(
                results.looks, results.look, estimate=d.estimate, se=d.se, level=results.level
            )
            add(
                "the same after the looks so far, stage-wise (normal theory)", d.estimate, low, high
            )
    if (r := primary.randomisation) is not None:
        add("randomisation test, inverted", r.statistic, r.low, r.high, p_text(r.p))
    rows.append(("other models of the same units",))
    if (s := exam.studentised) is not None:
        add("studentised randomisation test", s.statistic, s.low, s.high, p_text(s.p))
    if (c := exam.clustered) is not None:
        add(f"classes of {c.clusters} units, CR2", c.estimate, c.low, c.high, p_text(c.p))
    if (b := primary.beta) is not None:
        add("Beta regression, small-sample", b.estimate, b.small_sample_low, b.small_sample_high)
        wald = p_text(b.p) if b.p >= 1e-4 else "< 0.0001"
        add("Beta regression, Wald (too narrow)", b.estimate, b.low, b.high, wald)
    for m in exam.models:
        add(m.method, m.estimate, m.low, m.high)
    if (a := exam.attrition) is not None and a.missing_arm + a.missing_against:
        rows.append(("units without an outcome: bounds, no sampling error",))
        rows.append(("worst case (Manski)", "", interval(a.worst_low, a.worst_high, digits), ""))
        rows.append(("trimming (Lee)", "", interval(a.lee_low, a.lee_high, digits), ""))
    kept = [
        row
        for i, row in enumerate(rows)
        if len(row) > 1 or (i + 1 < len(rows) and len(rows[i + 1]) > 1)
    ]
    head = ("method", f"effect ({unit_of(results.outcome).name})", f"{results.level:.0%}", "p")
    return Table(head=head, rows=tuple(kept))


def diagnostics(results: Results) -> list[str]:
    """State how well the Beta regression fits, where there is one."""
    fit = results.primary.beta
    if fit is None:
        return []
    text = [
        f"Largest quantile residual {number(fit.largest_residual, 1, signed=True)}, of "
        f"{fit.largest_unit} (standard normal if the model holds)."
    ]
    if fit.precision is not None:
        text.append(
            f"One precision for both arms: likelihood ratio {number(fit.precision.statistic, 2)} "
            f"on {fit.precision.df} df, p {p_text(fit.precision.p)}."
        )
    raw = results.primary.difference
    if raw is not None and abs(raw.estimate - fit.estimate) > max(2.0, fit.estimate_se):
        text.append(
            f"Its effect differs from the difference in means by "
            f"{number(abs(raw.estimate - fit.estimate), 1)} pp, so do not read it alone."
        )
    return text


def adjusted_table(results: Results, exam: Examination) -> Table:
    """Show secondary outcomes by contrast with max-T adjusted p."""
    rows: list[tuple[str, ...]] = []
    for contrast in results.contrasts:
        found = exam.max_t.get(contrast.name)
        if found is None:
            continue
        rows.append((str(contrast),))
        for outcome, p in found.adjusted.items():
            rows.append((label(outcome), p_text(found.p[outcome]), p_text(p)))
    return Table(head=("outcome", "p alone", "p adjusted (max-T)"), rows=tuple(rows))


def arms_table(exam: Examination) -> Table:
    """Compare every arm with the reference at one joint level (Dunnett)."""
    d = exam.dunnett
    if d is None:
        return Table(head=(), rows=())
    digits = unit_of(d.outcome).digits
    rows = tuple(
        (
            f"{a} v {d.against}",
            number(d.estimate[a], digits, signed=True),
            interval(d.low[a], d.high[a], digits),
            p_text(d.p[a]) if d.p[a] >= 1e-4 else "< 0.0001",
        )
        for a in d.p
    )
    head = ("arms", f"difference ({unit_of(d.outcome).name})", f"joint {d.level:.0%}", "adjusted p")
    return Table(head=head, rows=rows)


def margin_table(results: Results, exam: Examination) -> Table:
    """Show each declared margin with its one-sided bound and both verdicts, where one is due."""

    def found(shown: bool, p: float) -> str:
        verdict = "shown" if shown else "not shown"
        return p_text(p) if results.undecided else f"{verdict} ({p_text(p)})"

    rows = tuple(
        (
            label(m.difference.outcome),
            f"{number(m.margin, 1)} {m.difference.unit}",
            number(m.difference.estimate, 1, signed=True),
            number(m.low, 1, signed=True),
            found(m.noninferior, m.noninferiority_p),
            found(m.equivalent, m.equivalence_p),
        )
        for m in exam.margins
    )
    bound = f"lower bound, one-sided {1 - exam.margins[0].alpha:.1%}" if exam.margins else ""
    head = ("outcome", "margin", "difference", bound, "non-inferior (p)", "equivalent (p)")
    return Table(head=head, rows=rows)


def _slope_digits(outcome: str) -> int:
    """Return the decimals of a change in the outcome for a point of accuracy."""
    unit = unit_of(outcome)
    return 2 if unit.name == "pp" else unit.digits + 2


def wald_table(results: Results, exam: Examination) -> Table:
    """Show effects on leakage and mediator, their ratio, and what mediation would say."""
    rows: list[tuple[str, ...]] = []
    unit, digits = unit_of(results.outcome), _slope_digits(results.outcome)
    for w in exam.wald:
        m = exam.mediation.get(w.mediator.outcome)
        indirect = "not estimable"
        if m is not None:
            low, high = m.indirect_low, m.indirect_high
            indirect = f"{number(m.indirect, unit.digits, signed=True)} "
            indirect += f"({interval(low, high, unit.digits)})"
        rows.append(
            (
                short_label(w.mediator.outcome),
                number(w.mediator.estimate, 1, signed=True),
                number(w.ratio, digits, signed=True),
                str(w.anderson_rubin),
                number(w.first_stage_f, 1),
                number(w.ols_slope, digits, signed=True),
                indirect,
                "" if m is None else number(m.rho_zero, 2, signed=True),
            )
        )
    head = (
        "mediator",
        "effect on it (pp)",
        "Wald ratio",
        "Anderson-Rubin set",
        "first-stage F",
        "OLS slope",
        f"indirect ({unit.name})",
        "rho at zero",
    )
    return Table(head=head, rows=tuple(rows))


def model_table(results: Results, exam: Examination) -> Table:
    """Show the leakage model: coefficients, HC3, VIF, and the range without each defense."""
    m = exam.model
    if m is None:
        return Table(head=(), rows=())
    rows: list[tuple[str, ...]] = []
    digits = _slope_digits(results.outcome)
    for j, column in enumerate(m.columns):
        left = [c[j] for c in m.lodo.values()]
        known = left and m.lodo_r2 is not None
        span = interval(min(left), max(left), digits) if known else "none"
        slope = number(m.coefficients[j], digits, signed=True)
        error = number(m.se[j], digits)
        rows.append((short_label(column), slope, error, number(m.vif[j], 1), span))
    head = ("accuracy", "partial slope", "HC3 SE", "VIF", "without one defense")
    return Table(head=head, rows=tuple(rows))


def cost_rows(results: Results, exam: Examination) -> Table:
    """Show points of accuracy a unit of leakage by the three readings that differ."""
    digits = 2 if unit_of(results.outcome).name == "pp" else 0  # a distance of 1 costs hundreds

    def cost(value: float) -> str:
        return "unbounded" if abs(value) == float("inf") else number(value, digits, signed=True)

    rows = tuple(
        (
            short_label(c.accuracy),
            f"{cost(c.partial)} ({c.partial_set})",
            f"{cost(c.simple)} ({c.simple_set})",
            f"{cost(c.reverse)} ({interval(c.reverse_low, c.reverse_high, digits)})",
        )
        for c in exam.costs
    )
    head = ("accuracy", "partial, 1/slope", "simple, 1/slope", "reverse slope")
    return Table(head=head, rows=rows)


def classes_table(exam: Examination) -> Table:
    """Show shrunken class effects in the order of blocks and classes, never ranked."""
    h = exam.heterogeneity
    if h is None:
        return Table(head=(), rows=())
    rows: list[tuple[str, ...]] = []
    block = ""
    for c in h.classes:
        if c.block != block:
            block = c.block
            rows.append((f"block {block}",))
        raw, shrunken = (number(v, 1, signed=True) for v in (c.raw, c.shrunken))
        rows.append((f"class {c.name}", shrunken, raw, p_text(c.p), p_text(c.adjusted_p)))
    head = ("class", "shrunken (pp)", "raw (pp)", "p alone", "p adjusted (BH)")
    return Table(head=head, rows=tuple(rows))


def looks_table(results: Results) -> Table:
    """Show the planned looks and which of them these data are at."""
    rows = tuple(
        (
            f"after {look.blocks} blocks",
            p_text(look.threshold),
            p_text(look.normal_p),
            p_text(look.smallest_p),
            "this look" if look == results.look else "",
        )
        for look in results.looks
    )
    head = ("look", "stop at p of", "normal theory", "smallest possible p", "")
    return Table(head=head, rows=rows)


def integrity_table(results: Results, exam: Examination) -> Table:
    """Show the checks of the trial's conduct."""
    i, a = exam.integrity, exam.attrition

    def show(p: float | None, otherwise: str) -> str:
        return otherwise if p is None else p_text(p)

    rows = [
        (
            "allocated numbers",
            "as registered" if i.allocated_as_registered else "NOT as registered",
        ),
        ("analysed numbers alike, p", show(i.analysed_p, "no unit analysed")),
        ("start order independent of arm, p", show(i.order_p, "not tested")),
        ("machine independent of arm, p", show(i.node_p, f"{i.nodes} machine, nothing to compare")),
    ]
    if a is not None:
        rows.append((f"failures alike in {a.arm} and {a.against}, Fisher p", p_text(a.fisher_p)))
    rows.append(("deviations", "; ".join(i.deviations) or "none recorded"))
    return Table(head=("check", "result"), rows=tuple(rows))


def all_tables(results: Results, exam: Examination) -> dict[str, Table]:
    """Name every table of this module that has rows; the names are file names."""
    found = {
        "sensitivity": sensitivity_table(results, exam),
        "secondary_adjusted": adjusted_table(results, exam),
        "arms_dunnett": arms_table(exam),
        "margins": margin_table(results, exam),
        "mechanism": wald_table(results, exam),
        "leakage_model": model_table(results, exam),
        "costs": cost_rows(results, exam),
        "classes_shrunken": classes_table(exam),
        "looks": looks_table(results),
        "integrity": integrity_table(results, exam),
    }
    return {name: table for name, table in found.items() if table.rows}
