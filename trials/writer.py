"""What the driver does when a unit starts and ends: note it, record it, say how far it got."""

import platform
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from analysis import schema
from atat_ray.stages import load_stage
from trials.allocation import Assignment
from trials.campaign import Campaign, local_uri, versions
from trials.record import Record

Echo = Callable[[str], None]


@dataclass(frozen=True, kw_only=True, slots=True)
class Summary:
    """How a run of a campaign ended.

    Attributes:
        finished: units that are finished, earlier runs included.
        total: units of the campaign.
        failed: reason by unit.
        interrupted: what happened by unit; these are as they were and run again.
        seconds: wall time of this run.
    """

    finished: int
    total: int
    failed: dict[str, str]
    interrupted: dict[str, str]
    seconds: float


class Writer:
    """Writes the record from one thread, beside the scheduling, and tells the user of progress."""

    def __init__(self, campaign: Campaign, echo: Echo) -> None:
        self.campaign = campaign
        self.echo = echo
        self.start = time.monotonic()
        self.first_start = 0.0
        self.rows = {row.unit_id: row for row in campaign.table}
        starts = [campaign.note(unit_id, "start").get("order", 0) for unit_id in self.rows]
        self.last_order = max(starts, default=0)
        self.done_here = 0
        self.left = sum(campaign.outcome(row) is None for row in campaign.table)
        self.interruptions: dict[str, str] = {}
        self.thread = ThreadPoolExecutor(1)
        self.jobs: list[Future[None]] = []
        self.record: Record | None = None

    def open(self) -> None:
        """Open the record, with protocol and allocation in it, before any unit starts."""
        campaign = self.campaign
        kept_here = campaign.tracking_uri == local_uri(campaign.folder)
        artifacts = campaign.folder / "artifacts" if kept_here else None
        self.record = Record(campaign.tracking_uri, campaign.protocol.name)
        self.record.register(campaign.protocol, campaign.table, versions(), artifacts)

    def write_assets(self, assets: list[dict[str, Any]]) -> None:
        """Record what the blocks have once, and the units that an earlier run left unrecorded."""
        assert self.record is not None, "open() comes first"
        self.record.write_assets(assets)
        recorded = {unit_id: tags["status"] for unit_id, tags in self.record.units().items()}
        for row in self.campaign.table:
            if recorded.get(row.unit_id) != schema.FINISHED and self.campaign.outcome(row):
                self.jobs.append(self.thread.submit(self.write, row))

    def started(self, unit_id: str) -> None:
        """Note the realised order of starts; a unit that starts again keeps its first place."""
        self.first_start = self.first_start or time.monotonic()
        if not self.campaign.note(unit_id, "start"):
            self.last_order += 1
            self.campaign.write_note(
                unit_id, "start", {"order": self.last_order, "node": platform.node()}
            )

    def ended(self, unit_id: str) -> None:
        """Record a unit that finished or failed."""
        row = self.rows[unit_id]
        self.jobs.append(self.thread.submit(self.write, row))
        self.done_here += 1
        self.left -= 1
        elapsed = time.monotonic() - self.first_start
        remaining = f", about {clock(elapsed / self.done_here * self.left)} left" * (self.left > 0)
        status = self.campaign.status(row)
        place = len(self.rows) - self.left
        self.echo(f"[{place:>{len(str(len(self.rows)))}}/{len(self.rows)}] "
                  f"{unit_id} {status}{remaining}")  # fmt: skip

    def interrupted(self, unit_id: str, error: str) -> None:
        """Keep what interrupted a unit; the unit stays as it was."""
        lines = [line for line in error.strip().splitlines() if line.strip()]
        self.interruptions[unit_id] = lines[-1].strip() if lines else "its process died"
        self.echo(f"{unit_id} was interrupted: {self.interruptions[unit_id]}")

    def write(self, row: Assignment) -> None:
        """Write one unit to the record."""
        assert self.record is not None, "open() comes first"
        campaign, spec = self.campaign, self.campaign.spec(row)
        outcome, start = campaign.outcome(row), campaign.note(row.unit_id, "start")
        pictures = {}
        if outcome is not None:
            scored = load_stage(campaign.unit_folder(row.unit_id) / "score.pt", spec.score_hash())
            assert scored is not None, "a unit with an outcome has been scored"
            for inversion, picture in scored["pictures"].items():
                image = picture.permute(1, 2, 0).numpy()
                pictures[inversion] = image[:, :, 0] if image.shape[2] == 1 else image
        priors = [spec.block.prior_hash(inversion) for inversion in spec.inversions]
        tags = {
            "unit_id": row.unit_id,
            "block": row.block,
            "arm": row.arm,
            "status": campaign.status(row),
            "reason": "" if outcome else campaign.note(row.unit_id, "failure").get("reason", ""),
            "start_order": str(start.get("order", "")),
            "node": start.get("node", ""),
            "evaluation_sha256": spec.block.evaluation_hash(),
            "prior_sha256": ",".join(priors),
        }
        self.record.write_unit(tags, outcome, pictures)

    def close(self) -> Summary:
        """Wait until everything is recorded; raise what went wrong in writing."""
        assert self.record is not None, "open() comes first"
        self.thread.shutdown()
        for job in self.jobs:
            job.result()
        status = {row.unit_id: self.campaign.status(row) for row in self.campaign.table}
        finished = sum(value == schema.FINISHED for value in status.values())
        self.record.close(finished=finished == len(status))
        return Summary(
            finished=finished,
            total=len(status),
            failed={
                unit_id: self.campaign.note(unit_id, "failure")["reason"]
                for unit_id, value in status.items()
                if value == schema.FAILED
            },
            interrupted=self.interruptions,
            seconds=time.monotonic() - self.start,
        )


def clock(seconds: float) -> str:
    """Write a duration as people say it: 45 s, 3 min, 2.5 h."""
    if seconds < 90:
        return f"{max(seconds, 1):.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
