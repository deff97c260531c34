"""Rows and means of the whole batch, which workers share."""

import torch.distributed
from torch import Tensor
from torch.distributed.nn.functional import all_reduce

from atat_ray.utils.seeding import BatchDraws


def all_rows(rows: Tensor, draws: BatchDraws) -> Tensor:
    """Collect the rows of all workers, in the order of the batch, differentiably.

    Every worker then computes the loss of the whole batch. The average of their gradients equals
    the gradient of a single process.
    """
    if draws.world_size == 1:
        return rows
    whole = rows.new_zeros(len(rows) * draws.world_size, *rows.shape[1:])
    whole[draws.rank :: draws.world_size] = rows
    return all_reduce(whole)


@torch.no_grad()
def mean_over_workers(values: list[Tensor], draws: BatchDraws) -> None:
    """Average tensors over the workers, in place."""
    for value in values if draws.world_size > 1 else []:
        torch.distributed.all_reduce(value)
        value /= draws.world_size
