"""The same training loop on Ray Train: several workers share a unit's target model by DDP.

The only file of ``atat_ray`` that imports ray, and only where it is used.
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
from atat_ray.unit.jobs import Job
from atat_ray.unit.spec import UnitSpec
from atat_ray.unit.train_stage import CHECKPOINT, State, new_target
from atat_ray.utils.stage_files import load_stage, save_stage

RESULT = "train-workers.pt"
WAITER_CPU = 0.01  # of the process that waits for the workers of a unit


class SharedBatchNorm2d(nn.BatchNorm2d):
    """Batch normalisation over the batch of all workers, on any device.

    torch's SyncBatchNorm does the same and needs CUDA. Every worker must hold the same number of
    images, which the training loop sees to.
    """

    def forward(self, input: Tensor) -> Tensor:
        """(N, C, H, W) of this worker, normalised with the statistics of all workers' images."""
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
    """Replace every BatchNorm2d of a model by one over all workers, in place."""
    for name, child in model.named_children():
        if type(child) is nn.BatchNorm2d:
            shared = SharedBatchNorm2d(child.num_features, eps=child.eps, momentum=child.momentum)
            shared.load_state_dict(child.state_dict())
            for mine, theirs in zip(shared.parameters(), child.parameters(), strict=True):
                mine.requires_grad_(theirs.requires_grad)
            setattr(model, name, shared)
        else:
            share_batch_norm(child)
    return model


def mean_over_workers(values: Tensor) -> Tensor:
    """Average what every worker has, such as losses that are means over equally many images."""
    dist.all_reduce(values)
    return values / dist.get_world_size()


def train_as_worker(config: dict[str, Any]) -> None:
    """Train one worker's share; the first worker saves the result. Runs under TorchTrainer."""
    import ray.train
    import ray.train.torch

    torch.set_num_threads(1)
    spec: UnitSpec = config["spec"]
    folder = Path(config["folder"])
    context = ray.train.get_context()
    rank, world_size = context.get_world_rank(), context.get_world_size()
    device = ray.train.torch.get_device()
    split = load_split(spec.block.data, spec.block.split)
    model = share_batch_norm(new_target(spec, split, device)).to(device)
    wrapped = nn.parallel.DistributedDataParallel(model, broadcast_buffers=False)
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
        payload = {"state": state, "curves": curves}
        save_stage(folder / RESULT, spec.train_hash(), payload)
    ray.train.report({})


def share_of_worker(share: dict[str, float]) -> dict[str, float]:
    """Say what each worker of a unit takes, of what it may take.

    Of a CPU it leaves a little to the process that waits for the workers: on a machine with as many
    CPUs as the unit has workers they would never start beside it.
    """
    return share | ({"CPU": share["CPU"] - WAITER_CPU} if "CPU" in share else {})


def perform_on_workers(
    jobs: Sequence[Job], *, workers: int, share: dict[str, float], retries: int = 0
) -> list[Any]:
    """Do the jobs of a unit as tasks of Ray, at most ``workers`` of them at a time.

    Ray must be running with a free CPU (or GPU) for each worker.

    Args:
        jobs: what they write is seen by all nodes.
        workers: of the unit.
        share: what each of them may take of Ray's resources: ``{"CPU": 1.0}`` or ``{"GPU": 1.0}``,
            and a little of a custom resource that its node must have.
        retries: times that a job whose process or node was lost is done again.

    Raises:
        Exception: what the first job that failed raised.
    """
    import ray
    from ray.exceptions import RayTaskError
    from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

    amounts = share_of_worker(share)
    own = {"num_cpus": amounts.pop("CPU", 0), "num_gpus": amounts.pop("GPU", 0)}
    nowhere: Any = None  # rather than in the room of the Tune trial, which has none to give
    remote = ray.remote(do).options(
        **own,
        resources=amounts,
        max_retries=retries,
        scheduling_strategy=PlacementGroupSchedulingStrategy(placement_group=nowhere),
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
    return ray.get([started[number] for number in range(len(jobs))])


def do(job: Job) -> Any:
    """Do a job in a process of its own."""
    torch.set_num_threads(1)  # so that results do not depend on the machine
    return job()


def train_on_workers(
    spec: UnitSpec, folder: Path, *, share: dict[str, float], retries: int = 0
) -> tuple[State, list[Epoch]]:
    """Train the target model of a unit on ``spec.workers`` Ray Train workers.

    Draws, batches and normalisation are those of the loop in one process, so that the curves agree
    with it within float32. Ray must be running with a free CPU (or GPU) for each worker.

    Args:
        spec: the unit.
        folder: of the unit, seen by all nodes; the state of the training is kept there.
        share: as :func:`perform_on_workers` takes it.
        retries: times that lost workers are started again, from the last state that was kept.
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
    assert payload is not None, "the first worker saves its result before it ends"
    return payload["state"], payload["curves"]
