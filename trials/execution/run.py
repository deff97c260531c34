"""Run what is left of a campaign on Ray Tune, and record each unit as it ends."""

import platform
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

from analysis import schema
from atat_ray.unit import BlockSpec
from atat_ray.unit.block_assets import build_block_assets
from trials.campaign.campaign import Campaign
from trials.campaign.folder import COMMITTED_FILE, Kept
from trials.execution.events import Summary, Writer
from trials.execution.failures import ends_its_process, words_of
from trials.execution.preflight import read_data
from trials.execution.progress import Lines
from trials.execution.ray_cluster import alive, start_ray, wait_for_room
from trials.execution.resources import Need, limit, needs
from trials.execution.signals import end_with_ray, stop_on_signals
from trials.execution.tune import run_units
from trials.execution.worker import worker


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
    """Start Ray, run ``passes(ray, writer)`` over what has not ended, and leave a whole record."""
    campaign.stop_file.unlink(missing_ok=True)
    echo = writer.echo
    if campaign.over():
        echo(f"all {campaign.total()} units have ended; checking the record")
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
        host, _, port = ray.get_runtime_context().gcs_address.rpartition(":")
        with (
            stop_on_signals(campaign.stop_file, echo) as signalled,
            end_with_ray(signalled, (host.strip("[]"), int(port)), echo),
        ):
            passes(ray, writer)
    finally:
        ray.shutdown()
    return writer.close()


def run_passes(ray: Any, campaign: Campaign, writer: Writer, at_a_time: int | None) -> None:
    """Schedule what is pending, and again what a lost process left, until nothing changes.

    Raises:
        ValueError, OSError: what a block has once cannot be made.
    """
    waiting = campaign.pending()
    need = needs(campaign.protocol, alive(ray))  # once: while a GPU node is away it has not changed

    def queue() -> list[str]:
        return [row.unit_id for row in waiting if campaign.status(row) == schema.PENDING]

    while waiting and not campaign.stop_file.exists():
        most = limit(campaign.protocol, alive(ray))
        block_of = {row.unit_id: campaign.strata[row.block].block for row in waiting}
        run_pass(
            campaign,
            writer,
            worker(campaign, waiting, need),
            queue,
            need=need,
            block_of=block_of.__getitem__,
            at_a_time=min(most, at_a_time or most),
        )
        waiting = [row for row in campaign.pending() if row.unit_id in writer.again]
        writer.again.clear()


def run_pass(
    kept: Kept,
    writer: Writer,
    work: Callable[[str], None],
    queue: Callable[[], Iterable[str]],
    *,
    need: dict[str, Need],
    block_of: Callable[[str], str],
    at_a_time: int,
    scheduler: Any = None,
) -> None:
    """Make what the blocks have once, then run units; again from the first if its process was lost.

    Args:
        kept: a campaign or a sweep.
        writer: told what happens.
        work: runs a unit in a Tune trial's process.
        queue: gives the ids of the units that have not ended, asked anew for every try.
        need: what a unit of each block needs.
        block_of: the block of a unit.
        at_a_time: Tune trials at a time.
        scheduler: of Tune, in a sweep.

    Raises:
        ValueError, OSError: what a block has once cannot be made.
    """
    first = {f"assets of {block.name}": block for block in kept.blocks()}

    def need_of(name: str) -> Need:
        if name in first:  # one process makes it, whatever a unit has
            return replace(need[first[name].name], processes=1)
        return need[block_of(name)]

    for tries in range(kept.protocol.retries, -1, -1):
        blocks = "a block" if len(first) == 1 else f"{len(first)} blocks"
        writer.echo(f"evaluation models and priors of {blocks}, then units")
        run_units(
            job(kept, first, work),
            queue(),
            first=list(first),
            waits_for=lambda unit_id: f"assets of {block_of(unit_id)}",
            need_of=need_of,
            at_a_time=at_a_time,
            storage=kept.folder,
            stop=kept.stop_file,
            events=writer,
            scheduler=scheduler,
        )
        if writer.unmade is None:
            return
        retry_assets(*writer.unmade, tries, writer.echo)
        writer.unmade = None


def job(
    kept: Kept, first: dict[str, BlockSpec], work: Callable[[str], None]
) -> Callable[[str], None]:
    """Make the function that a Tune trial's process runs for a unit or a name of ``first``."""
    assets, stop, committed = kept.assets, kept.stop_file, kept.folder / COMMITTED_FILE

    def do(name: str) -> None:
        import torch

        if not committed.exists():
            folder = committed.parent
            raise OSError(f"{platform.node()} does not see {folder}, which all nodes need")
        torch.set_num_threads(1)  # so that results do not depend on the machine
        if name not in first:
            work(name)
        elif not stop.exists():
            build_block_assets(first[name], assets)

    return do


def retry_assets(name: str, cause: Exception, tries: int, echo: Callable[[str], None]) -> None:
    """Let what a block has once be made again if its process was lost; else raise why it was not.

    Raises:
        ValueError, OSError: it cannot be made, or its process was lost too often.
    """
    if not ends_its_process(cause):
        raise cause
    words = f"the process that made the {name} was lost: {words_of(cause)}"
    if tries < 1:
        raise ValueError(f"{words}; run the same command again")
    echo(f"{words}; it is made again")
