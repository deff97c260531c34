"""True float32 for perturbations that are smaller than one gray level."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch


@contextmanager
def true_float32() -> Iterator[None]:
    """Switch TF32 and autocast off inside the block.

    TF32 has 10 bits of mantissa. At a pixel of 0.75 its spacing is 4.9e-4, which is larger than the
    perturbations of anti-adversarial training and would round them away.
    """
    cudnn, matmul = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        with torch.autocast(device, enabled=False):
            yield
    finally:
        torch.backends.cudnn.allow_tf32 = cudnn
        torch.backends.cuda.matmul.allow_tf32 = matmul


def forward_precision(precision: str, device: torch.device) -> AbstractContextManager[object]:
    """Return a context that runs forward passes under autocast; none for "float32"."""
    if precision == "float32":
        return nullcontext()
    return torch.autocast(device.type, dtype=getattr(torch, precision))


def assert_true_float32(images: torch.Tensor) -> None:
    """Check that perturbations of ``images`` are computed in float32.

    Raises:
        ValueError: the images are not float32, or TF32 or autocast is on.
    """
    if images.dtype != torch.float32:
        raise ValueError(f"images must be float32 to be perturbed, got {images.dtype}")
    rounded = images.is_cuda and torch.backends.cudnn.allow_tf32
    if rounded or torch.is_autocast_enabled(images.device.type):
        raise ValueError(
            "TF32 or autocast would round the perturbation away; "
            "run inside atat_ray.utils.precision.true_float32()"
        )
