"""Hashes of specifications."""

from dataclasses import dataclass

from atat_ray.utils.hashing import canonical, specification_hash
from atat_ray.utils.option_fields import location_option


@dataclass(frozen=True, kw_only=True, slots=True)
class Options:
    path: str = location_option()
    steps: int = 3
    scale: float | None = None


def test_every_option_is_in_the_canonical_form_whether_or_not_it_is_at_its_default():
    written = {"kind": "Options", "steps": 3, "scale": None}
    assert canonical(Options(path="/here")) == written
    assert canonical(Options(path="/here", scale=0.5)) == {**written, "scale": 0.5}


def test_a_location_changes_no_hash_and_any_other_option_does():
    here = specification_hash("stage", Options(path="/here"))
    assert here == specification_hash("stage", Options(path="/there"))
    assert here != specification_hash("stage", Options(path="/here", steps=4))
    assert here != specification_hash("another stage", Options(path="/here"))
