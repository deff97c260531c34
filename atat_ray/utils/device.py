"""The device that computations run on, and copies to it."""

import torch
from torch import Tensor


def pick_device() -> torch.device:
    """Return CUDA if it is available, otherwise the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """Copy a tensor to a device; neither the CPU nor a GPU waits for a copy from CPU to GPU.

    A copy from ordinary memory would make the CPU wait until the GPU has done all earlier work. A
    copy from pinned memory does not.
    """
    if device.type == "cuda" and tensor.device.type == "cpu":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)
