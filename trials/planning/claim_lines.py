"""Describe the claims of a protocol before it runs: the rule, and the chance of each verdict."""

from argparse import Namespace
from collections.abc import Iterator
from typing import Any

from trials.allocation import Stratum
from trials.config.claim import Claim
from trials.config.protocol import Protocol

Means = dict[str, dict[str, float]]  # by arm and outcome


def describe_claims(
    protocol: Protocol, groups: list[Stratum], assumed: dict[str, float], options: Namespace
) -> Iterator[str]:
    """Generate the lines of ``atat plan`` on the claims; none without a claim.

    Args:
        protocol: to describe.
        groups: strata of its allocation.
        assumed: means of ``--control`` and treatment, by these names.
        options: of the command line: sd, trials.
    """
    for name, claim in (protocol.claims or {}).items():
        yield f"claim {name}: {claim.sentence}"
        yield f"  the paper ({claim.where}): {claim.paper}"
        yield f"  {rule_of(claim)}"
        truths, spread = assumed_truths(protocol, claim, assumed, options.sd / 100)
        if not truths:
            yield f"  chances unknown: declare claims.{name}.truths, the means of outcomes by arm"
            continue
        yield from describe_chances(protocol, name, groups, truths, spread, options.trials)


def rule_of(claim: Claim) -> str:
    """State the rule by which a claim is decided."""
    kind = next(iter(claim.estimand.model_dump(exclude_none=True)))
    if claim.direction == "within":
        return (
            f"supported if the interval of its estimand ({kind}) is wholly within +-"
            f"{claim.margin:g}, contradicted if it is wholly outside"
        )
    other = "above" if claim.direction == "below" else "below"
    return (
        f"supported if the interval of its estimand ({kind}) is wholly {claim.direction} "
        f"{claim.margin:g}, contradicted if it is wholly {other}"
    )


def assumed_truths(
    protocol: Protocol, claim: Claim, assumed: dict[str, float], sd: float
) -> tuple[dict[str, Means], dict[str, float]]:
    """Return truths by name, and the spread of their outcomes.

    A claim about a single contrast that declares none has three: no effect, an effect at the
    margin, and the effect that the power is computed for.
    """
    if claim.truths is not None:
        return claim.truths, claim.spread or {}
    from analysis.schema.columns import unit_of

    on = claim.estimand.contrast
    if on is None:
        return {}, {}
    contrast, outcome = protocol.contrasts[on.contrast], on.outcome or protocol.outcome
    if unit_of(outcome).name != "pp":
        return {}, {}
    control = assumed["control"]
    treated = {
        "no effect": control,
        "an effect at the margin": control + claim.margin,
        f"{control:.0%} becomes {assumed['treatment']:.0%}": assumed["treatment"],
    }
    truths = {
        name: {contrast.arm: {outcome: mean}, contrast.against: {outcome: control}}
        for name, mean in treated.items()
        if 0 < mean < 1
    }
    return truths, {outcome: sd}


def describe_chances(
    protocol: Protocol,
    claim: str,
    groups: list[Stratum],
    truths: dict[str, Means],
    spread: dict[str, float],
    trials: int,
) -> Iterator[str]:
    """Generate one line a truth with the chance of each verdict."""
    import pandas as pd

    from analysis.planning.claim_chances import verdict_chances

    assert protocol.claims is not None
    rows: list[tuple[str, str, Any]] = [
        (unit, group.name, arm)
        for group in groups
        for unit, arm in zip(group.unit_ids, group.arms, strict=True)
    ]
    frame = pd.DataFrame(rows, columns=["unit_id", "block", "arm"])
    for name, means in truths.items():
        found = verdict_chances(
            frame,
            protocol.canonical(),
            claim,
            means,
            spread=spread,
            correlation=protocol.claims[claim].correlation,
            trials=trials,
            seed=protocol.seed,
        )
        shares = ", ".join(f"{v} {s:.0%} ({found.se(v):.1%})" for v, s in found.shares.items())
        yield f"  if {name}: {shares}; {trials} simulated trials"
