"""Failures of the infrastructure, told from those of a unit, and what runs again."""

import pytest
import torch

from trials.execution.failures import is_infrastructure_failure, one_line


class LostWorker(Exception):
    __module__ = "ray.exceptions"


@pytest.mark.parametrize(
    "error",
    [
        LostWorker("gone"),
        torch.AcceleratorError("CUDA error: an illegal memory access was encountered"),
        RuntimeError("CUDA error: uncorrectable ECC error encountered"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"),
    ],
)
def test_where_ray_lost_a_process_or_its_gpu_broke_nothing_else_can_run(error):
    assert is_infrastructure_failure(error)


@pytest.mark.parametrize(
    "error",
    [
        ValueError("batch_size is 64, 42 images are there"),
        RuntimeError("Expected all tensors on the same device, found cuda:0 and cpu"),
        torch.OutOfMemoryError("CUDA out of memory"),
        OSError(28, "full"),
    ],
)
def test_other_errors_say_nothing_of_the_process(error):
    assert not is_infrastructure_failure(error)


def test_of_rays_words_the_last_are_kept_and_of_others_the_first():
    assert one_line(LostWorker("a " * 200 + "exit code 1")).endswith("exit code 1")
    assert one_line(RuntimeError("CUDA error:\n" + "advice " * 90)).startswith("CUDA error: advice")
