"""Classify failures: whose they are, whether they pass, and what the user can do.

Every exception of Ray, Tune, Train, torch and the file system goes through :func:`classify`, in the
driver, in the process of a unit and at the end of every command.
"""

import errno
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any

from trials.execution.remedies import advise_on_os_error

DEVICE_ERROR = re.compile(r"(CUDA|cuDNN|NCCL|HIP) error|CU(DNN|BLAS|SOLVER|FFT)_STATUS")
MEMORY_ERROR = re.compile(
    r"running low on memory|NODE_OUT_OF_MEMORY|out of memory|(can't|cannot) allocate memory|"
    r"bad_alloc",
    re.IGNORECASE,
)
MEMORY_USED = re.compile(r"[\d.]+ ?GB used / [\d.]+ ?GB limit")
THREAD_LIMIT = "can't start new thread"
LONGEST = 300  # characters of an error that are shown

# Errors of a file system or network that may be gone at the next try.
PASSING = {
    errno.EAGAIN,
    errno.EBUSY,
    errno.ECONNABORTED,
    errno.ECONNREFUSED,
    errno.ECONNRESET,
    errno.EHOSTUNREACH,
    errno.EINTR,
    errno.EIO,
    errno.ENETUNREACH,
    errno.EPIPE,
    errno.ESTALE,
    errno.ETIMEDOUT,
}
MEMORY_RAN_OUT = "memory ran out"
MEMORY_ADVICE = (
    "close other programs, run fewer units at a time with --at-a-time, or use a machine or GPU "
    "with more memory, and run the same command again"
)
RESUME_ADVICE = "finished stages are kept, the same command resumes"


class TaskLost(RuntimeError):
    """Ray lost the process of a task and left a text instead of an exception."""


class Kind(Enum):
    """Whose failure it is.

    Attributes:
        UNIT: of the unit itself; an outcome. Of a command: a defect of this program.
        INFRASTRUCTURE: a process, a node or a GPU was lost; what ran there runs again.
        MEMORY: the memory of a machine or GPU ran out; it runs again, with fewer at a time.
        ENVIRONMENT: of the user's machine, file system or installation.
    """

    UNIT = auto()
    INFRASTRUCTURE = auto()
    MEMORY = auto()
    ENVIRONMENT = auto()


@dataclass(frozen=True, kw_only=True, slots=True)
class Failure:
    """What an exception means.

    Attributes:
        kind: whose failure it is.
        reason: one line on what failed.
        remedy: what the user can do; empty where the reason says it.
        passes: whether another try may succeed although nobody does anything.
    """

    kind: Kind
    reason: str
    remedy: str = ""
    passes: bool = False

    def __str__(self) -> str:
        return f"{self.reason}; {self.remedy}" if self.remedy else self.reason


def classify(error: Any) -> Failure:
    """Classify an exception by itself and what it was raised from."""
    chain = list(causes_of(error))
    for find in (find_memory, find_environment, find_infrastructure):
        for cause in chain:
            failure = find(cause)
            if failure is not None:
                return failure
    return Failure(kind=Kind.UNIT, reason=named(chain[-1] if is_of_ray(error) else error))


def causes_of(error: Any) -> Iterator[Any]:
    """Generate an exception and those that it was raised from.

    Ray keeps what a process raised in attributes of its own. An exception that was merely handled
    at the time (``__context__``) is no cause.
    """
    waiting, seen = [error], set()
    while waiting:
        cause = waiting.pop(0)
        if id(cause) in seen:
            continue
        seen.add(id(cause))
        yield cause
        failures = getattr(cause, "worker_failures", None)  # of Ray Train, by rank
        inner = [
            getattr(cause, "cause", None),
            getattr(cause, "controller_failure", None),
            getattr(cause, "_base_exc", None),  # of Ray Train's workers
            getattr(cause, "__cause__", None),
            *(failures.values() if isinstance(failures, dict) else ()),
            *(cause.exceptions if isinstance(cause, BaseExceptionGroup) else ()),
        ]
        waiting += [one for one in inner if isinstance(one, BaseException)]


def is_of_ray(error: Any) -> bool:
    """Tell whether Ray itself raised an exception."""
    return type(error).__module__.partition(".")[0] == "ray"


def find_memory(error: Any) -> Failure | None:
    """Recognise that the memory of a machine or of a GPU ran out."""
    text = str(error)
    own_text = not carries_cause(error)  # else the text is a traceback, which may say anything
    is_runtime = own_text and (isinstance(error, RuntimeError) or is_of_ray(error))
    if not (
        isinstance(error, MemoryError)
        or type(error).__name__ == "OutOfMemoryError"  # of torch or Ray, which need not be imported
        or (isinstance(error, OSError) and error.errno == errno.ENOMEM)
        or (is_runtime and MEMORY_ERROR.search(text))
    ):
        return None
    used = MEMORY_USED.search(text)
    detail = used.group() if used else one_line(error)
    reason = f"{MEMORY_RAN_OUT} ({detail})" if detail else MEMORY_RAN_OUT
    return Failure(kind=Kind.MEMORY, reason=reason, remedy=MEMORY_ADVICE, passes=True)


def find_environment(error: Any) -> Failure | None:
    """Recognise a failure of the file system, the network or the installation."""
    if isinstance(error, ImportError):
        package = f"the Python package {error.name!r}" if error.name else "what is missing"
        remedy = f"install {package} in the environment of {sys.executable}"
        return Failure(kind=Kind.ENVIRONMENT, reason=one_line(error), remedy=remedy)
    if isinstance(error, RuntimeError) and THREAD_LIMIT in str(error):
        error = BlockingIOError(errno.EAGAIN, "no more processes or threads may be started")
    if not isinstance(error, OSError) or is_of_ray(error):
        return None
    reason, remedy = advise_on_os_error(error)
    passes = error.errno in PASSING or isinstance(error, TimeoutError | ConnectionError)
    return Failure(kind=Kind.ENVIRONMENT, reason=reason, remedy=remedy, passes=passes)


def find_infrastructure(error: Any) -> Failure | None:
    """Recognise that a process, a node or a GPU was lost.

    After a CUDA error every later CUDA call in the process fails too, so that it would fail all
    units that it is given.
    """
    broken = isinstance(error, RuntimeError) and DEVICE_ERROR.search(str(error))
    of_torch = type(error).__name__ == "AcceleratorError"
    of_ray = isinstance(error, TaskLost) or (is_of_ray(error) and not carries_cause(error))
    if not (broken or of_torch or of_ray):
        return None
    return Failure(kind=Kind.INFRASTRUCTURE, reason=named(error), remedy=RESUME_ADVICE, passes=True)


def carries_cause(error: Any) -> bool:
    """Tell whether an exception of Ray only reports what a process raised."""
    if not is_of_ray(error):
        return False
    inner = [cause for cause in causes_of(error) if cause is not error]
    return bool(inner) and not any(is_of_ray(cause) for cause in inner)


def named(error: Any) -> str:
    """Write the type of an exception and its text in one line."""
    return f"{type(error).__name__}: {one_line(error)}".removesuffix(": ")


def one_line(error: Any) -> str:
    """Write an error in one line of at most 300 characters; Ray puts the reason last."""
    text = " ".join(str(error).split())
    return text[-LONGEST:] if is_of_ray(error) else text[:LONGEST]
