"""One unit of a trial, from its specification to its outcome, stage by stage."""

from atat_ray.unit.run import read_outcome, run_unit
from atat_ray.unit.spec import BlockSpec, UnitSpec

__all__ = ["BlockSpec", "UnitSpec", "read_outcome", "run_unit"]
