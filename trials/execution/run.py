"""Run the pending units of a campaign or sweep on Ray, and record each as it ends."""

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from analysis import schema
from trials.allocation import Assignment
from trials.campaign.creation import write_allocation
from trials.campaign.folder import RunFolder
from trials.campaign.inputs import register_inputs, restore_inputs, settings_sources
from trials.execution.classify import Kind, classify
from trials.execution.display import Lines
from trials.execution.events import Summary, UnitEvents
from trials.execution.preflight import check_data
from trials.execution.ray_cluster import alive_nodes, check_cluster, running_ray, wait_for_room
from trials.execution.resources import (
    Resources,
    cluster_address,
    resources_by_block,
    units_at_a_time,
)
from trials.execution.signals import Signals, stop_on_signals
from trials.execution.tasks import AssetTask, UnitTask
from trials.execution.tune import PassLost, run_tasks
from trials.execution.watch import end_with_ray, servers_of


def run(
    run_folder: RunFolder,
    *,
    at_a_time: int | None,
    display: Lines,
    data_checked: bool = False,
) -> Summary:
    """Run every unit that has not ended, propose those that are missing, and record all of them.

    Running a finished campaign again checks the record and returns within seconds. The first
    SIGINT or SIGTERM, and ``atat stop``, let running units finish their current stage; a second
    signal ends everything at once. Finished stages are kept in either case.

    Args:
        run_folder: a campaign or sweep.
        at_a_time: Tune trials at a time; as many as the devices hold if None.
        display: prints lines and progress; never an outcome, so that arms are not compared before
            the end.
        data_checked: whether :func:`trials.execution.preflight.check_data` has just passed.

    Raises:
        ValueError: data are missing, the record cannot be reached, or the units do not fit the
            machine.
        OSError: a file cannot be written.
    """
    run_folder.stop_file.unlink(missing_ok=True)
    if write_allocation(run_folder):
        display.say(f"{schema.ALLOCATION_FILE} was missing; it is written again, as it was drawn")
    events = UnitEvents(run_folder, display)
    if run_folder.is_over():
        display.say(f"all {run_folder.total()} units have ended; checking the record")
        restore_inputs(run_folder, settings_sources(run_folder.settings), display.say)
        events.recorder.open_or_postpone()
        events.assets_built()
        return events.close()
    if not data_checked:
        check_data(run_folder.settings)
    check_cluster()
    register_inputs(run_folder, settings_sources(run_folder.settings))
    opening = events.recorder.open_in_background()
    with stop_on_signals(run_folder.stop_file, display) as signals:
        is_lost = True
        while is_lost:
            display.say("starting Ray")
            with running_ray(display) as ray:
                wait_for_room(ray, run_folder.settings, display.say)
                import ray.tune  # takes seconds, while MLflow is opened

                opening.result()
                servers, is_cluster = servers_of(ray), cluster_address() is not None
                with end_with_ray(servers, signals, display, is_cluster=is_cluster):
                    is_lost = run_passes(ray, run_folder, events, signals, at_a_time)
    return events.close()


def run_passes(
    ray: Any,
    run_folder: RunFolder,
    events: UnitEvents,
    signals: Signals,
    at_a_time: int | None,
) -> bool:
    """Run what is pending, then lost units again, until nothing is left that may run.

    Returns:
        Whether Ray must be started again, because it lost a pass.

    Raises:
        ValueError, OSError: the assets of a block cannot be built, or an event cannot be noted.
    """
    retries, stop = events.retries, run_folder.stop_file
    resources = resources_by_block(run_folder.settings, alive_nodes(ray))
    waiting = [row for row in run_folder.pending() if retries.may_run(row.unit_id)]
    signals.units_run.set()
    try:
        while (waiting or run_folder.unproposed()) and not stop.exists():
            most = units_at_a_time(
                run_folder.settings, alive_nodes(ray), may_wait=not run_folder.learns()
            )
            retries.at_a_time = min(most, at_a_time or most)
            run_pass(run_folder, events, waiting, resources, retries.at_a_time)
            again = retries.take_again()
            waiting = [row for row in run_folder.pending() if row.unit_id in again]
            wait_unless_stopped(retries.take_pause() if waiting else 0.0, stop)
    except PassLost as error:
        if signals.first.is_set() or classify(error).kind is Kind.ENVIRONMENT:
            raise
        events.pass_lost(error)
        wait_unless_stopped(retries.take_pause(), stop)
        return not stop.exists()
    finally:
        signals.units_run.clear()
    return False


def wait_unless_stopped(seconds: float, stop: Path) -> None:
    """Wait before lost units run again; the stop file ends the wait."""
    end = time.monotonic() + seconds
    while time.monotonic() < end and not stop.exists():
        time.sleep(0.2)


def run_pass(
    run_folder: RunFolder,
    events: UnitEvents,
    waiting: list[Assignment],
    resources: dict[str, Resources],
    at_a_time: int,
) -> None:
    """Build the assets of the blocks, then run units; start anew if assets were lost.

    Raises:
        ValueError, OSError: the assets of a block cannot be built.
    """
    known = len(run_folder.table)
    assets = asset_tasks(run_folder, resources)
    blocks = "a block" if len(assets) == 1 else f"{len(assets)} blocks"
    while True:
        events.say(f"evaluation models and priors of {blocks}, then units")
        run_tasks(
            assets,
            unit_tasks(run_folder, events, [*waiting, *run_folder.table[known:]], resources),
            at_a_time=at_a_time,
            storage=run_folder.folder,
            stop_file=run_folder.stop_file,
            events=events,
            scheduler=run_folder.scheduler(),
        )
        failed = events.take_failed_assets()
        if failed is None:
            return
        events.say(events.retries.assets_lost(*failed))
        wait_unless_stopped(events.retries.take_pause(), run_folder.stop_file)


def asset_tasks(run_folder: RunFolder, resources: dict[str, Resources]) -> list[AssetTask]:
    """List the tasks that build the assets of the blocks; one process builds those of a block."""
    return [
        AssetTask(
            name=assets_of(block.name),
            layout=run_folder.layout(),
            resources=replace(resources[block.name], processes=1),
            block=block,
        )
        for block in run_folder.blocks()
    ]


def unit_tasks(
    run_folder: RunFolder,
    events: UnitEvents,
    rows: list[Assignment],
    resources: dict[str, Resources],
) -> Iterator[UnitTask]:
    """Generate the tasks of pending units, then of new ones, each proposed when asked for."""
    for row in rows:
        if run_folder.status(row) == schema.PENDING:
            yield unit_task(run_folder, row, resources)
    for row in run_folder.proposals():
        events.unit_added(row)
        yield unit_task(run_folder, row, resources)


def unit_task(run_folder: RunFolder, row: Assignment, resources: dict[str, Resources]) -> UnitTask:
    """Make the task of a unit."""
    spec = run_folder.spec(row)
    return UnitTask(
        name=row.unit_id,
        layout=run_folder.layout(),
        resources=resources[spec.block.name],
        spec=spec,
        after=assets_of(spec.block.name),
        retries=run_folder.settings.retries,
        trainer=run_folder.trainer(row),
    )


def assets_of(block: str) -> str:
    """Name the task that builds the assets of a block."""
    return f"assets of {block}"
