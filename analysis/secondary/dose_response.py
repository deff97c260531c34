"""Response of the primary outcome to the doses that the protocol declares.

Optional key of the protocol: ``doses`` {arm: number}.
"""

from __future__ import annotations

from analysis.pipeline.primary import Results
from analysis.regression.dose_response import DoseResponse, fit_dose_response
from analysis.secondary.context import Context
from analysis.secondary.interface import Section


def estimate(context: Context) -> DoseResponse | None:
    """Fit the dose response over the arms with a declared dose."""
    protocol, results = context.protocol, context.results
    doses = protocol.get("doses")
    if not doses:
        return None
    units, outcome = results.analysed, results.outcome
    return fit_dose_response(
        units, outcome, dict(doses), seed=protocol["seed"], level=results.level
    )


def sentence(results: Results, found: DoseResponse) -> str:
    """Return the estimate as one sentence."""
    return str(found)


SECTION = Section(
    name="dose_response",
    place="sensitivity",
    estimate=estimate,
    sentence=sentence,
    title="Dose and response",
    label="dose and response",
)
