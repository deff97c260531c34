"""Units that lie in a folder: what a campaign and a sweep have in common."""

import json
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from analysis import schema
from atat_ray.unit import BlockSpec, UnitSpec, read_outcome
from atat_ray.utils.atomic_files import write_whole
from trials.allocation import Assignment
from trials.config.protocol import Settings
from trials.tracking.connection import whole_address
from trials.tracking.record import Kind


def changed(old: Any, new: Any, path: str = "") -> list[str]:
    """Name the keys in which two canonical protocols differ, with both values."""
    if isinstance(old, dict) and isinstance(new, dict):
        keys = [*old, *(key for key in new if key not in old)]
        return [
            words
            for key in keys
            for words in changed(old.get(key), new.get(key), f"{path}.{key}" if path else key)
        ]
    return [] if old == new else [f"{path} from {old!r} to {new!r}"]


COMMITTED_FILE = "committed.json"


@dataclass(frozen=True, kw_only=True)
class Kept(ABC):
    """Units in a folder, and how far each of them is.

    Attributes:
        kind: of record that it leaves.
        protocol: what was registered.
        nonce: what the allocation was drawn from; empty where nothing was allocated.
        table: the units.
        folder: of stages, assets and, unless a server keeps it, the record.
        tracking_uri: of MLflow.
    """

    kind: ClassVar[Kind]
    protocol: Settings
    nonce: str
    table: list[Assignment]
    folder: Path
    tracking_uri: str

    @abstractmethod
    def hashes(self) -> dict[str, str]:
        """Hash what is committed before the first unit, by the names of the record's tags."""

    @abstractmethod
    def spec(self, row: Assignment) -> UnitSpec:
        """Specify a unit."""

    @property
    def assets(self) -> Path:
        """Folder of the evaluation models and priors."""
        return self.folder / "assets"

    def unit_folder(self, unit_id: str) -> Path:
        """Folder of the stages of a unit."""
        return self.folder / "units" / unit_id

    def blocks(self) -> list[BlockSpec]:
        """Specify what each block has once."""
        return [self.protocol.block_spec(block) for block in self.protocol.blocks]

    @property
    def stop_file(self) -> Path:
        """While it is there, no unit starts and running ones end after their present stage."""
        return self.folder / "stop"

    def pending(self) -> list[Assignment]:
        """List the units that have not ended."""
        return [row for row in self.table if self.status(row) == schema.PENDING]

    def total(self) -> int:
        """Count the units that there will be."""
        return len(self.table)

    def groups(self) -> list[str]:
        """List the arms, in the order in which they are shown."""
        return sorted({row.arm for row in self.table})

    def over(self) -> bool:
        """Tell whether every unit has ended."""
        return not self.pending()

    def committed(self) -> bool:
        """Tell whether the record has had the hashes of what was registered."""
        return (self.folder / COMMITTED_FILE).exists()

    def note_committed(self) -> None:
        """Note that the record has the hashes of what was registered."""
        if not self.committed():
            write_whole(self.folder / COMMITTED_FILE, json.dumps(self.hashes()).encode())

    def retry_failures(self) -> None:
        """Let failed units run again; that they failed, and why, stays noted of each."""
        for row in self.table:
            failed = self.note(row.unit_id, schema.FAILED)
            if not failed:
                continue
            folder, lost = self.unit_folder(row.unit_id), self.note(row.unit_id, "lost")
            before = self.failed_before(row.unit_id)
            write_note(folder, "failed-before", {"failures": [*before, {**failed, **lost}]})
            for name in (schema.FAILED, "lost"):
                (folder / f"{name}.json").unlink(missing_ok=True)

    def failed_before(self, unit_id: str) -> list[dict[str, Any]]:
        """List the failures of a unit that was then run again on request."""
        return self.note(unit_id, "failed-before").get("failures", [])

    def times_lost(self, unit_id: str) -> int:
        """Count how often a unit was lost, in all its tries."""
        notes = [self.note(unit_id, "lost"), *self.failed_before(unit_id)]
        return sum(len(note.get("reasons", [])) for note in notes)

    def options(self, row: Assignment) -> dict[str, float]:
        """List the options that a unit alone has; none in a campaign, whose arms have them."""
        return {}

    def outcome(self, row: Assignment) -> dict[str, Any] | None:
        """Read the outcome of a unit; None if it is not finished."""
        return read_outcome(self.spec(row), self.unit_folder(row.unit_id))

    def note(self, unit_id: str, name: str) -> dict[str, Any]:
        """Read a note of a unit: ``start``, ``place``, ``lost``, ``failed``, ``failed-before``."""
        try:
            return json.loads((self.unit_folder(unit_id) / f"{name}.json").read_text())
        except (OSError, ValueError):
            return {}

    def reason(self, row: Assignment) -> str:
        """Say why a unit ended without an outcome; empty if it did not."""
        return self.note(row.unit_id, self.status(row)).get("reason", "")

    def status(self, row: Assignment) -> str:
        """Tell whether a unit is finished, failed or pending."""
        if self.outcome(row) is not None:
            return schema.FINISHED
        return schema.FAILED if self.note(row.unit_id, schema.FAILED) else schema.PENDING


def write_note(folder: Path, name: str, content: dict[str, Any]) -> None:
    """Note something of a unit in its folder."""
    write_whole(folder / f"{name}.json", json.dumps(content).encode())


def local_uri(folder: Path) -> str:
    """Address of the record that is kept in the folder itself."""
    return f"sqlite:///{(folder / 'mlflow.db').absolute()}"


def kept_elsewhere(tracking_uri: str | None, folder: Path) -> str | None:
    """Write the address of a record in full; None if the folder keeps it, so that it goes along."""
    whole = tracking_uri and whole_address(tracking_uri)
    return None if whole == local_uri(folder) else whole


def check_folder(folder: Path, what: str, tracking_uri: str | None) -> None:
    """Refuse a folder in which nothing new can be begun.

    Args:
        folder: of a campaign or a sweep that is not there yet.
        what: which of them.
        tracking_uri: of MLflow; None for a database in ``folder``.

    Raises:
        ValueError: it has other content, or a name that no database's address can have.
    """
    if folder.is_dir() and any(not path.name.startswith(".") for path in folder.iterdir()):
        raise ValueError(f"{folder} is not empty and holds no {what}; choose another with --out")
    if "?" in str(folder.absolute()) and tracking_uri is None:
        raise ValueError(
            f"the database of a record cannot lie in {folder.absolute()}: its address ends at the "
            "'?'; choose another folder with --out"
        )
