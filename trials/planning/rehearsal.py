"""``--rehearse``: one step of every stage of every kind of unit, before a campaign is begun.

What would end a campaign of a thousand hours ends this in minutes. Nothing is left behind, and
the folder of a campaign is not looked at.
"""

import dataclasses
import json
import shutil
import signal
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from atat_ray.unit import UnitSpec
from atat_ray.unit.rehearsal import Step, rehearse, shrink
from atat_ray.utils.device import pick_device
from trials.config.protocol import Settings
from trials.execution.resources import GPU_SHARE

GIB = 2**30


@dataclass(kw_only=True)
class UnitKind:
    """Units that run the same code on tensors of the same shapes.

    Attributes:
        name: of its arm and block.
        spec: of one of its units.
        alike: names of the other sample units that it stands for.
        units: of the campaign that it stands for.
        steps: how its stages went, once they have.
    """

    name: str
    spec: UnitSpec
    alike: list[str] = dataclasses.field(default_factory=list)
    units: float = 0
    steps: list[Step] = dataclasses.field(default_factory=list)

    @property
    def problem(self) -> str:
        """Say which stage failed and why; empty if none did."""
        return next((f"{step.stage}: {step.problem}" for step in self.steps if step.problem), "")


def outline(value: Any) -> Any:
    """Write options down, without the size of real numbers that are neither 0 nor 1."""
    if dataclasses.is_dataclass(value):
        fields = {f.name: outline(getattr(value, f.name)) for f in dataclasses.fields(value)}
        return [type(value).__name__, fields]
    if isinstance(value, list | tuple):
        return [outline(item) for item in value]
    return "real" if isinstance(value, float) and value not in (0.0, 1.0) else value


def unit_kinds(settings: Settings) -> list[UnitKind]:
    """List the kinds of unit that a protocol or sweep has.

    Units are of one kind if architecture, data and workers are the same, and their defenses too but
    for the size of real numbers, which changes neither a shape nor a path through the code.
    """
    found: dict[str, UnitKind] = {}
    for name, spec, units in settings.sample_units():
        parts = (spec.architecture, spec.block.data, spec.workers, spec.defense)
        key = json.dumps([outline(part) for part in parts], default=str)
        if key not in found:
            found[key] = UnitKind(name=name, spec=spec)
        else:
            found[key].alike.append(name)
        found[key].units += units
    return list(found.values())


def run(settings: Settings, echo: Callable[[str], None], *, as_json: bool) -> int:
    """Rehearse every kind of unit and show how it went.

    Args:
        settings: of a protocol or sweep.
        echo: told a line as each stage ends.
        as_json: print one JSON object at the end instead of a table.

    Returns:
        0 if every stage of every kind passed, else 1.
    """
    found = unit_kinds(settings)
    notes: list[str] = []
    with temporary_folder("rehearsal") as folder:
        for number, kind in enumerate(found, 1):
            rehearse_kind(kind, folder, f"[{number}/{len(found)}]", echo, notes)
    notes += share_notes(settings, found)
    good = not any(kind.problem for kind in found)
    if as_json:
        print(json.dumps(as_object(settings, found, notes, good)))
    else:
        show(settings, found, notes)
    return 0 if good else 1


@contextmanager
def temporary_folder(name: str) -> Iterator[Path]:
    """Give a folder that is gone afterwards, also where SIGTERM ends this process."""
    folder = Path(tempfile.mkdtemp(prefix=f"atat-{name}-"))
    mine = threading.current_thread() is threading.main_thread()  # whose signals are
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(143)) if mine else None
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        if mine:
            signal.signal(signal.SIGTERM, before)


def rehearse_kind(
    kind: UnitKind, folder: Path, place: str, echo: Callable[[str], None], notes: list[str]
) -> None:
    """Rehearse one kind of unit in a folder whose assets it shares with the others."""
    own = folder / "unit"

    def on_step(step: Step) -> None:
        words = f"FAILED: {step.problem}" if step.problem else f"{step.seconds:.1f} s"
        echo(f"{place} {kind.name}: {step.stage} {words}")

    narrow = pick_device().type == "cpu" and not place.startswith("[1/")
    small, differing = shrink(kind.spec, folder, narrow=narrow)
    notes += [note for note in differing if note not in notes]
    kind.steps = rehearse(small, folder / "assets", own, on_step)
    shutil.rmtree(own, ignore_errors=True)


def share_notes(settings: Settings, found: list[UnitKind]) -> list[str]:
    """Warn of kinds whose units take more memory than their share of the GPU."""
    if pick_device().type == "cpu":
        return []
    import torch

    share = 1.0 if settings.workers > 1 else settings.gpu_share or GPU_SHARE
    room = share * torch.cuda.get_device_properties(0).total_memory
    return [
        f"{kind.name} used {most / GIB:.1f} GiB, and gpu_share {share:g} is {room / GIB:.1f} GiB: "
        "raise gpu_share, or lower batch_size or candidates"
        for kind in found
        if (most := max((step.peak or 0 for step in kind.steps), default=0)) > room
    ]


def as_object(
    settings: Settings, found: list[UnitKind], notes: list[str], good: bool
) -> dict[str, Any]:
    """Say how it went, as JSON holds it."""
    rows = [
        {"kind": kind.name, "alike": kind.alike, "problem": kind.problem,
         "steps": [asdict(step) for step in kind.steps]}
        for kind in found
    ]  # fmt: skip
    return {"name": settings.name, "passed": good, "device": str(pick_device()),
            "notes": notes, "kinds": rows}  # fmt: skip


def show(settings: Settings, found: list[UnitKind], notes: list[str]) -> None:
    """Print a table of the stages of each kind, what stood for what, and the verdict."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table(title=f"{settings.name}: one step of everything on {pick_device()}")
    for column in ("kind of unit", "stage", "seconds", "peak GiB", "result"):
        table.add_column(column, justify="right" if column in ("seconds", "peak GiB") else "left")
    for kind in found:
        name = f"{kind.name}, {kind.spec.architecture}"
        name += f" (and {len(kind.alike)} alike)" if kind.alike else ""
        for number, step in enumerate(kind.steps):
            table.add_row(
                escape(name) if number == 0 else "",
                escape(step.stage),
                f"{step.seconds:.1f}",
                "" if step.peak is None else f"{step.peak / GIB:.1f}",
                escape(step.problem) if step.problem else "OK",
            )
        table.add_section()
    console = Console(highlight=False)
    console.print(table)
    for note in notes:
        console.print(f"note: {note}", markup=False)
    failed = [kind for kind in found if kind.problem]
    total = sum(step.seconds for kind in found for step in kind.steps)
    verdict = f"{len(failed)} of {len(found)} kinds FAILED" if failed else "every kind of unit runs"
    console.print(f"{verdict} ({total:.0f} s)", markup=False)
