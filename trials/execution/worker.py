"""Run one unit in the process of a Tune trial."""

import platform
from collections.abc import Callable
from functools import partial
from pathlib import Path

from analysis import schema
from atat_ray.unit import UnitSpec, run_unit
from atat_ray.unit.jobs import run_serially
from atat_ray.unit.train_stage import Trainer, train_here
from atat_ray.utils.device import pick_device
from trials.allocation import Assignment
from trials.campaign.campaign import Campaign
from trials.campaign.folder import write_note
from trials.execution.failures import ends_its_process, words_of
from trials.execution.resources import Need


def worker(
    campaign: Campaign, rows: list[Assignment], need: dict[str, Need]
) -> Callable[[str], None]:
    """Make the function that runs a unit in a Tune trial's process."""
    specs = {row.unit_id: campaign.spec(row) for row in rows}
    folders = {unit_id: campaign.unit_folder(unit_id) for unit_id in specs}
    assets, stop, retries = campaign.assets, campaign.stop_file, campaign.protocol.retries

    def work(unit_id: str) -> None:
        spec = specs[unit_id]
        share = need[spec.block.name].resources
        run_one(spec, assets, folders[unit_id], stop=stop, retries=retries, share=share)

    return work


def run_one(
    spec: UnitSpec,
    assets: Path,
    folder: Path,
    *,
    stop: Path,
    share: dict[str, float],
    retries: int = 0,
    trainer: Trainer = train_here,
) -> None:
    """Run one unit in a Tune trial's process; note why if it fails.

    A unit that fails stays in its arm. What is no fault of the unit (a full disk, a lost process,
    memory that ran out) is raised instead and leaves the unit as it was.
    """
    import torch

    from atat_ray.unit.distributed import run_jobs_on_workers, train_on_workers

    write_note(folder, "place", {"node": platform.node(), "device": str(pick_device())})

    def check_stop(stage: str) -> None:
        if stop.exists():
            raise Stopped(stage)

    run_jobs = run_serially
    if spec.workers > 1:
        trainer = partial(train_on_workers, share=share, retries=retries)
        run_jobs = partial(run_jobs_on_workers, workers=spec.workers, share=share, retries=retries)
    try:
        run_unit(
            spec,
            assets=assets,
            folder=folder,
            trainer=trainer,
            run_jobs=run_jobs,
            on_stage=check_stop,
        )
    except Stopped:
        return
    except (OSError, MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        if ends_its_process(error):
            raise
        reason = f"{type(error).__name__}: {words_of(error)}"
        write_note(folder, schema.FAILED, {"reason": reason})


class Stopped(Exception):
    """A unit that was asked to stop between two stages; what is done is kept."""
