"""What a process computes on is described by everything that may change its numbers."""

import pytest
import torch

from analysis import schema
from atat_ray.utils import processor
from atat_ray.utils.processor import cpu_info, describe_processor

CPU = torch.device("cpu")
INTEL = """processor\t: 0
vendor_id\t: GenuineIntel
cpu family\t: 6
model\t\t: 143
model name\t: Intel(R) Xeon(R) Processor
stepping\t: 8

processor\t: 1
model name\t: another
"""
ARM = """processor\t: 0
BogoMIPS\t: 243.75
CPU implementer\t: 0x41
CPU variant\t: 0x3
CPU part\t: 0xd0c
CPU revision\t: 1
"""


@pytest.fixture(autouse=True)
def no_switches(monkeypatch):
    for name in processor.SWITCHES:
        monkeypatch.delenv(name, raising=False)


def test_the_description_has_the_tags_of_a_record():
    assert tuple(describe_processor(CPU)) == tuple(schema.PROCESSOR_TAGS)
    assert set(schema.PROCESSOR_TAGS) < set(schema.UNIT_TAGS)
    assert all(describe_processor(CPU).values())


def test_instruction_sets_threads_versions_and_gpus_are_told_apart(monkeypatch):
    before = describe_processor(CPU)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "SVE256")
    assert describe_processor(CPU) == {**before, "instruction_set": "SVE256"}
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")
    monkeypatch.setenv("MKL_CBWR", "AVX2")
    both = "SVE256, ONEDNN_MAX_CPU_ISA=AVX2, MKL_CBWR=AVX2"
    assert describe_processor(CPU)["instruction_set"] == both
    monkeypatch.setattr(torch, "get_num_threads", lambda: 7)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "GPU; of a make")
    found = describe_processor(torch.device("cuda"))
    assert (found["threads"], found["gpu"]) == ("7", "GPU, of a make")
    assert (before["gpu"], before["torch"]) == ("none", torch.__version__)


def test_processors_of_one_name_are_told_apart_by_model_and_stepping():
    name = "Intel(R) Xeon(R) Processor, family 6, model 143, stepping 8"
    assert cpu_info(INTEL) == name
    assert cpu_info(INTEL.replace("143", "106")) != name
    parts = ["CPU implementer 0x41", "CPU part 0xd0c", "CPU variant 0x3", "CPU revision 1"]
    assert cpu_info(ARM) == ", ".join(parts)


@pytest.mark.parametrize("text", [None, "", "no colon\n\n::\n"])
def test_a_processor_without_a_model_has_the_name_of_its_platform(text, tmp_path, monkeypatch):
    monkeypatch.setattr(processor, "CPU_INFO", tmp_path / "cpuinfo")
    monkeypatch.setattr(processor.platform, "system", lambda: "Other")
    monkeypatch.setattr(processor.platform, "processor", lambda: "")
    monkeypatch.setattr(processor.platform, "machine", lambda: "riscv64")
    if text is not None:
        (tmp_path / "cpuinfo").write_text(text)
    assert processor.processor_model.__wrapped__() == "riscv64"
