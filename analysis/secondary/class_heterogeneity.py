"""Effects of the primary contrast by class, shrunken towards the mean of their block."""

from __future__ import annotations

from analysis.formatting.numbers import needed_p, number, p_relation, p_text
from analysis.formatting.table import Table
from analysis.inference.heterogeneity import Heterogeneity, class_heterogeneity
from analysis.pipeline.primary import Results
from analysis.secondary.class_counts import primary_classes
from analysis.secondary.context import Context
from analysis.secondary.interface import Section


def estimate(context: Context) -> Heterogeneity:
    """Estimate the effect on every class and test whether classes differ."""
    rows, hits = primary_classes(context.record, context.results)
    return class_heterogeneity(rows, **context.pair, seed=context.protocol["seed"], hits=hits)


def sentence(results: Results, found: Heterogeneity) -> str:
    """State whether classes were shown to differ in their effect."""
    what = "a difference in the effect between classes was not shown"
    if results.undecided:
        what = "whether the effect differs between classes is not decided"
    elif found.omnibus_p <= results.needed:
        what = "the effect differs between classes"
    threshold = needed_p(results.look_threshold)
    return (
        f"Over {len(found.classes)} classes, {what} (randomisation p "
        f"{p_relation(found.omnibus_p)}{threshold}); the spread of true effects is estimated at "
        f"{number(found.spread, 1)} pp, the noise of one class at {number(found.noise, 1)} pp."
    )


def table(results: Results, found: Heterogeneity) -> Table:
    """Show the effects in the order of blocks and classes, never ranked."""
    rows: list[tuple[str, ...]] = []
    block = ""
    for c in found.classes:
        if c.block != block:
            block = c.block
            rows.append((f"block {block}",))
        raw, shrunken = (number(v, 1, signed=True) for v in (c.raw, c.shrunken))
        rows.append((f"class {c.name}", shrunken, raw, p_text(c.p), p_text(c.adjusted_p)))
    head = ("class", "shrunken (pp)", "raw (pp)", "p alone", "p adjusted (BH)")
    return Table(head=head, rows=tuple(rows))


SECTION = Section(
    name="class_heterogeneity",
    place="classes",
    estimate=estimate,
    sentence=sentence,
    table=table,
    title="Effects by class, shrunken",
    note=(
        "Exploratory. Effects are shrunken towards the block's mean effect by empirical Bayes and "
        "stand in the order of classes, not ranked. p comes from re-allocating the block's units."
    ),
    absent="Effects by class are not estimable.",
    table_name="classes_shrunken",
    label="effects by class",
)
