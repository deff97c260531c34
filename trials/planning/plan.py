"""Describe a protocol before it runs: units, smallest possible p, power, hours.

Nothing is written. Power comes from :func:`analysis.planning.power.simulate`, which draws outcomes
and analyses them with the estimators of the report.
"""

from argparse import Namespace
from collections.abc import Iterator
from math import comb, prod
from pathlib import Path
from statistics import fmean
from typing import Any

from atat_ray.utils.messages import counted
from trials.allocation import Stratum, strata
from trials.config.load import (
    SHIPPED,
    SHIPPED_SWEEPS,
    find,
    read_mapping,
    read_protocol,
    read_sweep,
    shipped,
)
from trials.config.protocol import Contrast, Protocol
from trials.config.sweep import SweepSettings
from trials.planning.claim_lines import describe_claims


def describe_plan(options: Namespace) -> Iterator[str]:
    """Generate the lines of ``atat plan``; simulations and measurements run in between.

    Args:
        options: of the command line: protocol, control, effect, sd, trials, like, probe.
    """
    if is_sweep(options.protocol):
        sweep = read_sweep(options.protocol)
        lines, units, settings = describe_sweep(sweep), sweep.total(), sweep
    else:
        protocol = settings = read_protocol(options.protocol)
        groups = strata(protocol)
        lines = [
            *describe_trial(protocol, groups),
            *describe_power(protocol, groups, options),
            *describe_claims(protocol, groups, assumptions(options), options),
        ]
        units = sum(len(group.unit_ids) for group in groups)
    yield from lines
    if options.probe:
        from trials.planning.hours import describe_probe

        yield from describe_probe(settings)
    else:
        yield describe_hours(units, options.like)


def is_sweep(name: str) -> bool:
    """Tell whether a name or file is a sweep: a shipped one, or a file with the key ``search``."""
    if name in shipped(SHIPPED) or name in shipped(SHIPPED_SWEEPS):
        return name in shipped(SHIPPED_SWEEPS)
    path = find(name, "protocol", SHIPPED)
    return "search" in read_mapping(path, "protocol")[0]


def describe_sweep(sweep: SweepSettings) -> list[str]:
    """Describe the points of a sweep."""
    spaces = (f"{name} {space.ends()}" for name, space in sweep.search.options.items())
    return [
        f"{sweep.name}: {sweep.question}",
        f"sweep {sweep.sha256()}",
        f"{sweep.total()} points by {sweep.search.method}: {'; '.join(spaces)}",
        "nothing is randomised, so there is no p and no power",
    ]


def describe_trial(protocol: Protocol, groups: list[Stratum]) -> list[str]:
    """Describe the units of a trial, and the smallest p that each contrast can reach."""
    from analysis.inference.reallocation import format_count, smallest_p

    units = sum(len(group.unit_ids) for group in groups)
    kind = "block" if protocol.design == "blocked" else "matched set"
    lines = [
        f"{protocol.name}: {protocol.question}",
        f"protocol {protocol.sha256()}",
        f"{counted(units, 'unit')} in {counted(len(groups), kind)}; arms are drawn at random "
        "within each",
    ]
    for name, arm in protocol.canonical()["arms"].items():
        settings = " ".join(
            f"{key}={value}" for key, value in arm.items() if key != "defense" and value is not None
        )
        number = sum(group.arms.count(name) for group in groups)
        lines.append(f"  {name:<12}{number:>4} units  {arm['defense']} {settings}".rstrip())
    for name, contrast in protocol.contrasts.items():
        role = "primary" if name == "primary" else "secondary"
        counts = [arm_sizes(group, contrast) for group in groups]
        least = smallest_p(counts)
        allocations = prod(comb(treated + control, treated) for treated, control in counts)
        lines += [
            f"contrast {name} ({role}): {contrast.arm} against {contrast.against}, "
            f"{protocol.outcome}",
            f"  smallest two-sided exact p: {least:.2g} ({format_count(allocations)} allocations)",
        ]
        if least > protocol.alpha:
            lines.append(
                f"  warning: p cannot be below alpha = {protocol.alpha:g}; add units or blocks"
            )
    return lines


def arm_sizes(group: Stratum, contrast: Contrast) -> tuple[int, int]:
    """Count the units of the two arms of a contrast in a stratum."""
    return group.arms.count(contrast.arm), group.arms.count(contrast.against)


def describe_power(protocol: Protocol, groups: list[Stratum], options: Namespace) -> list[str]:
    """Describe the power of the primary contrast under the assumptions of the options."""
    from analysis.inference.group_sequential import planned_looks
    from analysis.planning.power import simulate
    from analysis.schema.columns import unit_of

    if unit_of(protocol.outcome).name != "pp":
        return [f"power: not simulated, because {protocol.outcome} is a distance, not a fraction"]
    per_arm = arm_sizes(groups[0], protocol.contrasts["primary"])  # the same in every stratum
    if len(groups) * min(per_arm) < 2:
        return ["power: none, because a comparison needs at least two units of each arm"]
    assumed, looks = assumptions(options), planned_looks(protocol.canonical())
    power = simulate(
        blocks=len(groups),
        per_arm=per_arm,
        outcome=protocol.outcome,
        alpha=protocol.alpha,
        looks=looks,
        trials=options.trials,
        seed=protocol.seed,
        control=assumed["control"],
        treatment=assumed["treatment"],
        precision=assumed["precision"],
        treatment_precision=assumed["treatment_precision"],
    )
    over = ""
    if looks:
        at = ", ".join(f"{look.blocks} (p <= {look.threshold:.2g})" for look in looks)
        over = f" over the looks after blocks {at}"
    return [
        f"power of primary: {power.power:.0%} ({power.power_se:.1%}) at alpha = "
        f"{protocol.alpha:g}{over}; {1 - protocol.alpha:.0%} interval {power.width:.1f} points "
        "wide",
        f"  if {options.control:.0%} becomes {assumed['treatment']:.0%} and runs have an SD of "
        f"{options.sd:g} points ({options.trials} simulated trials; see atat plan --help)",
        f"  without an effect {power.size:.1%} ({power.size_se:.1%}) of such trials would show one",
    ]


def assumptions(options: Namespace) -> dict[str, float]:
    """Convert means and standard deviation to the Beta distributions that are simulated.

    Raises:
        ValueError: no Beta distribution has that mean and standard deviation.
    """
    control, treatment = options.control, options.control + options.effect / 100
    if options.trials < 10:
        raise ValueError(f"--trials must be 10 or more, got {options.trials}")
    for option, mean in (("--control", control), ("--control plus --effect", treatment)):
        if not 0 < mean < 1:
            raise ValueError(f"{option} must lie between 0 and 1, got {mean:g}; --effect is in "
                             "percentage points")  # fmt: skip
    if options.effect == 0:
        raise ValueError("--effect must not be 0, because power is computed for an effect")
    # Variance = mean (1 - mean) / (1 + precision). The limit is precision 1, a U-shaped density.
    largest = 100 * min((m * (1 - m) / 2) ** 0.5 for m in (control, treatment))
    if not 0 < options.sd <= largest:
        raise ValueError(f"--sd must lie between 0 and {largest:.1f} points for these means, got "
                         f"{options.sd:g}")  # fmt: skip
    variance = (options.sd / 100) ** 2
    return {
        "control": control,
        "treatment": treatment,
        "precision": control * (1 - control) / variance - 1,
        "treatment_precision": treatment * (1 - treatment) / variance - 1,
    }


def describe_hours(units: int, like: Path | None) -> str:
    """Estimate the hours of the units from the mean duration of a unit in another campaign.

    Args:
        units: number of units.
        like: folder of the other campaign; None if it was not given.

    Raises:
        ValueError: there is no campaign in ``like``, or none of its units has finished.
    """
    if like is None:
        return (
            "hours: unknown; --like DIR estimates them from a campaign that ran, such as "
            "runs/NAME, and --probe from one step of each kind of unit on this device"
        )
    from trials.campaign.campaign import Campaign

    campaign = Campaign.load(like)
    outcomes = {row.unit_id: campaign.outcome(row) for row in campaign.table}
    seconds = [stage_seconds(outcome) for outcome in outcomes.values() if outcome is not None]
    if not seconds:
        raise ValueError(f"--like {like}: none of its {len(outcomes)} units has finished yet")
    devices = {campaign.note(u, "place").get("device") for u, o in outcomes.items() if o}
    kinds = " and ".join(sorted({"GPU" if "cuda" in str(d) else "CPU" for d in devices}))
    return (
        f"hours: {units * fmean(seconds) / 3600:.2g} {kinds} hours for {units} units, because a "
        f"unit of {campaign.settings.name} takes {fmean(seconds):.0f} s (mean of {len(seconds)}); "
        "evaluation models and priors, built once per block, are not included"
    )


def stage_seconds(outcome: dict[str, Any]) -> float:
    """Add up the seconds of the stages of a unit."""
    return sum(outcome["seconds"].values())
