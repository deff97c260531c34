"""Float32 that nothing rounds, whatever the caller has set before."""

import pytest
import torch

from atat_ray.utils.precision import (
    ROUNDING,
    assert_true_float32,
    is_rounded,
    set_rounding,
    true_float32,
)

DEFAULT = [operation.fp32_precision for operation in ROUNDING]


@pytest.fixture(autouse=True)
def switches():
    """Put the switches back to PyTorch's defaults."""
    yield
    set_rounding("highest", True, DEFAULT)


def coarse():
    torch.set_float32_matmul_precision("medium")


def older():
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True


def newer():
    torch.backends.cudnn.conv.fp32_precision = "ieee"
    torch.backends.mkldnn.conv.fp32_precision = "bf16"


def mixed():
    torch.set_float32_matmul_precision("medium")
    torch.backends.cuda.matmul.allow_tf32 = False


@pytest.mark.parametrize("setting", [lambda: None, coarse, older, newer, mixed])
def test_every_operation_is_exact_inside_and_as_before_outside(setting):
    setting()
    before = [operation.fp32_precision for operation in ROUNDING]
    with true_float32():
        assert {operation.fp32_precision for operation in ROUNDING} == {"ieee"}
        assert not torch.backends.cuda.matmul.allow_tf32
        assert not torch.backends.cudnn.allow_tf32
        assert torch.get_float32_matmul_precision() == "highest"
    assert [operation.fp32_precision for operation in ROUNDING] == before


def test_the_switches_are_put_back_after_an_error():
    with pytest.raises(KeyError), true_float32():
        raise KeyError
    assert [operation.fp32_precision for operation in ROUNDING] == DEFAULT
    assert torch.backends.cudnn.allow_tf32


def test_products_on_a_cpu_are_exact_although_the_caller_allows_bfloat16():
    x = torch.randn(256, 256, generator=torch.Generator().manual_seed(0))
    coarse()
    with true_float32():
        error = ((x @ x).double() - x.double() @ x.double()).abs().max()
    assert error < 1e-3


@pytest.mark.parametrize("operation", [torch.backends.mkldnn.matmul, torch.backends.mkldnn.conv])
def test_perturbations_are_refused_while_a_cpu_may_round(operation):
    images = torch.zeros(1, 1, 4, 4)
    assert_true_float32(images)
    operation.fp32_precision = "bf16"
    with pytest.raises(ValueError, match="would round the perturbation away"):
        assert_true_float32(images)
    with true_float32():
        assert_true_float32(images)


def test_a_gpu_that_may_round_is_told():
    assert is_rounded(torch.device("cuda"))  # cuDNN's default
    with true_float32():
        assert not is_rounded(torch.device("cuda"))
