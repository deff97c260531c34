"""Measure the cost of scheduling and recording a unit, with units that compute nothing.

    .venv/bin/python benchmarks/scheduling.py --units 100 1000 5000
    .venv/bin/python benchmarks/scheduling.py --record 1000

The first runs campaigns of these sizes through the scheduler and the driver's bookkeeping, with no
record, each in a process of its own. It prints the driver's seconds a unit between the first and
the last end (the start of Ray left out), those of the first and the last tenth of the units, and
the driver's largest memory. The second writes that number of finished units, with the curves,
tables and pictures that orl-rct leaves, to a new sqlite database and prints the recorder's seconds.
"""

import argparse
import io
import json
import random
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from analysis import schema
from atat_ray.unit import UnitSpec
from atat_ray.utils.json_files import write_signed
from atat_ray.utils.stage_files import save_stage
from trials.allocation import Assignment
from trials.campaign.campaign import Campaign
from trials.campaign.layout import FolderLayout
from trials.config.load import check_protocol, read_protocol
from trials.execution.display import Lines
from trials.execution.events import UnitEvents
from trials.execution.recorder import Recorder
from trials.execution.resources import Resources
from trials.execution.tasks import UnitTask

AT_A_TIME = 2


def allocated(units: int, folder: Path) -> Campaign:
    """Allocate orl-rct with about so many units (a multiple of its six arms in blocks)."""
    content = read_protocol("orl-rct").canonical()
    cells = len(content["arms"]) * len(content["blocks"])
    content |= {"units_per_arm": -(-units // cells), "name": "benchmark"}
    return Campaign.create_or_resume(check_protocol(content, "benchmark"), folder, None)


def made_up(spec: UnitSpec) -> dict[str, Any]:
    """Make up what ``run_unit`` would return."""
    draws = random.Random(spec.unit_id)
    people = range(spec.block.data.num_private)
    return {
        "specification": spec.outcome_hash(),
        "unit_id": spec.unit_id,
        "contents": {"data": "", "evaluation": "", "priors": {}},
        "clean_acc": draws.random(),
        "train_acc": draws.random(),
        "diverged": False,
        "inversions": {
            schema.inversion_column(inversion, name): draws.random()
            for inversion in spec.inversions
            for name in schema.INVERSION_OUTCOMES
        },
        "robust_acc": {f"{epsilon:g}": draws.random() for epsilon in spec.robustness.epsilons},
        "classes": [
            dict(zip(schema.CLASS_COLUMNS, [inversion, person, 4, 1, 2, 0, 1], strict=True))
            for inversion in spec.inversions
            for person in people
        ],
        "curves": [{"loss": draws.random()} for _ in range(spec.training.epochs)],
        "seconds": {"train": 0.0, "score": 0.0},
    }


@dataclass(frozen=True, kw_only=True)
class MadeUpUnit(UnitTask):
    """A unit that computes nothing."""

    def work(self) -> None:
        """Write an outcome."""
        write_signed(self.folder / "outcome.json", made_up(self.spec))


class Unrecorded(Recorder):
    """Writes no record."""

    def write(self, rows: list[Assignment]) -> None:
        """Write nothing."""


class TimedEvents(UnitEvents):
    """The driver's events without a record; notes when units end."""

    def __init__(self, campaign: Campaign) -> None:
        super().__init__(campaign, Lines(io.StringIO()))
        self.recorder = Unrecorded(campaign, self.say)
        self.ends: list[float] = []

    def unit_ended(self, unit_id: str) -> None:
        """Note the time."""
        super().unit_ended(unit_id)
        self.ends.append(time.monotonic())


def schedule(units: int) -> dict[str, float]:
    """Run so many units that compute nothing; measure this process, which is the driver."""
    from trials.execution.ray_cluster import start_ray
    from trials.execution.tune import run_tasks

    with TemporaryDirectory() as name:
        campaign = allocated(units, Path(name) / "campaign")
        campaign.note_committed()
        events = TimedEvents(campaign)
        ray = start_ray(Lines(sys.stderr))
        run_tasks(
            [],
            unit_tasks(campaign),
            at_a_time=AT_A_TIME,
            storage=campaign.folder,
            stop_file=campaign.stop_file,
            events=events,
        )
        ray.shutdown()
        assert not campaign.pending(), "every unit has an outcome"
    ends, tenth = events.ends, max(2, len(campaign.table) // 10)

    def each(times: list[float]) -> float:
        return (times[-1] - times[0]) / (len(times) - 1)

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {"units": len(campaign.table), "each": each(ends), "first": each(ends[:tenth]),
            "last": each(ends[-tenth:]), "peak": peak}  # fmt: skip


def unit_tasks(campaign: Campaign) -> Iterator[UnitTask]:
    """Generate the tasks of a campaign, as a run does."""
    one = Resources(amounts={"CPU": 1.0}, processes=1)
    for row in campaign.table:
        yield MadeUpUnit(
            name=row.unit_id,
            layout=FolderLayout(folder=campaign.folder),
            resources=one,
            spec=campaign.spec(row),
            after="",
        )


def record(units: int) -> float:
    """Write so many finished units to a new database; return the recorder's seconds."""
    import torch

    with TemporaryDirectory() as name:
        campaign = allocated(units, Path(name) / "campaign")
        noise = torch.Generator().manual_seed(0)
        for row in campaign.table[:units]:
            spec, folder = campaign.spec(row), campaign.unit_folder(row.unit_id)
            size = (1, 2 * spec.block.data.size, spec.block.data.num_private * spec.block.data.size)
            picture = torch.randint(0, 256, size, generator=noise).to(torch.uint8)
            pictures = dict.fromkeys(spec.inversions, picture)
            save_stage(folder / "score.pt", spec.score_hash(), {"pictures": pictures})
            write_signed(folder / "outcome.json", made_up(spec))
        recorder = Recorder(campaign, Lines(io.StringIO()).say)
        recorder.open_or_postpone()
        start = time.monotonic()
        for row in campaign.table[:units]:
            recorder.write([row])
        assert not recorder.unrecorded, "the database takes all"
        return time.monotonic() - start


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--units", type=int, nargs="+", default=[], help="sizes of campaigns")
    parser.add_argument("--record", type=int, help="units to write to a database")
    parser.add_argument("--here", action="store_true", help="one size, in this process, as JSON")
    options = parser.parse_args()
    if options.here:
        print(json.dumps(schedule(options.units[0])))
        return
    if options.units:
        print("units   s a unit   first tenth   last tenth   driver's peak")
    for units in options.units:
        command = [sys.executable, __file__, "--here", "--units", str(units)]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        found = json.loads(done.stdout.splitlines()[-1])
        times = f"{found['each']:>8.4f}   {found['first']:>11.4f}   {found['last']:>10.4f}"
        print(f"{found['units']:>5}   {times}   {found['peak'] / 2**20:>8.0f} MiB", flush=True)
    if options.record:
        seconds = record(options.record)
        print(f"{options.record} units recorded in {seconds:.1f} s of writer time, "
              f"{1000 * seconds / options.record:.0f} ms each")  # fmt: skip


if __name__ == "__main__":
    main()
