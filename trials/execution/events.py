"""What the driver does when a unit starts and ends: note it, record it, say how far it got."""

import json
import time
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from analysis import schema
from atat_ray.unit.block_assets import build_block_assets
from atat_ray.utils.stage_files import load_stage
from trials.allocation import Assignment
from trials.campaign.folder import Kept, local_uri, write_note
from trials.campaign.provenance import versions
from trials.execution.failures import cause_of, words_of
from trials.execution.progress import RUNNING, Lines, Progress, clock
from trials.tracking.connection import Unreachable
from trials.tracking.record import Record

PATIENCE = 30.0  # seconds at the end of a campaign in which a record that is away may come back
PAUSE = 60.0  # seconds in which a record that was away is not asked again; each time may cost 15


@dataclass(frozen=True, kw_only=True, slots=True)
class Summary:
    """How a run of a campaign ended.

    Attributes:
        finished: units that are finished, earlier runs included.
        total: units of the campaign.
        failed: reason by unit.
        lost: what happened to units that were lost in this run and are as they were.
        owed: units that have ended and are not in the record yet, as it could not be reached.
        seconds: wall time of this run.
    """

    finished: int
    total: int
    failed: dict[str, str]
    lost: dict[str, str]
    owed: int
    seconds: float


class Writer:
    """Writes the record from one thread, beside the scheduling, and tells the user of progress."""

    def __init__(self, campaign: Kept, screen: Lines) -> None:
        self.campaign = campaign
        self.screen = screen
        self.echo = screen.say
        self.states = {row.unit_id: campaign.status(row) for row in campaign.table}
        self.start = time.monotonic()
        self.first_start = 0.0
        self.rows = {row.unit_id: row for row in campaign.table}
        starts = [campaign.note(unit_id, "start").get("order", 0) for unit_id in self.rows]
        self.last_order = max(starts, default=0)
        self.done_here = 0
        pending = sum(state == schema.PENDING for state in self.states.values())
        self.left = campaign.total() - len(self.states) + pending
        self.again: set[str] = set()
        self.unmade: tuple[str, Exception] | None = None
        self.losses: dict[str, str] = {}
        self.thread = ThreadPoolExecutor(1)
        self.jobs: list[Future[None]] = []
        self.owed: list[Assignment] = []
        self.asked_again = 0.0  # when, by the clock of ``time.monotonic``, after it was away
        self.assets: list[dict[str, Any]] = []
        self.environment: dict[str, str] = {}
        self.record: Record | None = None

    def open(self) -> None:
        """Open the record, with what is committed in it, before any unit starts.

        A campaign that has been committed goes on where its record is away.
        """
        try:
            self.connect()
        except Unreachable as error:
            if not self.campaign.committed():
                raise ValueError(str(error)) from error
            self.echo(f"the record is away and will be written when it is back: {error}")

    def connect(self) -> Record:
        """Reach the record, register the campaign in it, and write what the blocks have once."""
        if self.record is None:
            campaign = self.campaign
            kept_here = campaign.tracking_uri == local_uri(campaign.folder)
            artifacts = campaign.folder / "artifacts" if kept_here else None
            self.environment = self.environment or versions()
            record = Record(campaign.tracking_uri, campaign.protocol.name, campaign.kind)
            tags = campaign.hashes() | {schema.VERSIONS: record.text(self.environment)}
            again = campaign.committed()
            record.register(campaign.protocol, campaign.table, tags, artifacts, again=again)
            campaign.note_committed()
            if self.assets:
                record.write_assets(self.assets)
            self.record = record
        return self.record

    def prepared(self) -> None:
        """Record what the blocks have once, and the units that an earlier run left unrecorded."""
        made = [build_block_assets(block, self.campaign.assets) for block in self.campaign.blocks()]
        self.write_assets([asset for assets in made for asset in assets])
        if self.left:
            self.echo(f"running {self.left} units of {self.campaign.total()}")

    def unprepared(self, name: str, error: Any) -> None:
        """Note that what a block has once could not be made."""
        self.unmade = (name, cause_of(error))

    def write_assets(self, assets: list[dict[str, Any]]) -> None:
        """Record descriptions of assets, and the units that an earlier run left unrecorded."""
        self.assets = assets
        self.jobs.append(self.thread.submit(self.catch_up))

    def catch_up(self) -> None:
        """Write assets, and every unit that has ended and is not recorded as it ended."""
        try:
            record = self.connect()
            record.write_assets(self.assets)
            recorded = {unit_id: unit.tags["status"] for unit_id, unit in record.units().items()}
        except Unreachable:
            self.record = None
            recorded = {}
        ended = [row for row in self.campaign.table if self.campaign.status(row) != schema.PENDING]
        self.write([row for row in ended if recorded.get(row.unit_id) != self.campaign.status(row)])

    def joined(self, row: Assignment) -> None:
        """Take up a unit that was not there at the beginning."""
        self.rows[row.unit_id], self.states[row.unit_id] = row, schema.PENDING

    def started(self, unit_id: str) -> None:
        """Note the realised order of starts; a unit that starts again keeps its first place."""
        self.first_start = self.first_start or time.monotonic()
        if not self.campaign.note(unit_id, "start"):
            self.last_order += 1
            folder = self.campaign.unit_folder(unit_id)
            write_note(folder, "start", {"order": self.last_order, "time": time.time()})
        self.states[unit_id] = RUNNING
        self.show()

    def ended(self, unit_id: str) -> None:
        """Record a unit that finished or failed; one that was stopped is as it was."""
        row = self.rows[unit_id]
        status = self.states[unit_id] = self.campaign.status(row)
        if status == schema.PENDING:
            self.echo(f"{unit_id} stopped; what is done of it is kept")
            return
        self.jobs.append(self.thread.submit(self.write, [row]))
        self.done_here += 1
        self.left -= 1
        remaining = f", about {clock(self.seconds_left() or 0)} left" * (self.left > 0)
        total = self.campaign.total()
        self.echo(f"[{total - self.left:>{len(str(total))}}/{total}] "
                  f"{unit_id} {status}{remaining}")  # fmt: skip
        self.show()

    def seconds_left(self) -> float | None:
        """Estimate what is left from the units that ended in this run; None before the first."""
        if not self.done_here:
            return None
        return (time.monotonic() - self.first_start) / self.done_here * self.left

    def show(self) -> None:
        """Show units by arm and state."""
        states = list(dict.fromkeys([*schema.STATUSES, RUNNING, *self.states.values()]))
        counts: dict[str, dict[str, int]] = {
            arm: dict.fromkeys(states, 0) for arm in self.campaign.groups()
        }
        for row in self.campaign.table:
            counts[row.arm][self.states[row.unit_id]] += 1
        minutes = max(time.monotonic() - self.first_start, 1e-9) / 60
        self.screen.show(
            Progress(
                counts=counts,
                seconds_left=self.seconds_left(),
                per_minute=self.done_here / minutes,
            )
        )

    def lost(self, unit_id: str, error: Any) -> None:
        """Note a unit that ended through no fault of its own; decide whether it runs again.

        A lost process or node, or memory that ran out, is tried again as often as the protocol
        says, and then the unit has failed. A file that cannot be written is the user's to mend: the
        unit stays as it was.
        """
        cause = cause_of(error)
        words = words_of(cause)
        self.states[unit_id] = schema.PENDING
        self.losses[unit_id] = f"{type(cause).__name__}: {words}" if words else "its process died"
        if isinstance(cause, OSError):
            self.echo(f"{unit_id} could not go on: {self.losses[unit_id]}")
            return
        folder, retries = self.campaign.unit_folder(unit_id), self.campaign.protocol.retries
        lost = [*self.campaign.note(unit_id, "lost").get("reasons", []), self.losses[unit_id]]
        write_note(folder, "lost", {"reasons": lost})
        if len(lost) <= retries:
            self.again.add(unit_id)
            self.echo(f"{unit_id} was lost and will run again ({len(lost)} of {retries} times): "
                      f"{self.losses[unit_id]}")  # fmt: skip
            return
        reason = f"lost {len(lost)} times, last by {self.losses.pop(unit_id)}"
        write_note(folder, schema.FAILED, {"reason": reason})
        self.ended(unit_id)

    def write(self, rows: list[Assignment]) -> None:
        """Write units to the record, first those that are owed; keep what it does not take."""
        was_away = bool(self.owed)
        rows = [*self.owed, *rows]
        if time.monotonic() < self.asked_again:
            self.owed = rows
            return
        for index, row in enumerate(rows):
            try:
                self.connect().write_unit(*self.content(row))
            except Unreachable as error:
                self.record, self.owed = None, rows[index:]
                self.asked_again = time.monotonic() + PAUSE
                if not was_away:
                    self.echo(f"the record is away, the campaign goes on: {error}")
                return
        self.owed = []
        if was_away:
            self.echo(f"the record is back; {len(rows)} units were written that it was owed")

    def content(self, row: Assignment) -> tuple[dict[str, str], Any, dict[str, Any], Any]:
        """Collect tags, outcome, pictures and own options of a unit that has ended."""
        campaign, spec = self.campaign, self.campaign.spec(row)
        outcome, place = campaign.outcome(row), campaign.note(row.unit_id, "place")
        pictures = {}
        if outcome is not None:
            scored = load_stage(campaign.unit_folder(row.unit_id) / "score.pt", spec.score_hash())
            if scored is None:  # somebody took it away; the outcome is whole without
                self.echo(f"{row.unit_id} is recorded without pictures: its score.pt is gone")
            for inversion, picture in (scored or {"pictures": {}})["pictures"].items():
                image = picture.permute(1, 2, 0).numpy()
                pictures[inversion] = image[:, :, 0] if image.shape[2] == 1 else image
        priors = [spec.block.prior_hash(inversion) for inversion in spec.inversions]
        tags = {
            "unit_id": row.unit_id,
            "block": row.block,
            "arm": row.arm,
            "status": campaign.status(row),
            "reason": "" if outcome else campaign.reason(row),
            "start_order": str(campaign.note(row.unit_id, "start").get("order", "")),
            "node": place.get("node", ""),
            "device": place.get("device", ""),
            "times_lost": str(campaign.times_lost(row.unit_id)),
            "failed_before": "; ".join(
                one.get("reason", "") for one in campaign.failed_before(row.unit_id)
            ),
            "git_commit": self.environment.get("git_commit", ""),
            "evaluation_sha256": spec.block.evaluation_hash(),
            "prior_sha256": ",".join(priors),
        }
        if outcome is not None and schema.SELECTED_TAG in outcome:
            tags[schema.SELECTED_TAG] = json.dumps(outcome[schema.SELECTED_TAG])
        return tags, outcome, pictures, campaign.options(row)

    def close(self) -> Summary:
        """Wait until everything is recorded or owed; raise what went wrong in writing."""
        self.thread.shutdown()
        for job in self.jobs:
            job.result()
        end = time.monotonic() + PATIENCE
        while self.owed:
            self.asked_again = 0.0
            self.write([])
            if time.monotonic() >= end:
                break
            time.sleep(1)
        status = {row.unit_id: self.campaign.status(row) for row in self.campaign.table}
        counts = list(status.values())
        if not self.owed:
            self.connect().close(nonce=self.campaign.nonce if self.campaign.over() else None)
        return Summary(
            finished=counts.count(schema.FINISHED),
            total=self.campaign.total(),
            failed={
                unit_id: self.campaign.note(unit_id, schema.FAILED)["reason"]
                for unit_id, value in status.items()
                if value == schema.FAILED
            },
            lost={u: why for u, why in self.losses.items() if status[u] == schema.PENDING},
            owed=len(self.owed),
            seconds=time.monotonic() - self.start,
        )
