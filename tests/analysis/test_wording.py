"""The sentences of the verdict: what each kind of record lets them claim."""

from __future__ import annotations

from dataclasses import replace

from analysis import wording
from analysis.results import analyse
from analysis.runs import Record

PRIMARY = {"arm": "treatment", "against": "control"}


def with_contrasts(record: Record, **others: dict[str, str]) -> Record:
    contrasts = {**others, "primary": PRIMARY}
    return replace(record, protocol={**record.protocol, "contrasts": contrasts})


def said(record: Record) -> tuple[str, list[str]]:
    results = analyse(record)
    return wording.verdict(results)[1], wording.limits(results)


def test_the_mechanism_is_the_contrast_of_that_name_wherever_it_stands(record: Record) -> None:
    """Names are sorted, so ``decoys`` stands before it; it was taken for the mechanism."""
    other = {"arm": "placebo", "against": "control"}
    asked = {"arm": "treatment", "against": "placebo"}
    sentence, limits = said(with_contrasts(record, decoys=other, mechanism=asked))
    assert sentence.startswith("Against placebo the difference is ")
    assert sentence.endswith(
        "so what placebo shares with treatment does not account for all of it."
    )
    assert "The contrast treatment v placebo removes what the two arms share" in limits[1]


def test_without_a_mechanism_nothing_is_said_of_what_arms_share(record: Record) -> None:
    other = {"arm": "placebo", "against": "control"}
    reverse = {"arm": "placebo", "against": "treatment"}
    for contrasts in ({"decoys": other}, {"mechanism": other}, {"mechanism": reverse}):
        sentence, limits = said(with_contrasts(record, **contrasts))
        assert sentence.startswith("Clean accuracy differs too (")
        assert limits[1] == (
            "No contrast named mechanism sets treatment against a second reference, so the "
            "question of mechanism is open."
        )


def test_contrasts_stand_by_name_after_the_primary_one(record: Record) -> None:
    other = {"arm": "placebo", "against": "control"}
    results = analyse(with_contrasts(record, zeta=other, alpha=other))
    assert [c.name for c in results.contrasts] == ["primary", "alpha", "zeta"]
