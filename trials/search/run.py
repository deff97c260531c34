"""Run a sweep on Ray Tune."""

import json
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from analysis import schema
from atat_ray.unit.train_stage import train_here
from trials.allocation import Assignment
from trials.campaign.folder import write_note
from trials.config.sweep import Asha, Grid
from trials.execution.events import Summary, Writer
from trials.execution.progress import Lines
from trials.execution.ray_cluster import alive
from trials.execution.resources import Need, limit, needs, room_for
from trials.execution.run import conduct, run_pass
from trials.execution.worker import run_one
from trials.search.asha import Halving
from trials.search.sweep import Sweep


def run(sweep: Sweep, *, at_a_time: int | None, screen: Lines) -> Summary:
    """Run every point that has not ended, propose those that are missing, leave a whole record.

    Raises:
        ValueError: the MLflow server does not answer, or the points do not fit the machine.
        OSError: a file cannot be written.
    """
    return conduct(
        sweep,
        Writer(sweep, screen),
        lambda ray, writer: run_passes(ray, sweep, writer, at_a_time),
    )


def run_passes(ray: Any, sweep: Sweep, writer: Writer, at_a_time: int | None) -> None:
    """Run what is pending, then what is proposed, and again what a lost process left."""
    need = needs(sweep.protocol, alive(ray))
    ((block, one),) = need.items()
    waiting, missing = sweep.pending(), sweep.total() - len(sweep.table)
    while (waiting or missing) and not sweep.stop_file.exists():
        # A search that learns is asked no earlier than its points can start.
        grid = isinstance(sweep.protocol.search, Grid)
        most = limit(sweep.protocol, alive(ray)) if grid else max(1, room_for(one, alive(ray)))
        run_pass(
            sweep,
            writer,
            worker(sweep, one),
            partial(queue, sweep, waiting, len(sweep.table), writer.joined),
            need=need,
            block_of=lambda unit_id: block,
            at_a_time=min(most, at_a_time or most),
            scheduler=halving(sweep),
        )
        waiting = [row for row in sweep.pending() if row.unit_id in writer.again]
        missing = sweep.total() - len(sweep.table)
        writer.again.clear()


def queue(
    sweep: Sweep, waiting: list[Assignment], known: int, joined: Callable[[Assignment], None]
) -> Iterator[str]:
    """Hand out the points that were begun, then new ones, each proposed when it is asked for.

    Points after the first ``known`` were proposed in an earlier try of the same pass.
    """
    for row in [*waiting, *sweep.table[known:]]:
        if sweep.status(row) == schema.PENDING:
            yield row.unit_id
    while len(sweep.table) < sweep.total():
        row = sweep.add_point()
        joined(row)
        yield row.unit_id


def halving(sweep: Sweep) -> Any:
    """Make the scheduler of an ASHA sweep, which knows what every point has reported; else None."""
    search = sweep.protocol.search
    if not isinstance(search, Asha):
        return None
    curves = {row.unit_id: epochs_of(sweep, row.unit_id) for row in sweep.table}

    def note(unit_id: str, epoch: int, clean_acc: float) -> None:
        reason = f"stopped by ASHA after epoch {epoch} at clean accuracy {clean_acc:.3f}"
        write_note(sweep.unit_folder(unit_id), schema.STOPPED, {"reason": reason})

    return Halving(
        epochs=sweep.protocol.training.epochs,
        grace=search.grace,
        reduction=search.reduction,
        curves=curves,
        on_stop=note,
    ).scheduler()


def epochs_of(sweep: Sweep, unit_id: str) -> dict[int, float]:
    """Read the clean accuracy that a point reported after each epoch."""
    return {int(epoch): value for epoch, value in sweep.note(unit_id, "epochs").items()}


def worker(sweep: Sweep, need: Need) -> Callable[[str], None]:
    """Make the function that runs a point in a Tune trial's process."""
    protocol = sweep.protocol
    rows = {sweep.row(number).unit_id: number for number in range(1, sweep.total() + 1)}
    watched = isinstance(protocol.search, Asha)

    def work(unit_id: str) -> None:
        folder, trainer = sweep.unit_folder(unit_id), train_here
        if watched:
            trainer = partial(train_here, on_epoch=partial(report, folder))
        run_one(
            sweep.spec(sweep.row(rows[unit_id])),
            sweep.assets,
            folder,
            stop=sweep.stop_file,
            share=need.resources,
            retries=protocol.retries,
            trainer=trainer,
        )

    return work


def report(folder: Path, epoch: int, clean_acc: float) -> None:
    """Tell ASHA the clean accuracy after an epoch, and keep it; ends the point where ASHA says."""
    from ray import tune

    path = folder / "epochs.json"
    told = json.loads(path.read_text()) if path.exists() else {}
    write_note(folder, "epochs", {**told, str(epoch): clean_acc})
    tune.report({"epoch": epoch, "clean_acc": clean_acc})
