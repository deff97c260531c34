"""Beta regression of the primary outcome, for every contrast for which it could be fitted."""

from __future__ import annotations

from analysis.formatting.numbers import interval, model_p_text, number, p_text
from analysis.formatting.table import Table
from analysis.pipeline.primary import Comparison, Results
from analysis.secondary.context import Context
from analysis.secondary.interface import Section


def estimate(context: Context) -> list[Comparison] | None:
    """Return the comparisons on the primary outcome that have a Beta regression."""
    results = context.results
    found = [results.on(c, results.outcome) for c in results.contrasts]
    return [c for c in found if c.beta is not None] or None


def table(results: Results, found: list[Comparison]) -> Table:
    """Show the Beta regression of each contrast."""
    head = (
        "contrast",
        "log odds (SE)",
        "odds ratio",
        "effect (pp)",
        f"{results.level:.0%} interval (Wald)",
        f"{results.level:.0%} interval (small-sample)",
        "Wald p",
        "phi",
    )
    rows = [
        (
            str(c.contrast),
            f"{number(b.coefficient, 3, signed=True)} ({number(b.se, 3)})",
            "" if b.odds_ratio is None else number(b.odds_ratio, 3),
            number(b.estimate, 1, signed=True),
            interval(b.low, b.high, 1),
            interval(b.small_sample_low, b.small_sample_high, 1),
            model_p_text(b.p),
            number(b.phi, 1),
        )
        for c in found
        if (b := c.beta) is not None
    ]
    return Table(head=head, rows=tuple(rows))


def note(results: Results, found: list[Comparison]) -> list[str]:
    """Describe the model, and how well it fits the primary contrast."""
    model = (
        "Logit mean, one precision, block indicators, standard errors from the expected "
        "information; the effect is the average of fitted differences. With few runs the Wald "
        "interval and p are too optimistic. The small-sample interval uses SE\N{THIN SPACE}"
        "\N{MIDDLE DOT}\N{THIN SPACE}\N{SQUARE ROOT}(n/(n\N{MINUS SIGN}k)) and "
        "t(n\N{MINUS SIGN}k). The p-values of the contrasts decide."
    )
    fit = diagnostics(results)
    return [model, " ".join(fit)] if fit else [model]


def diagnostics(results: Results) -> list[str]:
    """State how well the Beta regression of the primary contrast fits, if there is one."""
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


SECTION = Section(
    name="beta_regression",
    place="sensitivity",
    estimate=estimate,
    table=table,
    title="Beta regression, every contrast",
    note=note,
    table_name="beta",
)
