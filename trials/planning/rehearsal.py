"""Rehearse a protocol or sweep: run one step of every stage of every kind of unit.

A mistake that would end a campaign of a thousand hours ends a rehearsal within minutes. A rehearsal
neither reads nor writes the folder of a campaign, and removes its own files.
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
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from atat_ray.unit import UnitSpec
from atat_ray.unit.rehearsal import Step, rehearse, shrink
from atat_ray.utils.device import pick_device
from trials.config.settings import Settings
from trials.execution.resources import GPU_SHARE

GIB = 2**30


@dataclass(kw_only=True)
class UnitKind:
    """Units that run the same code on tensors of the same shapes.

    Attributes:
        name: arm and block of one of them.
        spec: of that unit.
        alike: names of the other sample units of this kind.
        units: number of units of this kind in the campaign.
        steps: results of the stages; empty before the rehearsal.
    """

    name: str
    spec: UnitSpec
    alike: list[str] = dataclasses.field(default_factory=list)
    units: float = 0
    steps: list[Step] = dataclasses.field(default_factory=list)

    @property
    def problem(self) -> str:
        """Name the stage that failed and the reason; empty if none failed."""
        return next((f"{step.stage}: {step.problem}" for step in self.steps if step.problem), "")


@dataclass(frozen=True, kw_only=True, slots=True)
class Rehearsal:
    """Result of a rehearsal.

    Attributes:
        name: of the protocol or sweep.
        device: on which it ran.
        kinds: kinds of unit, with the results of their stages.
        notes: differences from a run, and warnings, one line each.
    """

    name: str
    device: str
    kinds: list[UnitKind]
    notes: list[str]

    @property
    def passed(self) -> bool:
        """Tell whether every stage of every kind passed."""
        return not any(kind.problem for kind in self.kinds)


def outline(value: Any) -> Any:
    """Reduce options to what selects code and shapes: real numbers other than 0 and 1 are equal."""
    if dataclasses.is_dataclass(value):
        fields = {f.name: outline(getattr(value, f.name)) for f in dataclasses.fields(value)}
        return [type(value).__name__, fields]
    if isinstance(value, list | tuple):
        return [outline(item) for item in value]
    return "real" if isinstance(value, float) and value not in (0.0, 1.0) else value


def unit_kinds(settings: Settings) -> list[UnitKind]:
    """List the kinds of unit in a protocol or sweep.

    Units are of one kind if they have the same architecture, data, number of workers and defense.
    The size of a defense's real numbers does not count, because it changes no shape and no path
    through the code.
    """
    kinds: dict[str, UnitKind] = {}
    for name, spec, units in settings.sample_units():
        parts = (spec.architecture, spec.block.data, spec.workers, spec.defense)
        key = json.dumps([outline(part) for part in parts], default=str)
        if key not in kinds:
            kinds[key] = UnitKind(name=name, spec=spec)
        else:
            kinds[key].alike.append(name)
        kinds[key].units += units
    return list(kinds.values())


def rehearse_settings(settings: Settings, echo: Callable[[str], None]) -> Rehearsal:
    """Rehearse every kind of unit.

    Args:
        settings: of a protocol or sweep.
        echo: called with one line when a stage ends.
    """
    kinds = unit_kinds(settings)
    notes: list[str] = []
    with temporary_folder("rehearsal") as folder:
        for number, kind in enumerate(kinds, 1):
            rehearse_kind(kind, folder, f"[{number}/{len(kinds)}]", echo, notes)
    notes += memory_warnings(settings, kinds)
    return Rehearsal(name=settings.name, device=str(pick_device()), kinds=kinds, notes=notes)


@contextmanager
def temporary_folder(name: str) -> Iterator[Path]:
    """Yield a new folder and remove it afterwards, also if SIGTERM ends this process."""
    folder = Path(tempfile.mkdtemp(prefix=f"atat-{name}-"))
    # Only the main thread may set signal handlers.
    in_main = threading.current_thread() is threading.main_thread()
    previous = signal.signal(signal.SIGTERM, lambda *_: sys.exit(143)) if in_main else None
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        if in_main:
            signal.signal(signal.SIGTERM, previous)


def rehearse_kind(
    kind: UnitKind, folder: Path, place: str, echo: Callable[[str], None], notes: list[str]
) -> None:
    """Rehearse one kind of unit and store the results of its stages in ``kind.steps``.

    Args:
        kind: of unit.
        folder: for temporary files; kinds share the assets in it.
        place: number of this kind and of all kinds, as "[1/4]".
        echo: called with one line when a stage ends.
        notes: differences from a run; new ones are appended.
    """
    unit_folder = folder / "unit"

    def on_step(step: Step) -> None:
        result = f"FAILED: {step.problem}" if step.problem else f"{step.seconds:.1f} s"
        echo(f"{place} {kind.name}: {step.stage} {result}")

    narrow = pick_device().type == "cpu" and not place.startswith("[1/")
    small, differences = shrink(kind.spec, folder, narrow=narrow)
    notes += [note for note in differences if note not in notes]
    kind.steps = rehearse(small, folder / "assets", unit_folder, on_step)
    shutil.rmtree(unit_folder, ignore_errors=True)


def memory_warnings(settings: Settings, kinds: list[UnitKind]) -> list[str]:
    """Warn of kinds whose units need more memory than their share of the GPU."""
    if pick_device().type == "cpu":
        return []
    import torch

    share = 1.0 if settings.workers > 1 else settings.gpu_share or GPU_SHARE
    limit = share * torch.cuda.get_device_properties(0).total_memory
    return [
        f"{kind.name} used {peak / GIB:.1f} GiB, but gpu_share {share:g} is {limit / GIB:.1f} GiB: "
        "raise gpu_share, or lower batch_size of the training or batch of the attack"
        for kind in kinds
        if (peak := max((step.peak or 0 for step in kind.steps), default=0)) > limit
    ]
