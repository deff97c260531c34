"""Sentences of the verdict; each claim needs its test.

Two contrasts may be claimed, in a fixed sequence: the primary one, and the one named ``mechanism``
only if the primary one was shown, so that both together keep the level of one test. The others are
in tables. Clean accuracy is a secondary outcome, reported with its own p.
"""

from __future__ import annotations

from analysis import schema
from analysis.formatting.numbers import interval, needed_p, number, p_relation, p_text
from analysis.inference.table_checks import counted, list_names
from analysis.pipeline.primary import Comparison, Results
from analysis.schema.columns import label, unit_of


def verdict(results: Results) -> tuple[str, str]:
    """Return the two sentences that answer the question of the protocol."""
    first, second = _primary_sentence(results), _second_sentence(results)
    if results.interim:
        total = results.flow.total
        first = (
            f"Interim, {total.pending} of {total.allocated} units pending: "
            + first[0].lower()
            + first[1:]
        )
    return first, second


def _primary_sentence(results: Results) -> str:
    comparison = results.primary
    contrast, what = comparison.contrast, label(results.outcome)
    if comparison.estimate is None or comparison.randomisation is None:
        return f"The effect of {contrast} on {what} is not estimable: {comparison.notes[0]}."
    runs, found = _runs(results, comparison), evidence(results, comparison)
    if results.undecided:
        planned = "at this point" if results.looks else "in the protocol"
        return (
            f"no look was planned {planned}, so nothing is decided yet; so far {what} of "
            f"{contrast.arm} and {contrast.against} differs by {found}, over {runs}."
        )
    too_small = comparison.randomisation.smallest_p > comparison.alpha
    unattainable = (
        f"as this design cannot give p below {p_text(comparison.randomisation.smallest_p)}"
    )
    if results.same_training:
        return _aa_check(comparison, what, runs, found, unattainable if too_small else "")
    if too_small:
        return (
            f"Over {runs}, no effect of {contrast.arm} against {contrast.against} on "
            f"{what} could have been shown, {unattainable}: {found}."
        )
    if not comparison.shown:
        return (
            f"Over {runs}, an effect of {contrast.arm} against {contrast.against} on "
            f"{what} was not shown: {found}."
        )
    direction = "lower" if comparison.estimate < 0 else "higher"
    unit = unit_of(results.outcome)
    size = number(abs(comparison.estimate), unit.digits)
    return (
        f"Over {runs}, {what} was {size} {unit.name} {direction} in "
        f"{contrast.arm} than in {contrast.against} "
        f"({evidence(results, comparison, estimate=False)})."
    )


def _aa_check(comparison: Comparison, what: str, runs: str, found: str, unattainable: str) -> str:
    contrast = comparison.contrast
    outcome = "no difference was shown, as expected"
    if comparison.shown:
        outcome = "a difference was found although both were trained alike"
    elif unattainable:
        outcome = f"no difference could have been shown, {unattainable}"
    return (
        f"This is an A/A check of {runs}: {what} of {contrast.arm} and {contrast.against} differs "
        f"by {found}, {outcome}."
    )


def _runs(results: Results, comparison: Comparison) -> str:
    """Return ``16 training runs``, followed by the number and names of those left out."""
    contrast = comparison.contrast
    pair, unpaired = (contrast.arm, contrast.against), results.unpaired(contrast)
    n = sum(row.analysed for row in results.flow.rows if row.arm in pair) - len(unpaired)
    failed = sum(row.failed for row in results.flow.rows if row.arm in pair)
    without = [f"{failed} more failed"] if failed else []
    if unpaired:
        has, its = ("has", "its block") if len(unpaired) == 1 else ("have", "their blocks")
        without.append(f"{list_names(unpaired)} {has} no finished unit of the other arm in {its}")
    return counted(n, "training run") + (f" ({'; '.join(without)})" if without else "")


def _second_sentence(results: Results) -> str:
    if results.undecided and results.primary.estimate is not None:
        return "The numbers below will change, and no claim can be based on them."
    if results.same_training:
        return _aa_sentence(results)
    if results.mechanism is not None:
        return mechanism_sentence(results, results.mechanism)
    return clean_sentence(results)


def _aa_sentence(results: Results) -> str:
    test = results.primary.randomisation
    if test is None:
        return "The data allow no statement yet on the platform or on chance differences."
    if results.primary.shown:
        return (
            f"Chance alone does this in {results.alpha:.0%} of A/A campaigns; look for a cause "
            "before trusting other campaigns of this platform."
        )
    level, ends = results.level, (test.low, test.high)
    if abs(test.low) == abs(test.high) == float("inf"):
        return f"With so few units no constant difference is excluded at the {level:.0%} level."
    return (
        f"Constant differences outside {interval(*ends, unit_of(results.outcome).digits)} "
        f"{test.unit} are excluded at the {level:.0%} level; smaller ones are not."
    )


def mechanism_sentence(results: Results, comparison: Comparison) -> str:
    """State the result of the contrast named mechanism; claim it only after the primary one."""
    contrast = comparison.contrast
    shared = f"what {contrast.against} shares with {contrast.arm}"
    if comparison.estimate is None:
        return (
            f"The comparison with {contrast.against} is not estimable ({comparison.notes[0]}), so "
            f"nothing separates the effect of {contrast.arm} from {shared}."
        )
    found = evidence(results, comparison)
    if results.undecided:
        return f"So far the difference from {contrast.against} is {found}, and nothing is decided."
    if not results.primary.shown:
        return (
            f"The difference from {contrast.against} is {found}, and it is not claimed because "
            "the primary contrast, which comes first, was not shown."
        )
    if not comparison.shown:
        return (
            f"A difference between {contrast.arm} and {contrast.against} was not shown ({found}), "
            f"so this trial does not separate the effect of {contrast.arm} from {shared}."
        )
    same_sign = (results.primary.estimate or 0) * comparison.estimate > 0
    consequence = (
        f"so {shared} does not explain all of the effect"
        if same_sign
        else f"so {shared} changes the outcome more than {contrast.arm} itself does"
    )
    return f"Against {contrast.against} the difference is {found}, {consequence}."


def clean_sentence(results: Results) -> str:
    """State the difference in clean accuracy of the primary contrast."""
    key = (results.contrasts[0].name, schema.CLEAN_ACC)
    comparison = results.comparisons.get(key)
    if comparison is None or comparison.estimate is None:
        return "The difference in clean accuracy is not estimable."
    found = evidence(results, comparison)
    if results.undecided:
        return f"So far clean accuracy differs by {found}, and nothing is decided."
    if not comparison.shown:
        return f"A difference in clean accuracy was not shown ({found})."
    if not results.primary.shown:
        return f"Clean accuracy differs ({found})."
    less = -1 if results.outcome.endswith("/delta_eval") else 1  # a larger distance leaks less
    together = less * (results.primary.estimate or 0) * comparison.estimate > 0
    how = "together" if together else "in opposite directions"
    return (
        f"Clean accuracy differs too ({found}), so leakage and accuracy moved {how} and this "
        "contrast alone does not identify the cause."
    )


def evidence(results: Results, comparison: Comparison, *, estimate: bool = True) -> str:
    """Return ``-30.3 pp, 95% interval -34.0 to -26.5, exact p = 0.00041``.

    At a planned look the needed p follows, because the interval keeps the level of the protocol.
    Where only one of the two tests rejects, both p follow and what is needed.
    """
    difference, test = comparison.difference, comparison.randomisation
    if test is None or comparison.estimate is None:
        return "not estimable"
    unit = unit_of(comparison.outcome)
    parts = [f"{number(comparison.estimate, unit.digits, signed=True)} {unit.name}"]
    parts = parts if estimate else []
    if difference is None:
        parts.append("no interval, as nothing varies within arms")
    else:
        ends = interval(difference.low, difference.high, unit.digits)
        parts.append(f"{difference.level:.0%} interval {ends}")
    parts.append(f"{'exact' if test.exact else 'randomisation'} p {p_relation(test.p)}")
    needed = needed_p(results.look_threshold)
    if difference is not None and (
        min(test.p, difference.p) <= comparison.alpha < max(test.p, difference.p)
    ):
        parts.append(f"p of equal means {p_relation(difference.p)}")
        needed = needed or f"; to be shown both p must be at most {p_text(comparison.alpha)}"
    return ", ".join(parts) + needed


def error_rate(results: Results) -> str:
    """State which sentences of the report the error rate of the trial covers."""
    if results.undecided:
        return "No look was planned here, so the error rate of the trial covers no sentence yet."
    covered = "the first sentence of the verdict"
    if results.mechanism is not None and not results.same_training:
        covered = "the two sentences of the verdict, tested in that order,"
    looks = " over all planned looks" if results.looks else ""
    rate = f"{100 * results.alpha:g}%"
    return (
        f"The trial's error rate of {rate} covers {covered}{looks} and nothing else: every other "
        "statement of this page (on accuracy, margins, classes, matched accuracy, the exclusion "
        "restriction, secondary outcomes and other contrasts) is tested by itself, so some of them "
        "may be wrong by chance."
    )


def limits(results: Results) -> list[str]:
    """State what the registered comparisons support and what they do not."""
    primary = results.contrasts[0]
    if results.same_training:
        return [
            f"{primary.arm} and {primary.against} are trained alike, so any difference between "
            "them is chance or a fault of the platform, and no defense is assessed here."
        ]
    text = [
        f"The contrast {primary} is randomised, so a difference is caused by the parts of the "
        "recipe that the arms do not share, taken together; it does not show which part acts. By "
        "itself it cannot show that non-robust features are the cause, because training on decoy "
        "labels without any adversarial perturbation can lower leakage as well"
        f"{_placebo_means(results)}."
    ]
    if results.mechanism is None:
        return [
            *text,
            f"No contrast named mechanism compares {primary.arm} with a second reference, so the "
            "question of mechanism is open.",
        ]
    return [
        *text,
        f"The contrast {results.mechanism.contrast} removes the effect of what the two arms share. "
        "The rest may be due to the perturbation, to learning the decoys, or to a difference in "
        "clean accuracy; the trial does not hold clean accuracy fixed.",
    ]


def _placebo_means(results: Results) -> str:
    """Return the means of the mechanism's reference and of the primary one, in brackets."""
    if results.mechanism is None:
        return ""
    means = {m.arm: m for m in results.means[results.outcome]}
    pair = (results.mechanism.contrast.against, results.contrasts[0].against)
    if not all(arm in means for arm in pair):
        return ""
    digits = unit_of(results.outcome).digits
    return (
        " (here the means are "
        + " and ".join(f"{number(means[arm].mean, digits)} in {arm}" for arm in pair)
        + ")"
    )
