"""A campaign: protocol, allocation and the folder in which its units become a record."""

import json
import secrets
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from analysis import schema
from atat_ray.unit import UnitSpec
from atat_ray.utils.atomic_files import write_whole
from trials import allocation
from trials.allocation import Assignment, Stratum
from trials.campaign.folder import (
    COMMITTED_FILE,
    Kept,
    changed,
    check_folder,
    kept_elsewhere,
    local_uri,
)
from trials.config.protocol import Protocol
from trials.tracking.record import TRIAL

CAMPAIGN_FILE = "campaign.json"


@dataclass(frozen=True, kw_only=True)
class Campaign(Kept):
    """A trial that has been allocated; its table says who gets which arm."""

    kind = TRIAL
    protocol: Protocol

    @cached_property
    def strata(self) -> dict[str, Stratum]:
        """The strata of the design, by name."""
        return {stratum.name: stratum for stratum in allocation.strata(self.protocol)}

    def hashes(self) -> dict[str, str]:
        """Hash what is committed before the first unit, by the names of the record's tags."""
        return {
            "protocol_sha256": self.protocol.sha256(),
            "nonce_sha256": allocation.sha256(self.nonce),
            "allocation_sha256": allocation.sha256(allocation.to_csv(self.table)),
        }

    def spec(self, row: Assignment) -> UnitSpec:
        """Specify a unit."""
        stratum = self.strata[row.block]
        return self.protocol.unit_spec(
            row.unit_id, stratum.block, row.arm, seed_name=stratum.seed_name
        )

    def groups(self) -> list[str]:
        """List the arms in the order of the protocol."""
        return list(self.protocol.arms)

    def check_table(self) -> None:
        """Refuse a table that is not what protocol and nonce draw, or not what was committed.

        Raises:
            ValueError: the message names the first difference.
        """
        tampered = allocation.differences(self.table, allocation.draw(self.protocol, self.nonce))
        if tampered:
            raise ValueError(
                f"{self.folder / schema.ALLOCATION_FILE} is not what the protocol draws: "
                f"{tampered[0]}; see `atat verify`, and put it back as it was"
            )
        broken = self.broken_commitments()
        if broken:
            raise ValueError(
                f"{self.folder} is not what was committed: {broken[0]}; see `atat verify`, and put "
                "it back as it was"
            )

    def broken_commitments(self) -> list[str]:
        """Name the hashes that are not those that were committed; none before that."""
        try:
            committed = dict(json.loads((self.folder / COMMITTED_FILE).read_text()))
        except FileNotFoundError:
            return []
        except (ValueError, TypeError) as error:
            return [f"{COMMITTED_FILE} cannot be read: {error}"]
        return [
            f"{name} is {value}, committed was {committed.get(name)}"
            for name, value in self.hashes().items()
            if committed.get(name) != value
        ]


def default_folder(name: str) -> Path:
    """Where a campaign lies unless told otherwise."""
    return Path("runs") / name


def enrol(protocol: Protocol, folder: Path, tracking_uri: str | None) -> Campaign:
    """Draw the allocation and write it down, or go on with the one that is written.

    Args:
        protocol: of the campaign.
        folder: of the campaign.
        tracking_uri: of MLflow; None for a database in ``folder``.

    Raises:
        ValueError: the folder holds another protocol; the message names what differs.
    """
    tracking_uri = kept_elsewhere(tracking_uri, folder)
    if (folder / CAMPAIGN_FILE).exists():
        campaign = load(folder)
        changes = changed(campaign.protocol.canonical(), protocol.canonical())
        if changes:
            raise ValueError(
                f"{folder} holds a campaign of another protocol; changed: {'; '.join(changes)}. "
                "Go on with the protocol as it was, or start another campaign with --out"
            )
        if tracking_uri not in (None, campaign.tracking_uri):
            raise ValueError(
                f"the record of {folder} is kept at {campaign.tracking_uri}, got {tracking_uri}; "
                "leave the address out to go on"
            )
        campaign.check_table()
        return campaign
    check_folder(folder, "campaign", tracking_uri)
    nonce = str(protocol.seed) if protocol.nonce == "seed" else secrets.token_hex(32)
    content = {"protocol": protocol.canonical(), "nonce": nonce, "tracking_uri": tracking_uri}
    write_whole(folder / CAMPAIGN_FILE, json.dumps(content, indent=1).encode())
    return load(folder)


def load(folder: Path) -> Campaign:
    """Load a campaign from its folder; a table that was not written yet is drawn.

    Raises:
        ValueError: there is none, or its files cannot be read.
    """
    try:
        content = json.loads((folder / CAMPAIGN_FILE).read_text())
        protocol, nonce = Protocol.model_validate(content["protocol"]), content["nonce"]
        uri = content["tracking_uri"]
        if not isinstance(nonce, str) or not isinstance(uri, str | None):
            raise ValueError("nonce and tracking_uri are texts")
        path = folder / schema.ALLOCATION_FILE
        if not path.exists():
            write_whole(path, allocation.to_csv(allocation.draw(protocol, nonce)).encode())
        table = allocation.from_csv(path.read_text())
    except FileNotFoundError as error:
        raise ValueError(
            f"there is no campaign in {folder} ({error.filename} is missing); "
            "start one with `atat run PROTOCOL`, or name its folder with --out"
        ) from error
    except (ValueError, KeyError, TypeError) as error:
        detail = " ".join(str(error).split())
        raise ValueError(f"the campaign in {folder} cannot be read: {detail}") from error
    return Campaign(
        protocol=protocol,
        nonce=nonce,
        table=table,
        folder=folder.absolute(),
        tracking_uri=uri or local_uri(folder),
    )
