"""Run parts in processes of their own, each within a time limit, and collect their rows."""

import json
import multiprocessing
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from gpu_parts.sizes import Sizes

ROWS = "rows.jsonl"
GRACE = 5.0  # seconds that a part has beyond its limit before it is ended


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One line of the result.

    Attributes:
        part: name of the part.
        what: what was checked or measured.
        verdict: "agrees", "differs", "measured", "left out", "failed" or "out of time".
        numbers: results by name, with the unit in the name.
        note: one sentence on the result, or the reason why there is none.
    """

    part: str
    what: str
    verdict: str
    numbers: dict[str, Any] = field(default_factory=dict)
    note: str = ""


class LeftOut(Exception):
    """A measurement cannot be made here; the message says why."""


class Bench:
    """What a part is given: the device, its sizes, the time left, and a place for its rows."""

    def __init__(self, part: str, device: torch.device, sizes: Sizes, out: Path, limit: float):
        self.part, self.device, self.sizes, self.out = part, device, sizes, out
        self.end = time.monotonic() + limit

    @property
    def on_gpu(self) -> bool:
        """Tell whether the device is a GPU."""
        return self.device.type == "cuda"

    def left(self) -> float:
        """Return the seconds that are left to this part."""
        return self.end - time.monotonic()

    def write(self, what: str, verdict: str, note: str = "", **numbers: Any) -> None:
        """Append a row to the file at once, so that it survives the end of the process."""
        row = Row(part=self.part, what=what, verdict=verdict, numbers=numbers, note=note)
        with (self.out / ROWS).open("a") as file:
            file.write(json.dumps(asdict(row)) + "\n")

    def measure(self, what: str, function: Callable[[], dict[str, Any]]) -> dict[str, Any] | None:
        """Write the numbers that a function returns, or why there are none; return them.

        The function may return ``verdict`` and ``note`` among its numbers.
        """
        if self.left() <= 0:
            self.write(what, "out of time", "the part had no time left; give more --minutes")
            return None
        try:
            found = function()
        except LeftOut as reason:
            self.write(what, "left out", str(reason))
        except torch.OutOfMemoryError:
            self.write(what, "left out", "it does not fit into the memory of this GPU")
        except Exception as error:  # one failure must not lose the other rows
            text = " ".join(f"{type(error).__name__}: {error}".split())
            self.write(what, "failed", text[:300])
        else:
            self.write(what, **{"verdict": "measured", **found})
            return found
        finally:
            if self.on_gpu:
                torch.cuda.empty_cache()
        return None

    def compare(
        self, what: str, function: Callable[[], tuple[Any, Any]], *, tolerance: float
    ) -> None:
        """Write the relative difference of two tensors, that of the device and that of the CPU."""

        def both() -> dict[str, Any]:
            found, expected = function()
            difference = relative_difference(found, expected)
            verdict = "agrees" if difference <= tolerance else "differs"
            return {"verdict": verdict, "relative difference": difference, "allowed": tolerance}

        self.measure(what, both)


def relative_difference(found: torch.Tensor, expected: torch.Tensor) -> float:
    """Compute ``|found - expected| / |expected|`` in the L2 norm, in float64 on the CPU."""
    found, expected = found.detach().double().cpu(), expected.detach().double().cpu()
    return float((found - expected).norm() / expected.norm().clamp_min(1e-30))


@dataclass(frozen=True, kw_only=True, slots=True)
class Part:
    """A part of the run.

    Attributes:
        name: as on the command line and in the rows.
        title: heading in the table.
        share: of the minutes; a part that needs less leaves the rest to those after it.
        run: writes the rows.
    """

    name: str
    title: str
    share: float
    run: Callable[[Bench], None]


def work(part: Part, sizes: Sizes, out: Path, limit: float) -> None:
    """Run a part in this process, on the GPU if there is one."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if device.type == "cpu":
        torch.set_num_threads(max(1, min(torch.get_num_threads(), sizes.threads)))
    bench = Bench(part.name, device, sizes, out, limit)
    try:
        part.run(bench)
    except Exception as error:
        text = " ".join(f"{type(error).__name__}: {error}".split())
        bench.write("the rest of the part", "failed", text[:300])


def run_parts(
    parts: Sequence[Part],
    sizes: Sizes,
    out: Path,
    *,
    seconds: float,
    after_part: Callable[[Part, float], None],
) -> None:
    """Run parts one after another, each in a new process that is ended at its limit.

    The processes are forked from this one, which imports PyTorch and never starts the GPU: a crash
    or a broken GPU context ends with its part.

    Args:
        parts: in order.
        sizes: of networks and batches.
        out: folder of the rows.
        seconds: for all parts.
        after_part: called with each part and the seconds that it took.
    """
    end = time.monotonic() + seconds
    context = multiprocessing.get_context("fork")
    for number, part in enumerate(parts):
        left = end - time.monotonic()
        limit = left * part.share / sum(other.share for other in parts[number:])
        start = time.monotonic()
        process = context.Process(target=work, args=(part, sizes, out, limit))
        process.start()
        try:
            process.join(max(limit, 1) + GRACE)
            late = process.is_alive()
        finally:
            process.kill()
            process.join()
        if late:
            note = f"ended at its limit of {limit:.0f} s; what it had written is kept"
            Bench(part.name, torch.device("cpu"), sizes, out, 0).write("rest", "out of time", note)
        elif process.exitcode:
            note = f"the process ended with code {process.exitcode}; what it had written is kept"
            Bench(part.name, torch.device("cpu"), sizes, out, 0).write("rest", "failed", note)
        after_part(part, time.monotonic() - start)


def read_rows(out: Path) -> list[Row]:
    """Read the rows that the parts have written so far."""
    path = out / ROWS
    lines = path.read_text().splitlines() if path.exists() else []
    return [Row(**json.loads(line)) for line in lines]
