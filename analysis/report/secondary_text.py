"""Sentences on the examination; as everywhere, a claim is printed only where it was shown.

What shows it is p at the level of the present look, and between planned looks nothing does.
"""

from __future__ import annotations

from analysis.pipeline.primary import Results
from analysis.pipeline.secondary import Examination
from analysis.report.formatting import interval, number, p_relation
from analysis.report.verdict import needs
from analysis.schema.columns import label, unit_of


def sensitivity_sentence(results: Results, exam: Examination) -> str:
    """Say whether the other methods agree with the registered one on sign and on zero."""
    primary = results.primary.difference
    if primary is None:
        return "The primary effect is not estimable, so there is nothing to vary."
    bounds = [(m.low, m.high) for m in exam.models]
    if exam.studentised is not None:
        bounds.append((exam.studentised.low, exam.studentised.high))
    if exam.clustered is not None:
        bounds.append((exam.clustered.low, exam.clustered.high))
    if results.primary.beta is not None:
        beta = results.primary.beta
        bounds.append((beta.small_sample_low, beta.small_sample_high))
    if not bounds:
        return "No other method could be fitted."
    digits = unit_of(results.outcome).digits
    apart = sum(1 for low, high in bounds if low > 0 or high < 0)
    holds = [low <= primary.estimate <= high for low, high in bounds]
    zero = f"{apart} exclude a zero effect at the {results.level:.0%} level and "
    return (
        f"Of {len(bounds)} other methods, {'' if results.undecided else zero}{sum(holds)} hold the "
        f"registered estimate of {number(primary.estimate, digits, signed=True)} {primary.unit} "
        "in their interval."
    )


def attrition_sentence(results: Results, exam: Examination) -> str:
    """Say what failed units could hide; empty where none failed."""
    a = exam.attrition
    if a is None or not a.missing_arm + a.missing_against:
        return ""
    digits = unit_of(results.outcome).digits
    worst = interval(a.worst_low, a.worst_high, digits)
    same = a.worst_low > 0 or a.worst_high < 0
    rest = ", so they alone could reverse the direction"
    if results.undecided:
        rest = ""
    elif same:
        rest = ", so the direction does not hang on them"
    units = "units that have ended" if results.interim else "units"
    return (
        f"{a.missing_arm} of {a.n_arm} {units} of {a.arm} and {a.missing_against} of {a.n_against} "
        f"of {a.against} have no outcome (Fisher p {p_relation(a.fisher_p)}); whatever it would "
        f"have been, the difference lies in {worst} {a.unit}{rest}."
    )


def margin_sentences(results: Results, exam: Examination) -> list[str]:
    """Say for each declared margin what was shown of non-inferiority."""
    text: list[str] = []
    for m in exam.margins:
        d, margin = m.difference, f"{number(m.margin, 1)} {m.difference.unit}"
        what = label(d.outcome)
        bound = f"one-sided {1 - m.alpha:.1%} lower bound {number(m.low, 1, signed=True)} {d.unit}"
        if results.undecided:
            text.append(
                f"So far {what} of {d.arm} less that of {d.against} is "
                f"{number(d.estimate, 1, signed=True)} {d.unit} ({bound}), and whether a loss of "
                f"{margin} is excluded is not decided."
            )
            continue
        if m.noninferior:
            found = f"a loss of {margin} or more in {what} by {d.arm} is excluded"
        else:
            found = f"that {d.arm} loses less than {margin} in {what} was not shown"
        text.append(
            f"{found[0].upper()}{found[1:]} ({bound}, p {p_relation(m.noninferiority_p)}"
            f"{needs(results, 0.5)})."
        )
    return text


def matched_sentence(results: Results, exam: Examination) -> str:
    """Say how the outcome compares at equal clean accuracy; empty without a line."""
    m = exam.matched
    if m is None:
        return ""
    where = (
        ", which lies outside the accuracies of that line, so it is extrapolated"
        if m.extrapolated
        else ""
    )
    unit = unit_of(results.outcome)
    found = (
        f"{number(m.estimate, unit.digits, signed=True)} {unit.name} against the line of "
        f"{', '.join(m.line)} ({m.level:.0%} interval {interval(m.low, m.high, unit.digits)}, p "
        f"{p_relation(m.p)}{needs(results)})"
    )
    what = f"{label(results.outcome)} of {m.arm}"
    verdict = f"{what} differs" if m.p <= results.needed else f"{what} was not shown to differ"
    if results.undecided:
        verdict = f"whether {what} differs is not decided"
    return (
        f"At its own clean accuracy of {number(m.at, 1)}%{where}, {verdict}: {found}. Accuracy is "
        "itself an outcome, so this comparison is not randomised."
    )


def mechanism_sentences(results: Results, exam: Examination) -> list[str]:
    """Say what instruments and mediation support and what they take on trust."""
    if not exam.wald:
        return []
    bounded = [w for w in exam.wald if w.anderson_rubin.bounded]
    weak = [w for w in exam.wald if w.first_stage_f < 10]
    text = [
        "If an arm acted on leakage only through robust accuracy at one radius, the Wald ratio "
        "would be its effect a point. One randomised contrast cannot test that: "
        f"it takes on trust that {exam.wald[0].assumes[2].partition(': ')[2]}."
    ]
    if weak:
        names = ", ".join(w.mediator.outcome.partition("/")[2] for w in weak)
        text.append(
            f"The effect on robust accuracy at {names} is too uncertain for the arm to serve as an "
            "instrument of it (first-stage F below 10)."
        )
    if not bounded:
        text.append("No Anderson-Rubin set is bounded, so no ratio is estimated.")
    stage = exam.two_stage
    if stage is not None and stage.sargan_p is not None:
        text.append(_exclusion(results, stage.sargan or 0, stage.sargan_p))
    return text


def _exclusion(results: Results, sargan: float, p: float) -> str:
    """Say what Sargan's test found of the arms acting through one robust accuracy only."""
    found = f"Sargan J {number(sargan, 1)}, p {p_relation(p)}{needs(results)}"
    if results.undecided:
        return f"With all arms as instruments, whether exclusion fails is not decided ({found})."
    if p <= results.needed:
        return (
            f"With all arms as instruments, exclusion is rejected ({found}): leakage does not "
            "follow this robust accuracy alone."
        )
    return (
        f"With all arms as instruments, a violation of exclusion was not shown ({found}), which "
        "does not establish it."
    )


def model_sentence(exam: Examination) -> str:
    """Say how well accuracies describe leakage, with the numbers that temper R2."""
    m = exam.model
    if m is None:
        return ""
    chance = (len(m.columns)) / (m.n - 1)
    left = "not estimable" if m.lodo_r2 is None else number(m.lodo_r2, 2)
    return (
        f"Over {m.n} units of {m.defenses} arms, {len(m.columns)} accuracies give R2 "
        f"{number(m.r2, 2)} ({number(chance, 2)} expected by chance), adjusted "
        f"{number(m.adjusted_r2, 2)}, leaving one unit out {number(m.loo_r2, 2)}, leaving one arm "
        f"out {left}. Clean accuracy given the others: F {number(m.partial_f, 2)}, p "
        f"{p_relation(m.partial_p)}; a failure to reject does not mean that it adds nothing."
    )


def classes_sentence(results: Results, exam: Examination) -> str:
    """Say whether classes were shown to differ in their effect."""
    h = exam.heterogeneity
    if h is None:
        return "Effects by class are not estimable."
    what = "a difference of the effect between classes was not shown"
    if results.undecided:
        what = "whether the effect differs between classes is not decided"
    elif h.omnibus_p <= results.needed:
        what = "the effect differs between classes"
    return (
        f"Over {len(h.classes)} classes, {what} (randomisation p {p_relation(h.omnibus_p)}"
        f"{needs(results)}); the spread of true effects is estimated at {number(h.spread, 1)} pp, "
        f"the noise of one class at {number(h.noise, 1)} pp."
    )
