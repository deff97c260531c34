"""Sweeps: valid settings, proposals as a function of earlier points, folder and record."""

import io
import json
import re
from copy import deepcopy
from itertools import product
from pathlib import Path

import pytest
import yaml

from analysis import schema
from trials.campaign.layout import default_folder
from trials.campaign.notes import write_note
from trials.cli import program as cli
from trials.config.load import SHIPPED_SWEEPS, read_sweep, shipped
from trials.config.sweep import SweepSettings
from trials.execution.display import Lines
from trials.execution.events import UnitEvents
from trials.execution.resources import Resources
from trials.execution.run import unit_tasks
from trials.search.asha import Halving
from trials.search.proposals import Point, grid_point, propose
from trials.search.sweep import Sweep

GRID = {
    "method": "grid",
    "options": {"weight": {"levels": [0.5, 2.0]}, "epsilon": {"levels": [0.005, 0.01]}},
}
RANGES = {
    "weight": {"low": 0.25, "high": 8.0, "log": True},
    "epsilon": {"low": 0.001, "high": 0.02},
}
TPE = {"method": "tpe", "points": 30, "clean_acc_at_least": 0.5, "options": RANGES}
PARETO = {"method": "pareto", "points": 30, "options": RANGES}
ASHA = {"method": "asha", "points": 9, "grace": 1, "options": RANGES}


@pytest.fixture
def settings_of(sweep_content):
    return lambda search=GRID, **changes: SweepSettings.model_validate(
        sweep_content(search, **changes)
    )


def finished(options, leakage=0.5, clean_acc=0.5):
    return Point(options=options, status=schema.FINISHED, leakage=leakage, clean_acc=clean_acc)


def simulated(settings, outcome, points=None):
    """Simulate a whole search in which ``outcome(options)`` gives leakage and clean accuracy."""
    points = list(points or [])
    while len(points) < settings.total():
        options = propose(settings, points)
        points.append(finished(options, *outcome(options)))
    return points


def test_a_grid_is_every_combination_once(settings_of):
    grid = settings_of().search
    points = [tuple(grid_point(grid, index).values()) for index in range(4)]
    assert points == list(product([0.5, 2.0], [0.005, 0.01]))


@pytest.mark.parametrize("search", [TPE, PARETO, ASHA], ids=["tpe", "pareto", "asha"])
def test_an_interrupted_search_continues_with_the_same_proposals(settings_of, search):
    settings = settings_of(search)
    outcome = lambda o: (1 / (1 + o["weight"]), 1 - o["epsilon"])  # noqa: E731
    whole = simulated(settings, outcome)
    assert simulated(settings, outcome, whole[:5]) == whole
    assert len({tuple(p.options.values()) for p in whole}) == settings.total()


def test_tpe_minimises_leakage_among_points_of_sufficient_accuracy(settings_of):
    """Leakage falls with the weight; accuracy is sufficient up to a weight of 2."""
    settings = settings_of({**TPE, "points": 60})
    points = simulated(
        settings, lambda o: (1 / (1 + o["weight"]), 0.9 if o["weight"] <= 2 else 0.2)
    )
    late = [p for p in points[15:] if 1 <= p.options["weight"] <= 2]
    assert len(late) >= 17, "by chance 9 of 45 on a log scale from 0.25 to 8"


def test_a_pareto_search_optimises_both_objectives(settings_of):
    """A small epsilon is better in both objectives, so the search must move there."""
    points = simulated(settings_of(PARETO), lambda o: (o["epsilon"] * 40, 1 - o["epsilon"] * 40))
    late = sorted(p.options["epsilon"] for p in points[15:])
    assert late[len(late) // 2] < 0.005, "by chance the median is 0.0105"


def test_running_and_failed_points_are_not_proposed_again(settings_of):
    options = {"steps": {"low": 1, "high": 3}, "weight": {"levels": [1.0, 2.0]}}
    arm = {"defense": "anti_adversarial", "epsilon": 0.01, "step_size": 0.005, "random_start": True}
    search = {"method": "tpe", "points": 6, "startup": 2, "clean_acc_at_least": 0}
    settings = settings_of({**search, "options": options}, arm=arm)
    points = []
    for status in (schema.PENDING, schema.FAILED, schema.FINISHED, *[schema.PENDING] * 3):
        points.append(Point(options=propose(settings, points), status=status))
    tried = {tuple(p.options.values()) for p in points}
    assert tried == set(product([1, 2, 3], [1.0, 2.0]))


def put(path, value):
    def change(content):
        *parents, last = path.split(".")
        for key in parents:
            content = content[key]
        content[last] = value

    return change


BAD = {
    "no such method": (
        put("search.method", "gird"),
        "unknown method 'gird' (did you mean 'grid'?)",
    ),
    "a wrong key": (put("serch", {}), "unknown key 'serch' (did you mean 'search'?)"),
    "a wrong key of the search": (
        put("search.point", 3),
        "unknown key 'search.point'",
    ),
    "a wrong key of a space": (
        put("search.options.weight", {"level": [1]}),
        "'search.options.weight.level' (did you mean 'search.options.weight.levels'?)",
    ),
    "an option that the defense lacks": (
        put("search.options.lamda", {"levels": [1]}),
        "unknown numeric option of anti_adversarial 'lamda'",
    ),
    "an option that is no number": (
        put("search.options.random_start", {"levels": [1]}),
        "unknown numeric option of anti_adversarial 'random_start'",
    ),
    "an epsilon of 8": (
        put("search.options.epsilon.levels", [0.01, 8]),
        "epsilon is an L-infinity radius in pixel units",
    ),
    "a lambda below 0": (
        put("search.options.weight.levels", [-1, 1]),
        "must be 0 or above, got -1",
    ),
    "a range in a grid": (
        put("search.options.weight", {"low": 1, "high": 2}),
        "a grid needs levels: [...], weight has a range",
    ),
    "texts": (put("search.options.weight.levels", ["a"]), "values of a search must be numbers"),
    "booleans": (put("search.options.weight.levels", [True]), "values of a search must be numbers"),
    "no levels": (put("search.options.weight.levels", []), "search.options.weight.levels"),
    "no options": (put("search.options", {}), "search.options"),
    "one level twice": (put("search.options.weight.levels", [1, 1]), "different values"),
    "infinity": (put("search.options.weight.levels", [float("inf")]), "search.options.weight"),
    "half a range": (
        put("search", {**ASHA, "options": {"weight": {"low": 1}}}),
        "needs either levels: [...] or both low and high, got low",
    ),
    "a range upside down": (
        put("search", {**ASHA, "options": {"weight": {"low": 2, "high": 1}}}),
        "low must be below high, got 2 and 1",
    ),
    "a logarithm of 0": (
        put("search", {**ASHA, "options": {"weight": {"low": 0, "high": 1, "log": True}}}),
        "log needs a low above 0",
    ),
    "a search that never learns": (put("search", {**TPE, "points": 5}), "points must be above"),
    "more points than there are": (
        put("search", {**TPE, "options": GRID["options"]}),
        "only 4 combinations",
    ),
    "a grace as long as the training": (
        put("search", {**ASHA, "grace": 2}),
        "search.grace must be below training.epochs, got 2 and 2",
    ),
    "two blocks": (put("blocks", {"a": {"split": 0}, "b": {"split": 1}}), "runs on one block"),
    "an option given twice": (
        put("arm.weight", 1.0),
        "weight is given in arm and in search.options; remove one of them",
    ),
    "a wrong key of the arm": (put("arm.stepz", 1), "unknown key of arm 'stepz'"),
    "a missing key of the arm": (put("arm", {"defense": "anti_adversarial"}), "is missing"),
    "no defense": (put("arm", {"steps": 1}), "unknown defense"),
    "a list for a search": (put("search", [1]), "search"),
}


@pytest.mark.parametrize("name", BAD)
def test_an_invalid_sweep_is_refused_in_one_line_and_writes_nothing(
    name, sweep_content, capsys, tmp_path
):
    change, words = BAD[name]
    content = sweep_content(GRID)
    change(content)
    path = tmp_path / "bad.yaml"
    path.write_text(yaml.safe_dump(content))
    assert cli.main(["sweep", str(path)]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert words in error
    assert re.search(r"bad\.yaml:\d+: ", error)
    assert list(tmp_path.iterdir()) == [path]


def test_changed_settings_are_refused_with_the_change(settings_of, tmp_path):
    Sweep.create_or_resume(settings_of(), tmp_path / "sweep", None).propose()
    other = deepcopy(GRID)
    other["options"]["weight"]["levels"] = [0.5, 4.0]
    with pytest.raises(ValueError, match=r"changed: search.options.weight.levels from \[0.5, 2.0"):
        Sweep.create_or_resume(settings_of(other), tmp_path / "sweep", None)


def test_a_folder_with_other_files_is_refused(settings_of, tmp_path):
    (tmp_path / "sweep").mkdir()
    (tmp_path / "sweep" / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match="holds no sweep"):
        Sweep.create_or_resume(settings_of(), tmp_path / "sweep", None)


def test_a_resumed_sweep_has_the_points_of_the_first_run(settings_of, tmp_path):
    sweep = Sweep.create_or_resume(settings_of(PARETO), tmp_path / "sweep", None)
    rows = [sweep.propose() for _ in range(3)]
    again = Sweep.create_or_resume(settings_of(PARETO), tmp_path / "sweep", None)
    assert again.table == rows
    assert [again.options(row) for row in rows] == [sweep.options(row) for row in rows]
    assert again.spec(rows[0]).seed("weights") == again.spec(rows[1]).seed("weights")


def test_a_damaged_point_is_named_and_no_later_point_is_proposed_again(settings_of, tmp_path):
    sweep = Sweep.create_or_resume(settings_of(), tmp_path / "sweep", None)
    first, *_ = [sweep.propose() for _ in range(3)]
    (sweep.unit_folder(first.unit_id) / "options.json").write_text('{"weight": 1')
    with pytest.raises(ValueError, match=rf"{first.unit_id}/options\.json cannot be read"):
        Sweep.load(sweep.folder)


def test_a_point_that_has_not_run_is_handed_out_again(settings_of, tmp_path):
    sweep = Sweep.create_or_resume(settings_of(), tmp_path / "s", None)
    events = UnitEvents(sweep, Lines(io.StringIO()))
    resources = {"split-0": Resources(amounts={"CPU": 1.0}, processes=1)}

    def queue():
        return (task.name for task in unit_tasks(sweep, events, sweep.table[:], resources))

    first = next(queue())
    again = queue()
    assert (next(again), next(again)) == (first, "point-2")
    write_note(sweep.unit_folder("point-1"), schema.FAILED, {"reason": "ValueError: no"})
    assert next(queue()) == "point-2"
    assert set(events.rows) == {"point-1", "point-2"}


def test_a_grid_proposes_without_reading_earlier_points(settings_of, tmp_path, monkeypatch):
    """Reading thousands of points on a shared disk would block Tune."""
    sweep = Sweep.create_or_resume(settings_of(), tmp_path / "s", None)
    monkeypatch.setattr(Sweep, "point", lambda self, row: pytest.fail(f"{row.unit_id} was read"))
    options = [sweep.options(sweep.propose()) for _ in range(3)]
    assert len({tuple(point.values()) for point in options}) == 3


def test_a_search_reads_each_ended_point_once(settings_of, tmp_path, monkeypatch):
    sweep, asked = Sweep.create_or_resume(settings_of(TPE), tmp_path / "s", None), []
    read = Sweep.outcome
    monkeypatch.setattr(Sweep, "outcome", lambda self, row: asked.append(row) or read(self, row))
    write_note(sweep.unit_folder("point-01"), schema.FAILED, {"reason": "ValueError: no"})
    sweep.propose()
    sweep.propose()
    before = len(asked)
    sweep.propose()
    assert {row.unit_id for row in asked[before:]} == {"point-02"}


def test_the_shipped_sweeps_are_valid_and_small():
    for name in shipped(SHIPPED_SWEEPS):
        assert read_sweep(name).total() <= 12


def test_asha_replays_the_accuracies_of_an_earlier_run(local_ray):
    """With a reduction of 2 a point continues if it reaches the median of the earlier points."""
    stopped = []
    curves = {"point-1": {1: 0.9}, "point-2": {1: 0.7}}

    def reports(known, clean_acc):
        from types import SimpleNamespace

        scheduler = Halving(
            epochs=8, grace=1, reduction=2, curves=known,
            on_stop=lambda *call: stopped.append(call),
        ).scheduler()  # fmt: skip
        trial = SimpleNamespace(trial_id="x", config={"task": SimpleNamespace(name="point-3")})
        scheduler.on_trial_add(None, trial)
        return scheduler.on_trial_result(None, trial, {"epoch": 1, "clean_acc": clean_acc})

    assert reports({}, 0.5) == "CONTINUE"
    assert reports(curves, 0.85) == "CONTINUE"
    assert stopped == []
    assert reports(curves, 0.5) == "STOP"
    assert stopped == [("point-3", 1, 0.5)]


def test_the_settings_of_a_sweep_read_back_from_its_folder(settings_of, tmp_path):
    sweep = Sweep.create_or_resume(settings_of(), tmp_path / "sweep", None)
    written = json.loads((Path(sweep.folder) / "sweep.json").read_text())["settings"]
    assert SweepSettings.model_validate(written) == sweep.settings


def test_a_folder_name_that_no_database_address_can_hold_is_refused(settings_of, tmp_path):
    with pytest.raises(ValueError, match=r"its address would end at the '\?'; choose another"):
        Sweep.create_or_resume(settings_of(), tmp_path / "what?", None)
    assert list(tmp_path.iterdir()) == []


def test_a_sweep_is_tagged_and_cannot_share_an_experiment_with_a_trial(
    settings_of, tmp_path, empty_database
):
    from analysis.report import sweep as sweeps
    from trials.allocation import Assignment
    from trials.campaign.layout import local_uri
    from trials.tracking.record import SWEEP, MlflowRecord

    (tmp_path / "mlflow.db").write_bytes(empty_database.read_bytes())
    uri, settings = local_uri(tmp_path), settings_of()
    record = MlflowRecord(uri, settings.name, SWEEP)
    record.register(settings, [], {"protocol_sha256": settings.sha256()})
    row = Assignment(unit_id="point-1", stratum="split-0", arm="anti_adversarial")
    tags = {"unit_id": row.unit_id, "status": schema.STOPPED, "reason": "stopped"}
    options = {"weight": 0.1 + 0.2, "epsilon": 0.01}
    record.write_unit(tags, None, {}, options)
    runs = record.store.client.search_runs([record.experiment_id])
    assert [run.data.tags[schema.RANDOMISED_TAG] for run in runs] == ["no", "no"]
    (point,) = sweeps.load_sweep(uri, settings.name).points.to_dict("records")
    assert (point["weight"], point["epsilon"]) == tuple(options.values())
    assert (point["status"], point["front"]) == (schema.STOPPED, False)
    with pytest.raises(ValueError, match="holds a sweep, this is a campaign"):
        MlflowRecord(uri, settings.name).register(settings, [], {})


def test_status_and_stop_work_on_sweeps(settings_of, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    sweep = Sweep.create_or_resume(settings_of(PARETO), default_folder("tiny"), None)
    one, other = sweep.propose(), sweep.propose()
    write_note(sweep.unit_folder(other.unit_id), schema.FAILED, {"reason": "out of luck"})

    def atat(*words):
        code = cli.main(list(words))
        return code, *capsys.readouterr()

    code, out, _ = atat("status", "tiny")
    assert code == 0
    assert f"{sweep.total() - 2} of {sweep.total()} points have not been proposed yet" in out
    assert f"{other.unit_id} failed: out of luck" in out
    found = json.loads(atat("status", "tiny", "--json")[1])
    assert found["units"] == {one.unit_id: schema.PENDING, other.unit_id: schema.FAILED}
    assert found["total"] == sweep.total()
    code, out, _ = atat("stop", "tiny")
    assert code == 0
    assert re.search(r"`atat resume tiny --out \S+` resumes it", out)
    assert sweep.stop_file.exists()
    code, _, err = atat("verify", "tiny")
    assert code == 2
    assert "nothing was randomised, so there is no allocation to verify" in err
    code, _, err = atat("report", "tiny")
    assert code == 2
    assert err.count("\n") == 1
