"""What a unit cannot help: a process or a node that was lost, a device that broke."""

import re
from typing import Any

OF_A_DEVICE = re.compile(r"(CUDA|cuDNN|NCCL) error|CU(DNN|BLAS|SOLVER|FFT)_STATUS")


def cause_of(error: Any) -> Any:
    """What a process raised, or what Ray says of one that is gone."""
    return getattr(error, "cause", None) or error


def is_of_ray(error: Any) -> bool:
    """Tell whether an error is Ray's own: a process or a node was lost."""
    return type(error).__module__.startswith("ray.")


def ends_its_process(error: Any) -> bool:
    """Tell whether nothing else can run where an error happened: Ray lost it, or its GPU broke.

    After an error of CUDA's every later call in the process fails too, so that a process that went
    on would fail all units that it is given.
    """
    import torch

    if is_of_ray(error) or isinstance(error, torch.AcceleratorError):
        return True
    return isinstance(error, RuntimeError) and bool(OF_A_DEVICE.search(str(error)))


def words_of(error: Any) -> str:
    """Write an error in one line of at most 300 characters; Ray says what matters last."""
    words = " ".join(str(error).split())
    return words[-300:] if is_of_ray(error) else words[:300]
