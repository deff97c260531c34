"""Leakage model within each family of defenses that the protocol declares.

Optional key of the protocol: ``families`` {name: [arms]}.
"""

from __future__ import annotations

from analysis import schema
from analysis.pipeline.primary import Results
from analysis.regression.leakage_model import LeakageModel, fit_leakage_model
from analysis.secondary.context import Context
from analysis.secondary.interface import Section
from analysis.secondary.leakage_model import title


def estimate(context: Context) -> dict[str, LeakageModel] | None:
    """Fit the model in each family; None where it is not estimable over all arms either."""
    if context.result("leakage_model") is None:
        return None
    units, outcome = context.complete, context.results.outcome
    found: dict[str, LeakageModel] = {}
    for name, arms in context.protocol.get("families", {}).items():
        mine = units.loc[units["arm"].isin(list(arms))]
        label = f"leakage model of {name}"
        model = context.attempt(
            label, fit_leakage_model, mine, outcome, schema.CLEAN_ACC, context.joint
        )
        if model is not None:
            found[str(name)] = model
    return found


def sentence(results: Results, found: dict[str, LeakageModel]) -> list[str]:
    """Return the model of each family as one sentence."""
    return [f"{name}: {model}" for name, model in found.items()]


def note(results: Results, found: dict[str, LeakageModel]) -> str:
    """State that no families are declared."""
    if found:
        return ""
    return "The protocol declares no families of defenses, so all arms are in one model."


SECTION = Section(
    name="families",
    place="leakage",
    estimate=estimate,
    sentence=sentence,
    title=title,
    note=note,
)
