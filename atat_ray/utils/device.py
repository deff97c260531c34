"""Where numerics run."""

import torch


def pick_device() -> torch.device:
    """Pick CUDA where there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
