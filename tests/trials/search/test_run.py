"""Whole sweeps by the command line: killed and resumed, or stopped early by ASHA."""

import pytest

from analysis import schema
from analysis.report import sweep as sweeps
from trials.search.sweep import Sweep

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
    """Return a function that writes a sweep whose points run long enough to be killed."""
    training = {**content["training"], "epochs": EPOCHS}
    return lambda search: write_protocol(sweep_content(search, training=training))


def run_twice(driver, path, whole, killed, *, seen):
    """Run a sweep to its end, and again with a kill after each number of points in ``seen``."""
    run = driver("sweep", path, whole, "--at-a-time", "1")
    assert run.wait() == 0, run.said()
    for least in seen:
        run = driver("sweep", path, killed, "--at-a-time", "1")
        run.until(lambda run=run, least=least: len(run.finished()) >= least and run.running())
        run.kill()
    last = driver("resume", "tiny", killed, "--at-a-time", "1")
    assert last.wait() == 0, last.said()


def points_of(folder):
    """List options, status and outcome of every point, without durations."""
    sweep, points = Sweep.load(folder), []
    for row in sweep.table:
        outcome = sweep.outcome(row)
        points.append((sweep.options(row), sweep.status(row), outcome and dict(outcome, seconds=0)))
    return points


def recorded(folder):
    """Return the status of every point in the record, by unit id."""
    sweep = Sweep.load(folder)
    points = sweeps.load_sweep(sweep.tracking_uri, sweep.settings.name).points
    assert points["unit_id"].is_unique
    return dict(zip(points["unit_id"], points["status"], strict=True))


@pytest.mark.parametrize("method", SEARCHES)
def test_a_killed_and_resumed_sweep_has_the_points_of_an_undisturbed_one(
    method, driver, sweep_file, tmp_path
):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    run_twice(driver, sweep_file(SEARCHES[method]), whole, killed, seen=(2, 4))
    expected = points_of(whole)
    assert points_of(killed) == expected
    assert len(expected) == Sweep.load(killed).total()
    assert {status for _, status, _ in expected} == {schema.FINISHED}
    assert recorded(killed) == recorded(whole)


def test_asha_makes_the_same_decisions_after_a_kill(driver, sweep_file, tmp_path):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    run_twice(driver, sweep_file(ASHA), whole, killed, seen=(1, 2))
    expected = points_of(whole)
    assert points_of(killed) == expected
    assert {status for _, status, _ in expected} == {schema.FINISHED, schema.STOPPED}
    sweep = Sweep.load(killed)
    for row in sweep.table:
        epochs = sweep.curve(row)
        assert (max(epochs) == EPOCHS) == (sweep.status(row) == schema.FINISHED)
    assert recorded(killed) == {row.unit_id: sweep.status(row) for row in sweep.table}
