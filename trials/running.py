"""Run what is left of a campaign on Ray Tune, and record each unit as it ends."""

import platform
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from analysis import schema
from atat_ray.assets import BlockSpec, make_assets
from atat_ray.data import load_split
from atat_ray.specification import UnitSpec
from atat_ray.target import pick_device, train_here
from atat_ray.unit import run_unit
from trials.allocation import Assignment
from trials.campaign import Campaign, write_note
from trials.devices import alive, limit, needs, start_ray, wait_for_room
from trials.protocol import Protocol
from trials.scheduling import Stopped, run_units
from trials.screen import Lines
from trials.writer import Summary, Writer


def run(campaign: Campaign, *, at_a_time: int | None, screen: Lines) -> Summary:
    """Run every unit that is not finished, and leave a whole record.

    Running a finished campaign again checks the record and returns within seconds. The first
    SIGINT or SIGTERM, and ``atat stop``, let running units finish their present stage; a second
    signal ends everything at once. Neither loses a stage that was done.

    Args:
        campaign: allocated.
        at_a_time: Tune trials at a time; as many as the devices hold if None.
        screen: told one line whenever something is worth saying, and how far the arms are; never
            an outcome, so that nobody looks at arms before the end.

    Raises:
        ValueError: the MLflow server does not answer, or the units do not fit the machine.
        OSError: a file cannot be written.
    """
    campaign.stop_file.unlink(missing_ok=True)
    writer, echo = Writer(campaign, screen), screen.say
    if not campaign.pending():
        echo(f"all {len(campaign.table)} units have ended; checking the record")
        writer.open()
        writer.prepared()
        return writer.close()
    read_data(campaign.protocol)
    opening = writer.thread.submit(writer.open)  # MLflow and Ray take seconds each to start
    echo("starting Ray")
    ray = start_ray()
    try:
        wait_for_room(ray, campaign.protocol, echo)
        import ray.tune  # while MLflow is opened

        opening.result()
        with stop_on_signals(campaign.stop_file, echo):
            run_passes(ray, campaign, writer, at_a_time)
    finally:
        ray.shutdown()
    return writer.close()


def read_data(protocol: Protocol) -> None:
    """Read the data of every block, so that what cannot be read ends a run before it begins.

    Raises:
        ValueError: a file cannot be read, or a dataset is too small.
    """
    for name in protocol.blocks:
        block = protocol.block_spec(name)
        load_split(block.data, block.split)


def run_passes(ray: Any, campaign: Campaign, writer: Writer, at_a_time: int | None) -> None:
    """Schedule what is pending, and again what a lost process left, until nothing changes.

    Raises:
        ValueError, OSError: what a block has once cannot be made.
    """
    waiting = campaign.pending()
    need = needs(campaign.protocol, alive(ray))  # once: while a GPU node is away it has not changed
    first = {f"assets of {block.name}": block for block in campaign.blocks()}
    assets_need = {name: replace(need[block.name], processes=1) for name, block in first.items()}
    tries = campaign.protocol.retries
    writer.echo(f"evaluation models and priors of {len(first)} blocks first, then units")
    while waiting and not campaign.stop_file.exists():
        most = limit(campaign.protocol, alive(ray))
        need_of = {row.unit_id: need[campaign.strata[row.block].block] for row in waiting}
        run_units(
            worker(campaign, waiting, first),
            list(need_of),
            first=list(first),
            need_of=(need_of | assets_need).__getitem__,
            at_a_time=min(most, at_a_time or most),
            storage=campaign.folder,
            stop=campaign.stop_file,
            events=writer,
        )
        if writer.unmade is not None:
            retry_assets(*writer.unmade, tries, writer.echo)
            writer.unmade, tries = None, tries - 1
            continue
        waiting = [row for row in campaign.pending() if row.unit_id in writer.again]
        writer.again.clear()


def retry_assets(name: str, cause: Exception, tries: int, echo: Callable[[str], None]) -> None:
    """Let what a block has once be made again if its process was lost; else raise why it was not.

    Raises:
        ValueError, OSError: it cannot be made, or its process was lost too often.
    """
    if not is_of_ray(cause):
        raise cause
    words = f"the process that made the {name} was lost: {' '.join(str(cause).split())[-300:]}"
    if tries < 1:
        raise ValueError(f"{words}; run the same command again")
    echo(f"{words}; it is made again")


def is_of_ray(error: Any) -> bool:
    """Tell whether an error is Ray's own: a process or a node was lost."""
    return type(error).__module__.startswith("ray.")


def worker(
    campaign: Campaign, rows: list[Assignment], first: dict[str, BlockSpec]
) -> Callable[[str], None]:
    """Make the function that runs a unit, or makes what a block has once, in a trial's process."""
    specs = {row.unit_id: campaign.spec(row) for row in rows}
    folders = {unit_id: campaign.unit_folder(unit_id) for unit_id in specs}
    blocks = campaign.protocol.blocks
    node = {unit_id: blocks[spec.block.name].node for unit_id, spec in specs.items()}
    assets, stop, retries = campaign.assets, campaign.stop_file, campaign.protocol.retries

    def work(name: str) -> None:
        import torch

        torch.set_num_threads(1)  # so that results do not depend on the machine
        if name not in first:
            run_one(specs[name], assets, folders[name], stop=stop, retries=retries, node=node[name])
        elif not stop.exists():
            make_assets(first[name], assets)

    return work


@contextmanager
def stop_on_signals(stop: Path, echo: Callable[[str], None]) -> Iterator[None]:
    """Turn the first SIGINT or SIGTERM into the stop file, the second into KeyboardInterrupt."""

    def handle(number: int, frame: Any) -> None:
        if stop.exists():
            raise KeyboardInterrupt
        stop.write_text("interrupted")  # `atat stop` leaves it empty
        echo("stopping: running units finish their present stage; once more to stop at once")

    if threading.current_thread() is not threading.main_thread():
        yield  # signals are the main thread's
        return
    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def run_one(
    spec: UnitSpec,
    assets: Path,
    folder: Path,
    *,
    stop: Path,
    retries: int = 0,
    node: str | None = None,
) -> None:
    """Run one unit in a Tune trial's process; note why if it fails.

    A unit that fails stays in its arm. What is no fault of the unit (a full disk, a lost process,
    memory that ran out) is raised instead and leaves the unit as it was.
    """
    import torch

    from atat_ray.distributed import train_on_workers

    torch.set_num_threads(1)
    write_note(folder, "place", {"node": platform.node(), "device": str(pick_device())})

    def check_stop(stage: str) -> None:
        if stop.exists():
            raise Stopped(stage)

    trainer = train_here
    if spec.workers > 1:
        trainer = partial(train_on_workers, retries=retries, node=node)
    try:
        run_unit(spec, assets=assets, folder=folder, trainer=trainer, on_stage=check_stop)
    except Stopped:
        return
    except (OSError, MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        if is_of_ray(error):
            raise  # workers of the unit were lost
        reason = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
        write_note(folder, schema.FAILED, {"reason": reason})
