"""Whose a failure is, whether it passes, and which remedy fits it."""

import errno
import os

import pytest
import torch

from trials.execution.classify import Kind, TaskLost, classify, one_line
from trials.execution.failures import origin_of


def of_ray(name, message="", **attributes):
    """Make an exception of Ray: what matters is its module, name, text and attributes."""
    error = type(name, (Exception,), {"__module__": "ray.exceptions"})(message)
    for key, value in attributes.items():
        setattr(error, key, value)
    return error


def raised_from(error, cause):
    error.__cause__ = cause
    return error


KILLED = (
    "2 worker(s) were killed due to the node running low on memory. Memory on the node (IP: "
    "127.0.0.1, ID: 20) was 6.79GB used / 23.54GB limit (0.288637)\nOOM kill reason: ..."
)
OUT_OF_MEMORY = of_ray("OutOfMemoryError", KILLED)

MEMORY = {
    "of the machine, a worker": OUT_OF_MEMORY,
    "of the machine, an actor": of_ray("ActorDiedError", f"The actor died: {KILLED}"),
    "of the machine, a text": TaskLost(KILLED),
    "behind Tune's own error": raised_from(RuntimeError("Caught unexpected"), OUT_OF_MEMORY),
    "behind a task": of_ray("RayTaskError", "Traceback", cause=MemoryError("no more")),
    "in a worker of Ray Train": of_ray(
        "WorkerGroupError", "Traceback", worker_failures={1: MemoryError()}
    ),
    "Python": MemoryError(),
    "numpy": type("_ArrayMemoryError", (MemoryError,), {})("Unable to allocate 3 GiB"),
    "fork": OSError(errno.ENOMEM, "Cannot allocate memory"),
    "torch on a GPU": torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"),
    "CUDA": RuntimeError("CUDA error: out of memory"),
    "torch on a CPU": RuntimeError(
        "[enforce fail at alloc_cpu.cpp:121] DefaultCPUAllocator: can't allocate memory: you "
        "tried to allocate 8 bytes. Error code 12 (Cannot allocate memory)"
    ),
    "C++": RuntimeError("std::bad_alloc"),
}


@pytest.mark.parametrize("error", MEMORY.values(), ids=MEMORY)
def test_memory_that_ran_out_is_told_as_such_and_passes(error):
    failure = classify(error)
    assert (failure.kind, failure.passes) == (Kind.MEMORY, True)
    assert failure.reason.startswith("memory ran out")
    assert "--at-a-time" in failure.remedy


def test_of_rays_pages_on_memory_the_amounts_are_kept():
    assert classify(OUT_OF_MEMORY).reason == "memory ran out (6.79GB used / 23.54GB limit)"


INFRASTRUCTURE = {
    "a process": of_ray("ActorDiedError", "connection error code 2. End of file."),
    "a process, a text": TaskLost("The worker died unexpectedly"),
    "a node": of_ray("NodeDiedError", "the node died"),
    "the local raylet": of_ray("LocalRayletDiedError"),
    "the GCS": of_ray("RpcError", "failed to connect to all addresses"),
    "no answer in time": of_ray("GetTimeoutError", "timed out"),
    "a placement group": of_ray("TaskPlacementGroupRemoved", "removed"),
    "a worker of Ray Train": of_ray(
        "WorkerGroupError", "lost", worker_failures={0: of_ray("ActorDiedError", "gone")}
    ),
    "behind Tune's own error": raised_from(
        RuntimeError("Caught unexpected exception"), of_ray("WorkerCrashedError", "crashed")
    ),
    "a GPU": torch.AcceleratorError("CUDA error: an illegal memory access was encountered"),
    "a GPU's memory": RuntimeError("CUDA error: uncorrectable ECC error encountered"),
    "a GPU's handle": RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `x`"),
    "a GPU's kernel": RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"),
    "the network of GPUs": RuntimeError("NCCL error in: ProcessGroupNCCL.cpp:1"),
}


@pytest.mark.parametrize("error", INFRASTRUCTURE.values(), ids=INFRASTRUCTURE)
def test_a_lost_process_node_or_gpu_is_of_the_infrastructure_and_passes(error):
    failure = classify(error)
    assert (failure.kind, failure.passes) == (Kind.INFRASTRUCTURE, True)


FULL = OSError(errno.ENOSPC, "No space left on device", "/data/runs/x")
LASTING = {
    "full": (FULL, "free some space there"),
    "quota": (OSError(errno.EDQUOT, "Disk quota exceeded", "/data/x"), "quota"),
    "read-only": (OSError(errno.EROFS, "Read-only file system", "/data/x"), "writable"),
    "permission": (PermissionError(errno.EACCES, "Permission denied", "/data/x"), "permissions"),
    "missing": (FileNotFoundError(errno.ENOENT, "No such file", "/data/x"), "put it back"),
    "a file in place of a folder": (OSError(errno.ENOTDIR, "Not a directory", "/a/b"), "remove"),
    "open files": (OSError(errno.EMFILE, "Too many open files", "/data/x"), "ulimit -n"),
    "a package": (ModuleNotFoundError("No module named 'boto3'", name="boto3"), "'boto3'"),
    "behind a task": (of_ray("RayTaskError", "Traceback", cause=FULL), "free some space"),
    "behind Tune": (raised_from(RuntimeError("Tune failed"), FULL), "free some space"),
    "in a worker of Ray Train": (
        of_ray("WorkerGroupError", "x", worker_failures={0: of_ray("Wrapped", _base_exc=FULL)}),
        "free some space",
    ),
}


@pytest.mark.parametrize(("error", "advice"), LASTING.values(), ids=LASTING)
def test_a_failure_of_the_environment_that_stays_has_the_remedy_that_fits(error, advice):
    failure = classify(error)
    assert (failure.kind, failure.passes) == (Kind.ENVIRONMENT, False)
    assert advice in str(failure)
    assert "\n" not in str(failure)


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.EIO, "Input/output error", "/data/x"),
        OSError(errno.ESTALE, "Stale file handle", "/data/x"),
        ConnectionResetError(errno.ECONNRESET, "Connection reset by peer"),
        TimeoutError("timed out"),
        RuntimeError("can't start new thread"),
        BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable"),
    ],
    ids=repr,
)
def test_a_failure_of_the_environment_that_may_be_gone_at_the_next_try_passes(error):
    failure = classify(error)
    assert (failure.kind, failure.passes) == (Kind.ENVIRONMENT, True)


def test_what_was_merely_handled_at_the_time_is_no_cause():
    error = ValueError("the unit is wrong")
    error.__context__ = FULL
    assert classify(error).kind is Kind.UNIT


@pytest.mark.parametrize(
    "error",
    [
        ValueError("batch_size is 64, 42 images are there"),
        RuntimeError("Expected all tensors on the same device, found cuda:0 and cpu"),
        KeyError("running low on memory"),
        of_ray("RayTaskError", "except: out of memory", cause=ValueError("no")),
        of_ray("WorkerGroupError", "Traceback", worker_failures={0: ValueError("no")}),
    ],
    ids=repr,
)
def test_any_other_error_is_of_the_unit(error):
    failure = classify(error)
    assert (failure.kind, failure.passes) == (Kind.UNIT, False)


def test_the_reason_of_a_unit_is_what_it_raised_and_not_what_ray_made_of_it():
    error = of_ray("WorkerGroupError", "pages", worker_failures={0: ValueError("diverged")})
    assert classify(error).reason == "ValueError: diverged"
    assert isinstance(origin_of(error), ValueError)


PLACES = {
    "RAY_TMPDIR": ("/short/ray/session_1/logs", {"RAY_TMPDIR": "/short"}),
    "TMPDIR": ("/short/tmpab12/x", {"RAY_TMPDIR": "/short"}),
    "HOME": ("/.cache/torch", {"HOME": "/"}),
    "TORCH_HOME": ("/weights/hub", {"TORCH_HOME": "/weights"}),
    "--out": ("/data/runs/orl-rct", {"HOME": "/data"}),
}


@pytest.mark.parametrize("name", PLACES)
def test_advice_names_the_variable_that_chose_the_place(name, monkeypatch):
    path, variables = PLACES[name]
    for variable, value in variables.items():
        monkeypatch.setenv(variable, value)
    failure = classify(PermissionError(errno.EACCES, "Permission denied", path))
    assert path in failure.reason
    assert name in failure.remedy
    assert "space" not in str(failure)


def test_a_socket_path_that_is_too_long_names_the_folder_its_length_and_the_variable(monkeypatch):
    monkeypatch.setenv("RAY_TMPDIR", "/" + 90 * "x")
    failure = classify(OSError("AF_UNIX path length cannot exceed 107 bytes: /xxx"))
    assert "91 characters" in failure.reason
    assert "RAY_TMPDIR=/tmp" in failure.remedy
    assert "space" not in str(failure)


def test_no_folder_for_temporary_files_names_tmpdir():
    text = "No usable temporary directory found in ['/tmp', '/var/tmp']"
    assert "set TMPDIR" in classify(FileNotFoundError(errno.ENOENT, text)).remedy


def test_of_rays_words_the_last_are_kept_and_of_others_the_first():
    assert one_line(of_ray("A", "a " * 200 + "exit code 1")).endswith("exit code 1")
    assert one_line(RuntimeError("CUDA error:\n" + "advice " * 90)).startswith("CUDA error: advice")


def test_every_error_number_of_the_system_gives_one_line():
    for number in errno.errorcode:
        line = str(classify(OSError(number, os.strerror(number), "/data/x")))
        assert "again" in line
        assert "\n" not in line
