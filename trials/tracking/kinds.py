"""Kinds of record: a randomised campaign of units, or a sweep of points."""

from dataclasses import dataclass

from analysis import schema


@dataclass(frozen=True, kw_only=True, slots=True)
class RecordKind:
    """What is recorded: a campaign of units, or a sweep of points.

    Attributes:
        parent: kind of the parent run.
        child: kind of the child runs.
        command: of ``atat``, which starts one.
        randomised: whether units were allocated at random; only then is there an allocation.
    """

    parent: str
    child: str
    command: str
    randomised: bool

    def tags(self) -> dict[str, str]:
        """Return the tags that all runs of this kind have."""
        return {} if self.randomised else {schema.RANDOMISED_TAG: schema.NOT_RANDOMISED}


TRIAL = RecordKind(
    parent=schema.KIND_CAMPAIGN, child=schema.KIND_UNIT, command="run PROTOCOL", randomised=True
)
SWEEP = RecordKind(
    parent=schema.KIND_SWEEP, child=schema.KIND_POINT, command="sweep SWEEP", randomised=False
)
