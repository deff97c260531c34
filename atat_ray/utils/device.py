"""The device that computations run on."""

import torch


def pick_device() -> torch.device:
    """Return CUDA if it is available, otherwise the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
