"""Run what is left of a campaign on Ray Tune, and record each unit as it ends."""

import platform
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from analysis import schema
from atat_ray.assets import BlockSpec, make_evaluation, make_prior
from atat_ray.data import load_split
from atat_ray.specification import UnitSpec
from atat_ray.target import Trainer, pick_device, train_here
from atat_ray.unit import run_unit
from trials.allocation import Assignment
from trials.campaign import Campaign
from trials.devices import alive, limit, needs, start_ray, wait_for_room
from trials.keeping import Kept, write_note
from trials.protocol import Settings
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
    return conduct(
        campaign,
        Writer(campaign, screen),
        lambda ray, writer: run_passes(ray, campaign, writer, at_a_time),
    )


def conduct(campaign: Kept, writer: Writer, passes: Callable[[Any, Writer], None]) -> Summary:
    """Start Ray, make what the blocks have once, run ``passes(ray, writer)``, end with a record."""
    campaign.stop_file.unlink(missing_ok=True)
    echo = writer.echo
    if campaign.over():
        echo(f"all {campaign.total()} units have ended; checking the record")
        writer.open()
        assets = [make_assets(block, campaign.assets) for block in campaign.blocks()]
        writer.write_assets([asset for made in assets for asset in made])
        return writer.close()
    read_data(campaign.protocol)
    opening = writer.thread.submit(writer.open)  # MLflow and Ray take seconds each to start
    echo("starting Ray")
    ray = start_ray()
    from ray.exceptions import RayTaskError

    try:
        wait_for_room(ray, campaign.protocol, echo)
        # A process for each block, which ends with it and gives its memory back.
        remote = ray.remote(num_cpus=1, max_calls=1)(make_assets)
        echo(f"making evaluation models and priors of {len(campaign.blocks())} blocks")
        assets = [remote.remote(block, campaign.assets) for block in campaign.blocks()]
        import ray.tune  # while the assets are made

        opening.result()
        writer.write_assets([asset for made in ray.get(assets) for asset in made])
        with stop_on_signals(campaign.stop_file, echo):
            passes(ray, writer)
    except RayTaskError as error:
        raise error.cause from None
    finally:
        ray.shutdown()
    return writer.close()


def read_data(protocol: Settings) -> None:
    """Read the data of every block, so that what cannot be read ends a run before it begins.

    Raises:
        ValueError: a file cannot be read, or a dataset is too small.
    """
    for name in protocol.blocks:
        block = protocol.block_spec(name)
        load_split(block.data, block.split)


def run_passes(ray: Any, campaign: Campaign, writer: Writer, at_a_time: int | None) -> None:
    """Schedule what is pending, and again what a lost process left, until nothing changes."""
    waiting = campaign.pending()
    need = needs(campaign.protocol, alive(ray))  # once: while a GPU node is away it has not changed
    while waiting and not campaign.stop_file.exists():
        writer.echo(f"running {len(waiting)} units of {len(campaign.table)}")
        most = limit(campaign.protocol, alive(ray))
        need_of = {row.unit_id: need[campaign.strata[row.block].block] for row in waiting}
        run_units(
            worker(campaign, waiting),
            need_of,
            need_of=need_of.__getitem__,
            at_a_time=min(most, at_a_time or most),
            storage=campaign.folder,
            stop=campaign.stop_file,
            events=writer,
        )
        waiting = [row for row in campaign.pending() if row.unit_id in writer.again]
        writer.again.clear()


def worker(campaign: Campaign, rows: list[Assignment]) -> Callable[[str], None]:
    """Make the function that runs a unit in a Tune trial's process."""
    specs = {row.unit_id: campaign.spec(row) for row in rows}
    folders = {unit_id: campaign.unit_folder(unit_id) for unit_id in specs}
    blocks = campaign.protocol.blocks
    node = {unit_id: blocks[spec.block.name].node for unit_id, spec in specs.items()}
    assets, stop, retries = campaign.assets, campaign.stop_file, campaign.protocol.retries

    def work(unit_id: str) -> None:
        run_one(
            specs[unit_id], assets, folders[unit_id], stop=stop, retries=retries, node=node[unit_id]
        )

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


def make_assets(block: BlockSpec, folder: Path) -> list[dict[str, Any]]:
    """Make what a block has once, unless it is there; describe it.

    With one thread of torch, so that results do not depend on the machine.
    """
    import torch

    torch.set_num_threads(1)
    priors = [make_prior(block, name, folder) for name in block.priors]
    return [make_evaluation(block, folder), *priors]


def run_one(
    spec: UnitSpec,
    assets: Path,
    folder: Path,
    *,
    stop: Path,
    retries: int = 0,
    node: str | None = None,
    trainer: Trainer = train_here,
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

    if spec.workers > 1:
        trainer = partial(train_on_workers, retries=retries, node=node)
    try:
        run_unit(spec, assets=assets, folder=folder, trainer=trainer, on_stage=check_stop)
    except Stopped:
        return
    except (OSError, MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        if type(error).__module__.startswith("ray."):
            raise  # workers of the unit were lost
        reason = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
        write_note(folder, schema.FAILED, {"reason": reason})
