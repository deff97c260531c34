"""True float32 for perturbations that are smaller than one gray level."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch

cudnn: Any = torch.backends.cudnn
mkldnn: Any = torch.backends.mkldnn
# Every operation that may round its float32 inputs: to TF32 on a GPU, to bfloat16 on a CPU.
ROUNDING: tuple[Any, ...] = (
    torch.backends.cuda.matmul,
    cudnn.conv,
    cudnn.rnn,
    mkldnn.matmul,
    mkldnn.conv,
)
CONVOLUTION = 1  # the place of cuDNN's convolutions in ROUNDING


@contextmanager
def true_float32() -> Iterator[None]:
    """Switch TF32, bfloat16 and autocast off inside the block, on GPU and CPU.

    TF32 has 10 bits of mantissa. At a pixel of 0.75 its spacing is 4.9e-4, which is larger than the
    perturbations of anti-adversarial training and would round them away.
    """
    gpu = torch.autocast("cuda", enabled=False) if torch.cuda.is_available() else nullcontext()
    with exact_operations(), torch.autocast("cpu", enabled=False), gpu:
        yield


@contextmanager
def exact_operations() -> Iterator[None]:
    """Compute matrix products and convolutions in IEEE float32 inside the block.

    PyTorch has an older and a newer set of switches. Both are set, because reading the older ones
    is an error while they disagree with the newer ones.
    """
    found = [operation.fp32_precision for operation in ROUNDING]
    try:
        products = torch.get_float32_matmul_precision()
    except RuntimeError:  # the switches disagreed before
        products = "highest"
    set_rounding("highest", False, ["ieee"] * len(ROUNDING))
    try:
        yield
    finally:
        set_rounding(products, found[CONVOLUTION] == "tf32", found)


def set_rounding(products: str, tf32: bool, precisions: list[str]) -> None:
    """Set the older switches of products and of cuDNN, then the newer one of each operation."""
    torch.set_float32_matmul_precision(products)
    cudnn.allow_tf32 = tf32
    for operation, precision in zip(ROUNDING, precisions, strict=True):
        operation.fp32_precision = precision


def forward_precision(precision: str, device: torch.device) -> AbstractContextManager[object]:
    """Return a context that runs forward passes under autocast; none for "float32"."""
    if precision == "float32":
        return nullcontext()
    return torch.autocast(device.type, dtype=getattr(torch, precision))


def is_rounded(device: torch.device) -> bool:
    """Tell whether float32 inputs of a network may be rounded on a device."""
    if torch.amp.is_autocast_available(device.type) and torch.is_autocast_enabled(device.type):
        return True
    if device.type != "cuda":
        operations = (mkldnn.matmul, mkldnn.conv)
        return any(operation.fp32_precision in ("bf16", "tf32") for operation in operations)
    return cudnn.conv.fp32_precision == "tf32"


def assert_true_float32(images: torch.Tensor) -> None:
    """Check that perturbations of ``images`` are computed in float32.

    Raises:
        ValueError: the images are not float32, or TF32, bfloat16 or autocast is on.
    """
    if images.dtype != torch.float32:
        raise ValueError(f"images must be float32 to be perturbed, got {images.dtype}")
    if is_rounded(images.device):
        raise ValueError(
            "TF32, bfloat16 or autocast would round the perturbation away; "
            "run inside atat_ray.utils.precision.true_float32()"
        )
