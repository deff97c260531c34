"""A whole campaign on a Ray of its own, and what a unit leaves in its process.

``trials.execution.run.run`` starts and ends Ray itself, so campaigns run in a process of their own.
"""

import hashlib
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import yaml
from PIL import Image

from analysis import schema
from analysis.record import reader as runs
from atat_ray.unit.computed_on import read_processes
from trials.campaign.campaign import Campaign
from trials.campaign.notes import write_note
from trials.cli import program as cli
from trials.config.protocol import Protocol
from trials.execution import ray_cluster, tasks
from trials.execution import run as running
from trials.execution.display import Lines
from trials.execution.events import UnitEvents
from trials.execution.failures import RetryPolicy
from trials.execution.resources import Resources
from trials.execution.run import unit_task
from trials.execution.signals import Signals, stop_on_signals

ONE = Resources(amounts={"CPU": 1.0}, processes=1)


def run_in_its_own_process(*words):
    return subprocess.run(
        [sys.executable, "-m", "trials.cli", *map(str, words)],
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


@pytest.fixture(scope="module")
def kept():
    """What this module has made once."""
    return SimpleNamespace(done=None, folder=None, protocol=None)


@pytest.fixture
def ran(kept, content, tmp_path_factory):
    """Run the small campaign once for all tests of this module, which leave it as it is."""
    if kept.done is None:
        kept.protocol = tmp_path_factory.mktemp("ran") / "tiny.yaml"
        kept.protocol.write_text(yaml.safe_dump(content))
        kept.folder = kept.protocol.parent / "out"
        kept.done = run_in_its_own_process("run", kept.protocol, "--out", kept.folder)
    return kept


def table_of(folder):
    return runs.load_record(Campaign.load(folder).tracking_uri, "tiny").units


def files(folder):
    """Content and time of every file below a folder."""
    paths = [path for path in folder.rglob("*") if path.is_file()]
    return {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in paths}


@pytest.mark.ray
def test_every_unit_is_finished_and_recorded_once(ran):
    assert ran.done.returncode == 0, ran.done.stderr
    assert ran.done.stderr == ""
    assert re.search(
        r"^4 of 4 units finished in \d+ (s|min); the record is at", ran.done.stdout, re.M
    )
    campaign, units = Campaign.load(ran.folder), table_of(ran.folder)
    assert set(units["status"]) == {schema.FINISHED}
    assert [tuple(row) for row in units[["unit_id", "block", "arm"]].to_numpy()] == [
        (row.unit_id, row.stratum, row.arm) for row in campaign.table
    ]
    for row in units.to_dict("records"):
        outcome = json.loads((campaign.unit_folder(row["unit_id"]) / "outcome.json").read_text())
        assert row[schema.CLEAN_ACC] == outcome["clean_acc"]
        for name, value in outcome["inversions"].items():
            assert row[name] == value


@pytest.mark.ray
def test_the_processes_of_units_have_one_instruction_set_which_is_recorded(ran):
    kernels = ray_cluster.kernels()
    (recorded,) = set(table_of(ran.folder)["instruction_set"])
    for name in ("ONEDNN_MAX_CPU_ISA", "MKL_CBWR"):
        assert (f"{name}={kernels.get(name)}" in recorded) == bool(kernels)
    assert recorded.startswith("AVX2,") == bool(kernels)


@pytest.mark.ray
def test_the_order_of_starts_is_recorded(ran):
    campaign, units = Campaign.load(ran.folder), table_of(ran.folder)
    notes = [campaign.note(unit_id, "start") for unit_id in units["unit_id"]]
    assert list(units["start_order"]) == [note["order"] for note in notes]
    by_time = sorted(notes, key=lambda note: note["time"])
    assert [note["order"] for note in by_time] == [1, 2, 3, 4]


@pytest.mark.ray
def test_no_outcome_is_printed_while_a_campaign_runs(ran):
    said = ran.done.stdout + ran.done.stderr
    outcomes = table_of(ran.folder).filter(regex="acc|delta|confidence|diverged")
    assert outcomes.shape[0] == 4
    assert outcomes.shape[1] > 9
    for name in outcomes.columns:
        assert name not in said
    for value in outcomes.to_numpy().ravel():
        assert f"{value:.2f}" not in said
    for arm in ("control", "treatment"):
        assert arm not in said


@pytest.mark.ray
def test_evaluation_models_priors_and_pictures_are_recorded(ran):
    record = runs.load_record(Campaign.load(ran.folder).tracking_uri, "tiny")
    assert [(asset["block"], asset["asset"]) for asset in record.assets] == [
        (block, asset)
        for block in ("split-0", "split-1")
        for asset in ("evaluation models", "prior of standard")
    ]
    path = Path("picture.png")
    path.write_bytes(record.picture("split-0-01", "standard"))
    with Image.open(path) as picture:
        assert picture.size == (6 * 32, 2 * 32)


@pytest.mark.ray
def test_running_a_finished_campaign_again_changes_nothing(ran, capsys):
    before, table = files(ran.folder / "units"), table_of(ran.folder)
    assert cli.main(["run", str(ran.protocol), "--out", str(ran.folder)]) == 0
    assert "all 4 units have ended" in capsys.readouterr().out
    assert files(ran.folder / "units") == before
    assert table_of(ran.folder).equals(table)


@pytest.mark.ray
def test_a_whole_campaign_verifies_until_it_is_tampered_with(ran, tmp_path, capsys):
    assert cli.main(["verify", "tiny", "--out", str(ran.folder)]) == 0
    assert "DIFFERS" not in capsys.readouterr().out
    copy = shutil.copytree(ran.folder, tmp_path / "copy")
    path = copy / "allocation.csv"
    rows = path.read_text().splitlines()
    swapped = [rows[1].rpartition(",")[0] + "," + rows[2].rpartition(",")[2]]
    swapped += [rows[2].rpartition(",")[0] + "," + rows[1].rpartition(",")[2]]
    path.write_text("\n".join([rows[0], *swapped, *rows[3:], ""]))
    assert cli.main(["verify", "tiny", "--out", str(copy)]) == 1
    said = capsys.readouterr().out
    assert "unit split-0-01: recorded" in said
    assert "unit split-0-02: recorded" in said


@pytest.mark.ray
def test_status_of_a_whole_campaign_counts_every_unit_as_finished(ran, capsys):
    assert cli.main(["status", "tiny", "--json", "--out", str(ran.folder)]) == 0
    arms = json.loads(capsys.readouterr().out)["arms"]
    assert arms == {
        arm: {"finished": 2, "failed": 0, "pending": 0} for arm in ("control", "treatment")
    }


@pytest.mark.ray
def test_report_says_the_verdict_and_writes_the_page(ran, capsys):
    assert cli.main(["report", "tiny", "--out", str(ran.folder)]) == 0
    said = capsys.readouterr().out
    assert "4 training runs" in said
    page = ran.folder / "report" / "report.html"
    assert str(page) in said
    assert "Does it run?" in page.read_text()


# What one unit leaves, without Ray.


@pytest.fixture
def campaign(tiny_protocol, tmp_path):
    return Campaign.create_or_resume(tiny_protocol(), tmp_path / "campaign", None)


def start(campaign, row, **changes):
    """Do what a Tune trial does for a unit."""
    task = unit_task(campaign, row, dict.fromkeys(campaign.settings.blocks, ONE))
    replace(task, **changes).work()


def test_a_unit_whose_training_fails_stays_in_its_arm_with_its_reason(
    content, tiny_protocol, tmp_path
):
    training = {**content["training"], "batch_size": 64}  # of 42 images
    campaign = Campaign.create_or_resume(
        tiny_protocol(training=training), tmp_path / "failing", None
    )
    row = campaign.table[0]
    start(campaign, row)
    assert campaign.status(row) == schema.FAILED
    reason = campaign.note(row.unit_id, schema.FAILED)["reason"]
    assert re.match(r"ValueError: .*batch_size.*64", reason)
    assert "\n" not in reason
    assert campaign.note(row.unit_id, "place")["device"]
    assert Campaign.load(campaign.folder).table == campaign.table


def test_a_file_that_cannot_be_written_leaves_the_unit_as_it_was(campaign):
    row = campaign.table[0]
    campaign.assets.touch()  # a file where the folder of the priors should be
    with pytest.raises(OSError, match="assets"):
        start(campaign, row)
    assert campaign.status(row) == schema.PENDING
    assert campaign.note(row.unit_id, schema.FAILED) == {}
    trained = campaign.unit_folder(row.unit_id) / "train.pt"
    before = trained.stat().st_mtime_ns
    campaign.assets.unlink()
    start(campaign, row)
    assert campaign.status(row) == schema.FINISHED
    assert trained.stat().st_mtime_ns == before


def test_a_unit_that_is_resumed_elsewhere_names_both_and_keeps_its_numbers(campaign, monkeypatch):
    row = campaign.table[0]
    campaign.assets.touch()  # the unit ends after its training
    with pytest.raises(OSError, match="assets"):
        start(campaign, row)
    campaign.assets.unlink()
    specification = campaign.spec(row).outcome_hash()
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "SVE256")
    start(campaign, row)
    assert campaign.outcome(row)["specification"] == specification
    tags = schema.join_processes(read_processes(campaign.unit_folder(row.unit_id)))
    assert "; SVE256" in tags["instruction_set"]
    assert (tags["threads"], tags["torch"]) == (str(torch.get_num_threads()), torch.__version__)


def test_a_gpu_that_broke_is_no_fault_of_the_unit_and_ends_its_process(campaign):
    """After it every call of CUDA in the process fails, so the next unit must get another."""
    row = campaign.table[0]

    def broken(*words, **options):
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    with pytest.raises(RuntimeError, match="CUDA error"):
        start(campaign, row, trainer=broken)
    assert campaign.status(row) == schema.PENDING


class LostWorker(Exception):
    __module__ = "ray.exceptions"


def test_units_that_ended_are_not_run_again_when_the_assets_of_another_block_are(
    campaign, monkeypatch
):
    failed, *others = [row.unit_id for row in campaign.table]
    events, queues = UnitEvents(campaign, Lines(io.StringIO())), []

    def lose_assets_once(assets, units, **options):
        queues.append([task.name for task in units])
        if len(queues) == 1:
            write_note(campaign.unit_folder(failed), schema.FAILED, {"reason": "ValueError: no"})
            events.assets_failed("assets of split-10", LostWorker("gone"))

    monkeypatch.setattr(running, "run_tasks", lose_assets_once)
    monkeypatch.setattr(running, "alive_nodes", lambda ray: [{"CPU": 2.0}])
    assert not running.run_passes(None, campaign, events, Signals(), None)
    assert queues == [[failed, *others], others]


def test_assets_whose_process_was_lost_are_built_again_as_often_as_units(tiny_protocol, tmp_path):
    once = Campaign.create_or_resume(tiny_protocol(retries=1), tmp_path / "once", None)
    policy = RetryPolicy(once)
    with pytest.raises(OSError, match="full"):
        policy.assets_lost("assets of a", OSError(28, "full"))
    line = policy.assets_lost("assets of a", LostWorker("gone"))
    assert line == (
        "the process that built the assets of a was lost: LostWorker: gone; they are built again"
    )
    with pytest.raises(ValueError, match="assets of a was lost: LostWorker: gone; .* same command"):
        policy.assets_lost("assets of a", LostWorker("gone"))


@pytest.mark.ray
def test_where_the_assets_cannot_be_made_no_unit_starts(content, write_protocol, tmp_path):
    protocol, folder = write_protocol(content), tmp_path / "out"
    campaign = Campaign.create_or_resume(Protocol.model_validate(content), folder, None)
    campaign.assets.touch()  # a file where the folder should be
    done = run_in_its_own_process("run", protocol, "--out", folder)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "assets" in done.stderr
    assert not (folder / "units").exists()


@pytest.mark.parametrize(
    "error", [OSError(28, "full"), MemoryError(), LostWorker("gone")], ids=repr
)
def test_what_is_no_fault_of_the_unit_is_raised_and_not_its_failure(campaign, monkeypatch, error):
    def lose(*words, **options):
        raise error

    monkeypatch.setattr(tasks, "run_unit", lose)
    with pytest.raises(type(error)):
        start(campaign, campaign.table[0])
    assert campaign.status(campaign.table[0]) == schema.PENDING


def test_a_unit_ends_after_its_present_stage_when_the_campaign_stops(campaign, monkeypatch):
    from atat_ray.unit import run as unit

    def train_and_ask_to_stop(*words):
        payload = unit_train(*words)
        campaign.stop_file.touch()
        return payload

    unit_train = unit.train_stage
    monkeypatch.setattr(unit, "train_stage", train_and_ask_to_stop)
    row = campaign.table[0]
    start(campaign, row)
    folder = campaign.unit_folder(row.unit_id)
    assert (folder / "train.pt").exists()
    assert not (folder / "invert-standard.pt").exists()
    assert campaign.status(row) == schema.PENDING


def test_a_unit_does_not_start_once_the_campaign_was_asked_to_stop(campaign):
    campaign.stop_file.touch()
    start(campaign, campaign.table[0])
    folder = campaign.unit_folder(campaign.table[0].unit_id)
    names = {path.name.partition("-on-")[0] for path in folder.iterdir()}
    assert names == {"place.json", "computed"}


class Said(Lines):
    """Keeps what it is asked to print."""

    def __init__(self, said):
        super().__init__()
        self.said = said

    def say(self, line):
        self.said.append(line)


def test_the_first_signal_asks_to_stop_and_the_second_interrupts(tmp_path):
    said, stop = [], tmp_path / "stop"
    before = signal.getsignal(signal.SIGTERM)
    with stop_on_signals(stop, Said(said)) as signals:
        signals.units_run.set()
        signal.raise_signal(signal.SIGTERM)
        assert signals.first.wait(10)
        assert stop.read_text() == "interrupted"
        with pytest.raises(KeyboardInterrupt):  # noqa: PT012 - it comes while something is waited for
            signal.raise_signal(signal.SIGINT)
            for _ in range(100):  # Python runs the handler between two sleeps
                time.sleep(0.1)
    assert len(said) == 1
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_signal_is_heard_while_the_main_thread_is_in_a_call_that_does_not_return(tmp_path):
    """As Ray's may not for long: until then Python runs no handler."""
    heard = []

    def terminate():
        os.kill(os.getpid(), signal.SIGTERM)
        signals.first.wait(30)
        heard.append(time.monotonic())

    with stop_on_signals(tmp_path / "stop", Said([])) as signals:
        signals.units_run.set()
        thread = threading.Timer(0.2, terminate)
        thread.start()
        hashlib.pbkdf2_hmac("sha256", b"", b"", 2_000_000)  # a second, without Python's lock
        returned = time.monotonic()
        thread.join()
    assert heard[0] < returned


def test_a_failed_unit_is_no_longer_pending_for_the_next_run(campaign):
    row = campaign.table[0]
    write_note(campaign.unit_folder(row.unit_id), "failed", {"reason": "ValueError: no"})
    assert row not in campaign.pending()
    assert len(campaign.pending()) == 3
