"""A campaign: a randomised trial that has been allocated, in its folder."""

import secrets
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from analysis import schema
from atat_ray.unit import UnitSpec
from atat_ray.utils.json_files import Damaged, read_json, read_text
from trials import allocation
from trials.allocation import Assignment, Stratum
from trials.campaign.folder import RunFolder
from trials.campaign.inputs import commitments
from trials.campaign.layout import FolderLayout
from trials.config.protocol import Protocol
from trials.tracking.kinds import TRIAL

if TYPE_CHECKING:
    from trials.campaign.verify import Check


@dataclass(frozen=True, kw_only=True)
class Campaign(RunFolder):
    """An allocated trial; its table says which unit gets which arm."""

    kind = TRIAL
    file_name = "campaign.json"
    settings_type = Protocol
    settings: Protocol

    @classmethod
    def new_nonce(cls, settings: Protocol) -> str:
        """Choose what the allocation is drawn from: the seed, or 64 random hex digits."""
        return str(settings.seed) if settings.nonce == "seed" else secrets.token_hex(32)

    @classmethod
    def load_table(cls, settings: Protocol, nonce: str, layout: FolderLayout) -> list[Assignment]:
        """Read the allocation; draw it if it is not written, or was deleted."""
        path = layout.folder / schema.ALLOCATION_FILE
        if not path.exists():
            return allocation.draw(settings, nonce)
        text = read_text(path)
        try:
            return allocation.from_csv(text)
        except ValueError as error:
            raise Damaged(path, f"cannot be read: {error}") from error

    @cached_property
    def strata(self) -> dict[str, Stratum]:
        """The strata of the design, by name."""
        return {stratum.name: stratum for stratum in allocation.strata(self.settings)}

    def hashes(self) -> dict[str, str]:
        """Hash protocol, nonce and allocation, by the names of the record's tags."""
        return {
            "protocol_sha256": self.settings.sha256(),
            "nonce_sha256": allocation.sha256(self.nonce),
            "allocation_sha256": allocation.sha256(allocation.to_csv(self.table)),
        }

    def spec(self, row: Assignment) -> UnitSpec:
        """Specify a unit."""
        stratum = self.strata[row.stratum]
        return self.settings.unit_spec(
            row.unit_id, stratum.block, row.arm, seed_name=stratum.seed_name
        )

    def arms(self) -> list[str]:
        """List the arms in the order of the protocol."""
        return list(self.settings.arms)

    def check(self) -> None:
        """Refuse a table that protocol and nonce do not draw, or that was not committed.

        Raises:
            ValueError: the message names the first difference.
        """
        tampered = allocation.differences(self.table, allocation.draw(self.settings, self.nonce))
        if tampered:
            raise ValueError(
                f"{self.folder / schema.ALLOCATION_FILE} is not what the protocol draws: "
                f"{tampered[0]}; see `atat verify`, and restore the file"
            )
        broken = self.broken_commitments()
        if broken:
            raise ValueError(
                f"{self.folder} is not what was committed: {broken[0]}; see `atat verify`, and "
                "restore the folder"
            )

    def verify(self) -> "list[Check]":
        """Recompute the allocation and compare it with folder and record."""
        from trials.campaign.verify import verify

        return verify(self)

    def broken_commitments(self) -> list[str]:
        """Name the hashes that differ from those that were committed; none before that."""
        try:
            committed = read_json(self.committed_file)
        except FileNotFoundError:
            return []
        except Damaged as error:
            return [f"{self.committed_file.name} {error.problem}"]
        return [
            f"{name} is {value}, but committed was {committed.get(name)}"
            for name, value in commitments(self).items()
            if committed.get(name) != value
        ]
