"""A finished campaign of which a file is altered: `verify` names it, and nothing is lost.

Each fault is made in a copy. Then `atat verify`, `atat report` where the record is concerned, and
`atat resume` are run, until the table is the undisturbed one.
"""

import os
import shutil
import sqlite3
import time
from contextlib import closing

import pytest
from damage import WAYS

from trials.tracking.relocate import rewrite_artifact_paths

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("default")]  # as a user runs it

OF_UNITS_AND_ASSETS = {
    "training stage": "units/*/train.pt",
    "attack stage": "units/*/invert-standard.pt",
    "score stage": "units/*/score.pt",
    "robustness stage": "units/*/robustness.pt",
    "evaluation model": "assets/*-evaluation.pt",
    "prior": "assets/*-prior-*.pt",
    "list of assets": "assets/b0.json",
    "note of the start": "units/*/start.json",
    "note of the place": "units/*/place.json",
}
OF_THE_CAMPAIGN = {
    "settings": "campaign.json",
    "allocation": "allocation.csv",
    "committed hashes": "committed.json",
    "inputs": "inputs.json",
}
OF_THE_RECORD = {
    "database": "mlflow.db",
    "recorded assets": "artifacts/*/artifacts/assets.json",
    "recorded class table": "artifacts/*/artifacts/classes.csv",
    "recorded picture": "artifacts/*/artifacts/pictures/standard.png",
    "recorded allocation": "artifacts/*/artifacts/allocation.csv",
    "recorded protocol": "artifacts/*/artifacts/protocol.json",
}


@pytest.fixture
def finished(whole, mini, tmp_path):
    """Copy the undisturbed campaign; return the copy and the end that is expected."""
    folder, expected = whole(mini)
    copy = shutil.copytree(folder, tmp_path / "mini")
    rewrite_artifact_paths(copy / "mlflow.db", "1")
    return copy, expected


def alter(folder, pattern, way, draws):
    """Alter one of the files of a kind; return its path and its content before."""
    path = draws.choice(sorted(folder.glob(pattern)))
    before = path.read_bytes()
    WAYS[way](path, draws)
    return path, before


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", OF_UNITS_AND_ASSETS)
def test_an_altered_file_of_a_unit_is_named_and_changes_no_result(
    finished, kind, way, draws, atat, end_of, note_fault
):
    folder, expected = finished
    path, _ = alter(folder, OF_UNITS_AND_ASSETS[kind], way, draws)
    told = atat("verify", "mini", "--out", folder)
    assert told.code == 1
    assert str(path) in told.out
    resumed = atat("resume", "mini", "--out", folder)
    assert resumed.code == 0, resumed.err
    assert end_of(folder) == expected
    note_fault(f"{kind} {way}", path.name, "named", "undisturbed table")


@pytest.mark.parametrize("way", WAYS)
def test_an_altered_outcome_is_named_and_made_again(
    finished, way, draws, atat, driver, end_of, note_fault
):
    folder, expected = finished
    path, _ = alter(folder, "units/*/outcome.json", way, draws)
    told = atat("verify", "mini", "--out", folder)
    assert told.code == 1
    assert path.parent.name in told.out
    one = driver("resume", "mini", folder)
    assert one.wait() == 0, one.said()
    assert "Traceback" not in one.said()
    assert end_of(folder) == expected
    note_fault(f"outcome {way}", path.parent.name, "named", "undisturbed table")


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", OF_THE_CAMPAIGN)
def test_an_altered_file_of_the_campaign_is_named_and_goes_on_when_it_is_put_back(
    finished, kind, way, draws, atat, end_of, note_fault
):
    folder, expected = finished
    path, before = alter(folder, OF_THE_CAMPAIGN[kind], way, draws)
    told = atat("verify", "mini", "--out", folder)
    atat("status", "mini", "--out", folder)
    resumed = atat("resume", "mini", "--out", folder)
    assert told.code
    assert path.name in told.out + told.err
    line = told.line if told.code == 2 else resumed.line
    if resumed.code:
        path.write_bytes(before)
        assert atat("resume", "mini", "--out", folder).code == 0
    assert atat("verify", "mini", "--out", folder).code == 0
    assert end_of(folder) == expected
    note_fault(f"{kind} {way}", path.name, line, "undisturbed table")


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", OF_THE_RECORD)
def test_an_altered_file_of_the_record_is_named_and_written_again(
    finished, kind, way, draws, atat, end_of, note_fault
):
    folder, expected = finished
    path, _ = alter(folder, OF_THE_RECORD[kind], way, draws)
    told = atat("verify", "mini", "--out", folder)
    reported = atat("report", "mini", "--out", folder)
    resumed = atat("resume", "mini", "--out", folder)
    assert resumed.code == 0, resumed.err
    assert end_of(folder) == expected
    assert told.code or (kind == "database" and way == "a bit flipped")  # a bit of no page in use
    assert atat("verify", "mini", "--out", folder).code == 0
    happened = "named" if told.code else "no value differs"
    note_fault(
        f"{kind} {way}", path.name, f"{happened}; report: {reported.code}", "undisturbed table"
    )


@pytest.mark.parametrize("way", WAYS)
def test_an_altered_image_is_named_and_stops_a_resume_until_it_is_put_back(
    finished, way, draws, atat, workplace, end_of, note_fault
):
    folder, expected = finished
    shutil.rmtree(folder / "units" / "b0-02")  # so that there is something to run
    path, before = alter(workplace / "photos", "p*/*.png", way, draws)
    try:
        told = atat("verify", "mini", "--out", folder)
        resumed = atat("resume", "mini", "--out", folder)
    finally:
        path.write_bytes(before)
    name = f"{path.parent.name}/{path.name}"
    assert told.code == 1
    assert name in told.out
    assert resumed.code == 2
    assert name in resumed.err
    note_fault(f"image {way}", name, resumed.line, "named; nothing ran")


@pytest.mark.parametrize("way", WAYS)
def test_an_altered_image_store_is_written_again(
    finished, way, draws, driver, workplace, end_of, note_fault
):
    folder, expected = finished
    shutil.rmtree(folder / "units" / "b0-02")
    stores = [path for path in (workplace / "cache").rglob("*") if path.is_file()]
    big = max(stores, key=lambda path: path.stat().st_size)
    WAYS[way](big, draws)
    one = driver("resume", "mini", folder)
    assert one.wait() == 0, one.said()
    assert "Traceback" not in one.said()
    assert end_of(folder) == expected
    said = [line for line in one.said().splitlines() if "decoded again" in line]
    assert said or way == "deleted"
    note_fault(f"image store {way}", big.name, *said[:1] or ["not said"], "undisturbed table")


@pytest.mark.parametrize("command", ["verify", "report", "resume"])
def test_a_locked_database_is_one_line_and_nothing_is_lost(
    finished, command, atat, end_of, note_fault
):
    folder, expected = finished
    with closing(sqlite3.connect(folder / "mlflow.db")) as connection:
        connection.execute("begin exclusive")
        told = atat(command, "mini", "--out", folder)
    assert told.code
    assert atat(command, "mini", "--out", folder).code == 0
    assert end_of(folder) == expected
    note_fault(f"database locked, atat {command}", "after the run", told.line, "undisturbed table")


@pytest.mark.parametrize("years", [10, -20])
def test_files_with_the_times_of_a_wrong_clock_agree(
    finished, years, atat, workplace, end_of, note_fault
):
    folder, expected = finished
    when = time.time() + years * 365 * 86400
    for path in [*folder.rglob("*"), *(workplace / "photos").rglob("*")]:
        os.utime(path, (when, when))
    for command in ("verify", "resume", "report"):
        told = atat(command, "mini", "--out", folder)
        assert told.code == 0, told.out + told.err
    assert end_of(folder) == expected
    note_fault(f"all files {years:+} years", "after the run", "all agrees", "undisturbed table")
