"""Run what is left of a campaign on Ray Tune, and record each unit as it ends."""

import json
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from atat_ray.assets import make_evaluation, make_prior
from atat_ray.data import load_split
from atat_ray.stages import write_whole
from atat_ray.unit import UnitSpec, run_unit, train_here
from trials.allocation import Assignment
from trials.campaign import Campaign
from trials.writer import Echo, Summary, Writer

# Set before ray is imported: no usage statistics, no dashboard, no logger files of each Tune trial.
RAY_ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_AUTO_CALLBACK_SYNCER": "1",
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}
GPU_SHARE = 0.25  # of a GPU that a unit of one process takes


def run(campaign: Campaign, *, at_a_time: int | None, echo: Echo) -> Summary:
    """Run every unit that is not finished, and leave a whole record.

    Running a finished campaign again checks the record and returns within seconds.

    Args:
        campaign: allocated.
        at_a_time: Tune trials at a time; as many as the devices hold if None.
        echo: told one line whenever something is worth saying; never an outcome, so that nobody
            looks at arms before the end.

    Raises:
        ValueError: the MLflow server does not answer, or the units do not fit the machine.
        OSError: a file cannot be written.
    """
    waiting = [row for row in campaign.table if campaign.outcome(row) is None]
    writer = Writer(campaign, echo)
    if not waiting:
        echo(f"all {len(campaign.table)} units are finished; checking the record")
        writer.open()
        writer.write_assets([make(*words) for make, *words in asset_calls(campaign)])
        return writer.close()
    for block in campaign.blocks():
        load_split(block.data, block.split)  # data that cannot be read end the run here
    opening = writer.thread.submit(writer.open)  # MLflow and Ray take seconds each to start
    ray = start_ray(campaign, echo)
    from ray.exceptions import RayTaskError

    try:
        remote = ray.remote(num_cpus=1)(call_alone)
        echo(f"making evaluation models and priors of {len(campaign.blocks())} blocks")
        assets = [remote.remote(*call) for call in asset_calls(campaign)]
        import ray.tune  # while the assets are made

        opening.result()
        writer.write_assets(ray.get(assets))
        echo(f"running {len(waiting)} units of {len(campaign.table)}")
        tune_units(campaign, waiting, writer, at_a_time)
    except RayTaskError as error:
        raise error.cause from None
    finally:
        ray.shutdown()
    return writer.close()


def asset_calls(campaign: Campaign) -> list[tuple[Any, ...]]:
    """List the calls that make what the blocks have once; each is a no-op where it is made."""
    calls: list[tuple[Any, ...]] = []
    for block in campaign.blocks():
        calls.append((make_evaluation, block, campaign.assets))
        calls += [(make_prior, block, name, campaign.assets) for name in block.priors]
    return calls


def call_alone(function: Callable[..., Any], *words: Any) -> Any:
    """Call a function with one thread of torch, so that results do not depend on the machine."""
    import torch

    torch.set_num_threads(1)
    return function(*words)


def start_ray(campaign: Campaign, echo: Echo) -> Any:
    """Start Ray on this machine, or join the cluster that RAY_ADDRESS names.

    Raises:
        ValueError: a unit needs more devices than there are.
    """
    for name, value in RAY_ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    echo("starting Ray")
    import ray

    address = os.environ.get("RAY_ADDRESS")
    local: dict[str, Any] = {"object_store_memory": 100 * 2**20, "include_dashboard": False}
    ray.init(
        address=address or "local",
        log_to_driver=False,
        logging_level=logging.ERROR,
        **({} if address else local),
    )
    cpus = int(ray.cluster_resources().get("CPU", 0))
    if campaign.protocol.workers > cpus:
        ray.shutdown()
        raise ValueError(
            f"a unit trains on {campaign.protocol.workers} workers but Ray has {cpus} CPUs; "
            "lower `workers` in the protocol or use a larger machine"
        )
    return ray


def tune_units(
    campaign: Campaign, waiting: list[Assignment], writer: "Writer", at_a_time: int | None
) -> None:
    """Schedule units in the order of the table, first in, first out, no searcher looking on."""
    import ray
    from ray import tune

    specs = {row.unit_id: campaign.spec(row) for row in waiting}
    assets, folders = campaign.assets, {row: campaign.unit_folder(row) for row in specs}
    workers = campaign.protocol.workers

    def unit(config: dict[str, Any]) -> None:
        run_one(specs[config["unit_id"]], assets, folders[config["unit_id"]])
        tune.report({"done": 1})

    cluster = ray.cluster_resources()
    slots = int(cluster["CPU"]) // workers
    # A unit of several workers only waits for them: its own process takes next to nothing, and no
    # more of them start than the workers of all have room for, or they would wait for ever.
    share = {"cpu": 1.0} if workers == 1 else {"cpu": 0.01}
    if workers == 1 and cluster.get("GPU", 0) > 0:
        share["gpu"] = GPU_SHARE
        slots = min(slots, int(cluster["GPU"] / GPU_SHARE))
    tune.Tuner(
        tune.with_resources(unit, share),
        param_space={"unit_id": tune.grid_search(list(specs))},
        tune_config=tune.TuneConfig(
            num_samples=1,
            reuse_actors=True,
            max_concurrent_trials=min(slots, at_a_time or slots),
        ),
        run_config=tune.RunConfig(
            name="tune",
            storage_path=str(campaign.folder),
            callbacks=[report_to(writer)],
            verbose=0,
        ),
    ).fit()


def report_to(writer: Writer) -> Any:
    """Make the Tune callback that tells ``writer`` of every unit that starts and ends."""
    from ray import tune

    class Report(tune.Callback):
        def __reduce__(self) -> Any:
            return tune.Callback, ()  # Tune saves its callbacks; a campaign resumes without them

        def on_trial_start(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
            writer.started(trial.config["unit_id"])

        def on_trial_complete(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
            writer.ended(trial.config["unit_id"])

        def on_trial_error(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
            writer.interrupted(trial.config["unit_id"], str(trial.get_error() or ""))

    return Report()


def run_one(spec: UnitSpec, assets: Path, folder: Path) -> None:
    """Run one unit in a Tune trial's process; note why if it fails.

    A unit that fails stays in its arm. What is no fault of the unit (a full disk, a lost process)
    is raised instead and leaves the unit as it was.
    """
    import torch

    from atat_ray.distributed import train_on_workers

    torch.set_num_threads(1)
    trainer = train_here if spec.workers == 1 else train_on_workers
    try:
        run_unit(spec, assets=assets, folder=folder, trainer=trainer)
        (folder / "failure.json").unlink(missing_ok=True)
    except OSError:
        raise
    except Exception as error:
        reason = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
        write_whole(folder / "failure.json", json.dumps({"reason": reason}).encode())
