"""Secondary outcomes of each contrast with p-values adjusted for their number (max-T)."""

from __future__ import annotations

from analysis.formatting.numbers import p_text
from analysis.formatting.table import Table
from analysis.inference.multiplicity import MaxT, max_t
from analysis.inference.table_checks import NotEstimable
from analysis.pipeline.primary import Contrast, Results
from analysis.schema.columns import label
from analysis.secondary.context import Context
from analysis.secondary.interface import Section


def estimate(context: Context) -> dict[str, MaxT]:
    """Adjust the secondary outcomes of each contrast; results are keyed by contrast name."""
    found: dict[str, MaxT] = {}
    for contrast in context.results.contrasts:
        one = context.attempt(f"max-T of {contrast}", _max_t, context, contrast)
        if one is not None:
            found[contrast.name] = one
    return found


def _max_t(context: Context, contrast: Contrast) -> MaxT:
    """Adjust the outcomes of one contrast that every unit of it has."""
    results = context.results
    units = results.analysed
    mine = units.loc[units["arm"].isin([contrast.arm, contrast.against])]
    others = [o for o in results.means if o != results.outcome and mine[o].notna().all()]
    if not others:
        raise NotEstimable("no secondary outcome without gaps")
    pair = {"arm": contrast.arm, "against": contrast.against}
    return max_t(mine, others, **pair, seed=context.protocol["seed"])


def table(results: Results, found: dict[str, MaxT]) -> Table:
    """Show p and adjusted p of each secondary outcome, by contrast."""
    rows: list[tuple[str, ...]] = []
    for contrast in results.contrasts:
        if contrast.name not in found:
            continue
        one = found[contrast.name]
        rows.append((str(contrast),))
        rows += [(label(o), p_text(one.p[o]), p_text(p)) for o, p in one.adjusted.items()]
    return Table(head=("outcome", "p alone", "p adjusted (max-T)"), rows=tuple(rows))


SECTION = Section(
    name="max_t",
    place="outcomes",
    estimate=estimate,
    table=table,
    title="Adjusted for their number",
    table_name="secondary_adjusted",
)
