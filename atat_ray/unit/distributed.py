"""Several workers for one unit: data-parallel training on Ray Train, and jobs as Ray tasks.

This is the only module of ``atat_ray`` that imports ray, and it does so inside functions.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.nn.functional import all_reduce

from atat_ray.data import load_split
from atat_ray.training import train
from atat_ray.training.checkpoint import Checkpoint
from atat_ray.training.loop import Epoch
from atat_ray.unit.computed_on import describe_process, note_process
from atat_ray.unit.jobs import Job
from atat_ray.unit.spec import UnitSpec
from atat_ray.unit.train_stage import CHECKPOINT, StateDict, new_target
from atat_ray.utils.messages import lines_to, tell
from atat_ray.utils.stage_files import MissingStage, load_stage, save_stage

RESULT = "train-workers.pt"
WAITER_CPU = 0.01  # share of a CPU for the process that waits for a unit's workers


class SharedBatchNorm2d(nn.BatchNorm2d):
    """Batch normalisation over the batch of all workers, on any device.

    torch's SyncBatchNorm computes the same but needs CUDA. Every worker must hold the same number
    of images; the training loop ensures it.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Normalise this worker's images (N, C, H, W) with the statistics of all workers."""
        if not self.training:
            return super().forward(input)
        workers = dist.get_world_size()
        mean = all_reduce(input.mean(dim=(0, 2, 3))) / workers
        centered = input - mean.view(1, -1, 1, 1)
        variance = all_reduce(centered.square().mean(dim=(0, 2, 3))) / workers
        with torch.no_grad():
            count = workers * input.numel() / input.shape[1]
            momentum = 0.1 if self.momentum is None else self.momentum
            assert self.running_mean is not None
            assert self.running_var is not None
            assert self.num_batches_tracked is not None
            self.num_batches_tracked += 1
            self.running_mean.lerp_(mean, momentum)
            self.running_var.lerp_(variance * count / (count - 1), momentum)
        scale = (variance + self.eps).rsqrt() * self.weight
        return centered * scale.view(1, -1, 1, 1) + self.bias.view(1, -1, 1, 1)


def share_batch_norm(model: nn.Module) -> nn.Module:
    """Replace every BatchNorm2d of a model by a SharedBatchNorm2d, in place."""
    for name, child in model.named_children():
        if type(child) is nn.BatchNorm2d:
            shared = SharedBatchNorm2d(child.num_features, eps=child.eps, momentum=child.momentum)
            shared.load_state_dict(child.state_dict())
            for new, old in zip(shared.parameters(), child.parameters(), strict=True):
                new.requires_grad_(old.requires_grad)
            setattr(model, name, shared)
        else:
            share_batch_norm(child)
    return model


def mean_over_workers(values: Tensor) -> Tensor:
    """Average values over the workers, such as losses that are means over equally many images."""
    dist.all_reduce(values)
    return values / dist.get_world_size()


def train_as_worker(config: dict[str, Any]) -> None:
    """Train on one worker's share of each batch, under TorchTrainer; worker 0 saves the result."""
    import ray.train
    import ray.train.torch

    torch.set_num_threads(1)
    spec: UnitSpec = config["spec"]
    folder = Path(config["folder"])
    note_process(folder, describe_process())
    context = ray.train.get_context()
    rank, world_size = context.get_world_rank(), context.get_world_size()
    device = ray.train.torch.get_device()
    split = load_split(spec.block.data, spec.block.split)
    model = share_batch_norm(new_target(spec, split, device)).to(device)
    wrapped = nn.parallel.DistributedDataParallel(model, broadcast_buffers=False)
    lines: list[str] = []
    with lines_to(lines.append):
        curves = train(
            wrapped,
            split.train.to(device),
            spec.defense,
            spec.training,
            seed=spec.seed("train"),
            rank=rank,
            world_size=world_size,
            average=mean_over_workers,
            checkpoint=Checkpoint(folder / CHECKPOINT, spec.train_hash(), writes=rank == 0),
        )
    if rank == 0:
        state = {name: value.cpu() for name, value in model.state_dict().items()}
        payload = {"state": state, "curves": curves, "lines": lines}
        save_stage(folder / RESULT, spec.train_hash(), payload)
    ray.train.report({})


def share_of_worker(share: dict[str, float]) -> dict[str, float]:
    """Compute the resources that one worker of a unit requests.

    A CPU worker requests WAITER_CPU less than its share, which leaves room for the process that
    waits for the workers. Otherwise the workers would never start on a machine with as many CPUs
    as the unit has workers.
    """
    return share | ({"CPU": share["CPU"] - WAITER_CPU} if "CPU" in share else {})


def run_jobs_on_workers(
    jobs: Sequence[Job],
    *,
    workers: int,
    folder: Path,
    share: dict[str, float],
    retries: int = 0,
) -> list[Any]:
    """Run the jobs of a unit as Ray tasks, at most ``workers`` at a time.

    Ray must be running with a free CPU (or GPU) for each worker.

    Args:
        jobs: jobs; all nodes must see the files they write.
        workers: number of workers of the unit.
        folder: folder of the unit, which notes what the jobs were computed on.
        share: Ray resources of each worker: ``{"CPU": 1.0}`` or ``{"GPU": 1.0}``, and a small
            amount of a custom resource that its node must have.
        retries: how often a job is repeated if its process or node was lost.

    Raises:
        Exception: the exception of the first job that failed.
    """
    import ray
    from ray.exceptions import RayTaskError
    from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

    amounts = share_of_worker(share)
    processors = {"num_cpus": amounts.pop("CPU", 0), "num_gpus": amounts.pop("GPU", 0)}
    no_group: Any = None  # outside the placement group of the Tune trial, which has no free room
    remote = ray.remote(run_job).options(
        **processors,
        resources=amounts,
        max_retries=retries,
        scheduling_strategy=PlacementGroupSchedulingStrategy(placement_group=no_group),
    )
    waiting, started, running = list(enumerate(jobs)), {}, []
    while waiting or running:
        while waiting and len(running) < workers:
            number, job = waiting.pop(0)
            started[number] = remote.remote(job)
            running.append(started[number])
        ended, running = ray.wait(running)
        try:
            ray.get(ended)
        except RayTaskError as error:
            for task in running:
                ray.cancel(task, force=True)
            raise error.cause from None
    results = []
    for number in range(len(jobs)):
        result, lines, described = ray.get(started[number])
        results.append(result)
        note_process(folder, described)
        for line in lines:
            tell(line)
    return results


def run_job(job: Job) -> tuple[Any, list[str], dict[str, str]]:
    """Run a job in the process of a Ray task.

    Returns:
        Its result, its lines for the user, and what it was computed on.
    """
    torch.set_num_threads(1)  # so that results do not depend on the machine
    lines: list[str] = []
    with lines_to(lines.append):
        return job(), lines, describe_process()


def train_on_workers(
    spec: UnitSpec, folder: Path, *, share: dict[str, float], retries: int = 0
) -> tuple[StateDict, list[Epoch]]:
    """Train the target model of a unit on ``spec.workers`` Ray Train workers.

    Draws, batches and normalisation are those of training in one process; the curves agree within
    float32 precision. Ray must be running with a free CPU (or GPU) for each worker.

    Args:
        spec: specification of the unit.
        folder: folder of the unit, seen by all nodes; checkpoints are stored there.
        share: Ray resources of each worker, as in :func:`run_jobs_on_workers`.
        retries: how often lost workers are restarted from the last checkpoint.

    Raises:
        MissingStage: the file that worker 0 saved is missing or damaged.
    """
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchTrainer

    resources = share_of_worker(share)
    trainer = TorchTrainer(
        train_as_worker,
        train_loop_config={"spec": spec, "folder": str(folder)},
        scaling_config=ScalingConfig(
            num_workers=spec.workers, use_gpu="GPU" in resources, resources_per_worker=resources
        ),
        run_config=RunConfig(
            name=spec.unit_id,
            storage_path=str(folder / "ray-train"),
            failure_config=FailureConfig(max_failures=retries),
        ),
    )
    trainer.fit()
    payload = load_stage(folder / RESULT, spec.train_hash())
    if payload is None:
        raise MissingStage(f"{folder / RESULT} is missing or damaged; the unit must run again")
    for line in payload["lines"]:
        tell(line)
    return payload["state"], payload["curves"]
