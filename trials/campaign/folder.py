"""Run folder of a campaign or sweep: settings, units, status files and notes."""

import json
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

from analysis import schema
from atat_ray.unit import BlockSpec, UnitSpec, read_outcome
from atat_ray.unit.train_stage import Trainer, train_here
from atat_ray.utils.atomic_files import write_whole
from atat_ray.utils.json_files import read_json
from trials.allocation import Assignment
from trials.campaign.creation import create_or_resume
from trials.campaign.inputs import commitments
from trials.campaign.layout import Address, FolderLayout, external_uri, kept_uri, local_uri
from trials.campaign.notes import read_note, write_note
from trials.config.load import check_settings
from trials.config.settings import Settings
from trials.tracking.kinds import RecordKind

if TYPE_CHECKING:
    from trials.campaign.verify import Check


class OtherVersion(ValueError):
    """The JSON file was written by another version of this program."""


@dataclass(frozen=True, kw_only=True)
class RunFolder(FolderLayout, ABC):
    """Units in a folder, and the status of each.

    :class:`~trials.campaign.campaign.Campaign` and :class:`~trials.search.sweep.Sweep` fill it in;
    :func:`trials.execution.run.run` runs either.

    Attributes:
        kind: of the record in MLflow.
        file_name: of the JSON file that holds the settings.
        settings_type: class of the settings.
        settings: what was registered.
        nonce: what the allocation was drawn from; empty where nothing was allocated.
        table: the units, in order; a sweep appends to it.
        tracking_uri: address of the record; followed only if it is the database in the folder, or
            if the user gave it (:meth:`at`).
        replaced: hashes under which it was registered before it was begun anew.
    """

    kind: ClassVar[RecordKind]
    file_name: ClassVar[str]
    settings_type: ClassVar[type[Settings]]
    settings: Settings
    nonce: str
    table: list[Assignment]
    tracking_uri: Address
    replaced: list[dict[str, str]] = field(default_factory=list)

    @classmethod
    def create_or_resume(cls, settings: Settings, folder: Path, tracking_uri: str | None) -> Self:
        """Register settings in a folder, or load the folder if it holds the same settings.

        A campaign or sweep in which no unit has started is begun anew with changed settings.

        Args:
            settings: of the campaign or sweep.
            folder: empty, absent, or made by an earlier call.
            tracking_uri: of MLflow; None for a database in ``folder``.

        Raises:
            ValueError: the folder holds other settings and a unit has started, another record
                address or other files.
        """
        return create_or_resume(cls, settings, folder, tracking_uri)

    def at(self, tracking_uri: str) -> Self:
        """Follow the record to the address that the user gave, which must be the one it is kept at.

        Raises:
            ValueError: the record is kept at another address.
        """
        address = external_uri(tracking_uri, self.folder) or local_uri(self.folder)
        if address != self.tracking_uri:
            raise ValueError(
                f"the record of {self.folder} is kept at {self.tracking_uri}, got {address}; give "
                "that address, or change it with `atat move`"
            )
        return replace(self, tracking_uri=address)

    @classmethod
    def is_in(cls, folder: Path) -> bool:
        """Tell whether a folder holds a campaign (or a sweep)."""
        return (folder / cls.file_name).exists()

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Load from a folder.

        Raises:
            ValueError: there is nothing to load, another version wrote it, or it is damaged.
        """
        kind = cls.kind.parent
        try:
            content = read_json(folder / cls.file_name)
            if content.get("record_version") != schema.RECORD_VERSION:
                raise OtherVersion(str(content.get("record_version", "none"))[:40])
            return cls.from_content(content, folder)
        except FileNotFoundError as error:
            raise ValueError(
                f"there is no {kind} in {folder} ({error.filename} is missing); "
                f"start one with `atat {cls.kind.command}`, or name its folder with --out"
            ) from error
        except OtherVersion as error:
            raise ValueError(
                f"the {kind} in {folder} has record version {error}, this program reads version "
                f"{schema.RECORD_VERSION}; use the version of atat-ray that made it, or start "
                "again with --out"
            ) from error
        except (ValueError, TypeError, RecursionError) as error:
            detail = " ".join(str(error).split())[:300]
            raise ValueError(
                f"the {kind} in {folder} cannot be read: {detail}; restore its files from a copy"
            ) from error

    @classmethod
    def from_content(cls, content: dict[str, Any], folder: Path) -> Self:
        """Load from the content of the JSON file.

        Raises:
            ValueError, TypeError: the content or the allocation is damaged.
        """
        missing = [name for name in ("nonce", "tracking_uri", "settings") if name not in content]
        if missing:
            raise ValueError(f"{cls.file_name} lacks {', '.join(missing)}")
        nonce, uri = content["nonce"], content["tracking_uri"]
        if not isinstance(nonce, str) or not isinstance(uri, str | None):
            raise ValueError("nonce and tracking_uri must be strings")
        replaced = content.get("replaced", [])
        if not isinstance(replaced, list) or not all(isinstance(h, dict) for h in replaced):
            raise ValueError("replaced must be a list of mappings")
        settings = check_settings(cls.settings_type, content["settings"], cls.file_name)
        return cls(
            settings=settings,
            nonce=nonce,
            table=cls.load_table(settings, nonce, FolderLayout(folder=folder)),
            folder=folder.absolute(),
            tracking_uri=kept_uri(uri, folder),
            replaced=replaced,
        )

    @classmethod
    def new_nonce(cls, settings: Any) -> str:
        """Choose what the allocation is drawn from; empty where nothing is allocated."""
        return ""

    @classmethod
    @abstractmethod
    def load_table(cls, settings: Any, nonce: str, layout: FolderLayout) -> list[Assignment]:
        """Read the units from the folder."""

    # What differs between a campaign and a sweep.

    @abstractmethod
    def hashes(self) -> dict[str, str]:
        """Hash what is committed before the first unit, by the names of the record's tags."""

    @abstractmethod
    def spec(self, row: Assignment) -> UnitSpec:
        """Specify a unit."""

    def check(self) -> None:
        """Refuse a table that is not what was drawn and committed.

        Raises:
            ValueError: the message names the first difference.
        """

    def verify(self) -> "list[Check]":
        """Recompute the allocation and compare it with folder and record.

        Raises:
            ValueError: nothing was allocated, or the record cannot be read.
        """
        raise ValueError(
            f"{self.folder} holds a {self.kind.parent}: nothing was randomised, so there is no "
            "allocation to verify; `atat report` shows what it found"
        )

    def total(self) -> int:
        """Count the units that there will be."""
        return len(self.table)

    def unproposed(self) -> int:
        """Count the units that are not proposed yet."""
        return self.total() - len(self.table)

    def arms(self) -> list[str]:
        """List the arms in the order in which they are shown."""
        return sorted({row.arm for row in self.table})

    def options(self, row: Assignment) -> dict[str, float]:
        """List the options that a unit has beside those of its arm."""
        return {}

    def trainer(self, row: Assignment) -> Trainer:
        """Return what trains a unit of one process."""
        return train_here

    def learns(self) -> bool:
        """Tell whether new units depend on the outcomes of earlier ones."""
        return False

    def scheduler(self) -> Any:
        """Make the Tune scheduler that stops units early; None in a randomised campaign."""
        return None

    def proposals(self) -> Iterator[Assignment]:
        """Generate the units that are not in the table yet, each when it is asked for."""
        return iter(())

    def layout(self) -> FolderLayout:
        """Return the paths alone, so that a task does not carry the table and the settings."""
        return FolderLayout(folder=self.folder)

    # Status of the units.

    def blocks(self) -> list[BlockSpec]:
        """Specify the blocks."""
        return [self.settings.block_spec(block) for block in self.settings.blocks]

    def pending(self) -> list[Assignment]:
        """List the units that have not ended."""
        return [row for row in self.table if self.status(row) == schema.PENDING]

    def is_over(self) -> bool:
        """Tell whether all units are known and have ended."""
        return not self.unproposed() and not self.pending()

    def is_committed(self) -> bool:
        """Tell whether the record holds the hashes of what was registered."""
        return self.committed_file.exists()

    def note_committed(self) -> None:
        """Note that the record holds the hashes of what was registered."""
        if not self.is_committed():
            write_whole(self.committed_file, json.dumps(commitments(self)).encode())

    def retry_failures(self) -> None:
        """Set failed units back to pending; the failures and their reasons stay noted."""
        for row in self.table:
            failed = self.note(row.unit_id, schema.FAILED)
            if not failed:
                continue
            folder, lost = self.unit_folder(row.unit_id), self.note(row.unit_id, "lost")
            before, entry = self.failed_before(row.unit_id), {**failed, **lost}
            if before[-1:] != [entry]:  # else an earlier call was interrupted after this line
                write_note(folder, "failed-before", {"failures": [*before, entry]})
            (folder / "lost.json").unlink(missing_ok=True)
            (folder / f"{schema.FAILED}.json").unlink(missing_ok=True)

    def statuses(self) -> dict[str, str]:
        """Return the status of each unit; every outcome is read once."""
        return {row.unit_id: self.status(row) for row in self.table}

    def failures(self, statuses: dict[str, str]) -> dict[str, str]:
        """Return the reason of each unit that has failed."""
        return {
            unit_id: self.note(unit_id, schema.FAILED).get("reason", "")
            for unit_id, status in statuses.items()
            if status == schema.FAILED
        }

    def failed_before(self, unit_id: str) -> list[dict[str, Any]]:
        """List the failures of a unit after which it was retried on request."""
        return self.note(unit_id, "failed-before").get("failures", [])

    def times_lost(self, unit_id: str) -> int:
        """Count how often the process of a unit was lost, in all its tries."""
        notes = [self.note(unit_id, "lost"), *self.failed_before(unit_id)]
        return sum(len(note.get("reasons") or []) for note in notes)

    def outcome(self, row: Assignment) -> dict[str, Any] | None:
        """Read the outcome of a unit; None if it is not finished."""
        return read_outcome(self.spec(row), self.unit_folder(row.unit_id))

    def note(self, unit_id: str, name: str) -> dict[str, Any]:
        """Read a note of a unit; empty if there is none."""
        return read_note(self.unit_folder(unit_id), name)

    def reason(self, row: Assignment) -> str:
        """Say why a unit ended without an outcome; empty if it did not."""
        ended = (status := self.status(row)) in (schema.FAILED, schema.STOPPED)
        return self.note(row.unit_id, status)["reason"] if ended else ""

    def status(self, row: Assignment) -> str:
        """Tell whether a unit is finished, failed or pending."""
        if self.outcome(row) is not None:
            return schema.FINISHED
        return schema.FAILED if self.note(row.unit_id, schema.FAILED) else schema.PENDING
