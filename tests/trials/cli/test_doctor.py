"""What `atat doctor` says of a machine with a GPU."""

import torch

from trials.cli.doctor import check_torch


def test_doctor_names_the_gpu_and_the_script_that_measures_it(monkeypatch):
    ones = torch.ones
    monkeypatch.setattr(torch, "ones", lambda *shape, device: ones(*shape))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda index: f"GPU {index}")
    assert "1 CUDA devices: GPU 0; benchmarks/gpu.py checks and measures one" in check_torch()
