"""Sweeps as users run them: killed in the middle and gone on with, or stopped early by ASHA."""

import pytest

from analysis import schema
from analysis.report import sweep as sweeps
from trials.search.run import epochs_of
from trials.search.sweep import load

pytestmark = [pytest.mark.slow, pytest.mark.ray]

RANGES = {
    "weight": {"low": 0.25, "high": 8.0, "log": True},
    "epsilon": {"low": 0.001, "high": 0.02},
}
GRID = {
    "method": "grid",
    "options": {"weight": {"levels": [0.5, 2.0]}, "epsilon": {"levels": [0.005, 0.01, 0.02]}},
}
SEARCHES = {
    "grid": GRID,
    "tpe": {
        "method": "tpe",
        "points": 8,
        "startup": 3,
        "clean_acc_at_least": 0.3,
        "options": RANGES,
    },
    "pareto": {"method": "pareto", "points": 8, "startup": 3, "options": RANGES},
}
ASHA = {"method": "asha", "points": 9, "grace": 2, "reduction": 2, "options": RANGES}
EPOCHS = 20


@pytest.fixture
def sweep_file(sweep_content, content, write_protocol):
    """Return a function that writes a sweep whose points can be met while they run."""
    training = {**content["training"], "epochs": EPOCHS}
    return lambda search: write_protocol(sweep_content(search, training=training))


def run_twice(driver, path, whole, killed, *, seen):
    """Run a sweep to its end, and again with kills once so many points have finished."""
    one = driver("sweep", path, whole, "--at-a-time", "1")
    assert one.wait() == 0, one.said()
    for least in seen:
        one = driver("sweep", path, killed, "--at-a-time", "1")
        one.until(lambda one=one, least=least: len(one.finished()) >= least and one.running())
        one.kill()
    last = driver("resume", "tiny", killed, "--at-a-time", "1")
    assert last.wait() == 0, last.said()


def points_of(folder):
    """List options, status and outcome of every point, durations left out."""
    sweep, found = load(folder), []
    for row in sweep.table:
        outcome = sweep.outcome(row)
        found.append((sweep.options(row), sweep.status(row), outcome and dict(outcome, seconds=0)))
    return found


def recorded(folder):
    """Map every point of the record, which is marked as not randomised, to its status."""
    sweep = load(folder)
    points = sweeps.load_sweep(sweep.tracking_uri, sweep.protocol.name).points
    assert points["unit_id"].is_unique
    return dict(zip(points["unit_id"], points["status"], strict=True))


@pytest.mark.parametrize("method", SEARCHES)
def test_a_sweep_that_was_killed_ends_with_the_points_of_one_that_was_not(
    method, driver, sweep_file, tmp_path
):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    run_twice(driver, sweep_file(SEARCHES[method]), whole, killed, seen=(2, 4))
    expected = points_of(whole)
    assert points_of(killed) == expected
    assert len(expected) == load(killed).total()
    assert {status for _, status, _ in expected} == {schema.FINISHED}
    assert recorded(killed) == recorded(whole)


def test_asha_goes_on_after_a_kill_with_what_it_knew(driver, sweep_file, tmp_path):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    run_twice(driver, sweep_file(ASHA), whole, killed, seen=(1, 2))
    expected = points_of(whole)
    assert points_of(killed) == expected
    assert {status for _, status, _ in expected} == {schema.FINISHED, schema.STOPPED}
    sweep = load(killed)
    for row in sweep.table:
        epochs = epochs_of(sweep, row.unit_id)
        assert (max(epochs) == EPOCHS) == (sweep.status(row) == schema.FINISHED)
    assert recorded(killed) == {row.unit_id: sweep.status(row) for row in sweep.table}
