"""Write the record from one thread, beside the scheduling, and catch up after an outage."""

import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from analysis import schema
from analysis.record.errors import Damaged, Unreachable
from atat_ray.utils.messages import counted
from atat_ray.utils.stage_files import MissingStage
from trials.allocation import Assignment
from trials.campaign.folder import RunFolder
from trials.campaign.inputs import registration_tags
from trials.campaign.layout import DATABASE, local_uri
from trials.campaign.provenance import versions
from trials.campaign.unit_content import pictures_of, read_all_assets, tags_of
from trials.tracking.compare import agrees
from trials.tracking.record import MlflowRecord
from trials.tracking.relocate import set_aside

CLOSE_PATIENCE = 30.0  # seconds at the end of a run in which an unreachable record may come back
OUTAGE_PAUSE = 60.0  # seconds before an unreachable record is tried again; a try may take 15


class Recorder:
    """Write a campaign or sweep to MLflow.

    Args:
        run_folder: the campaign or sweep.
        say: prints a line.

    Attributes:
        unrecorded: units that have ended and are not in the record yet.
    """

    def __init__(self, run_folder: RunFolder, say: Callable[[str], None]) -> None:
        self.run_folder = run_folder
        self.say = say
        self.unrecorded: list[Assignment] = []
        self.assets: list[dict[str, Any]] = []
        self.environment: dict[str, str] = {}
        self.record: MlflowRecord | None = None
        self.was_open = False  # in this process
        self.next_try = 0.0  # by time.monotonic()
        self.thread = ThreadPoolExecutor(1)
        self.jobs: list[Future[None]] = []

    def open_in_background(self) -> Future[None]:
        """Open the record while Ray starts; each takes seconds."""
        return self.thread.submit(self.open_or_postpone)

    def open_or_postpone(self) -> None:
        """Open the record and register the hashes, before any unit starts.

        A campaign that was registered before runs without its record.

        Raises:
            ValueError: the record cannot be reached, and nothing was registered yet.
        """
        try:
            self.connect()
        except Unreachable as error:
            if not self.run_folder.is_committed():
                raise ValueError(str(error)) from error
            self.say(f"the record cannot be reached and will be written later: {error}")

    def connect(self) -> MlflowRecord:
        """Reach the record, register the campaign in it and write the assets."""
        if self.record is None:
            try:
                record = self.register()
            except Damaged:
                is_own = self.run_folder.tracking_uri == local_uri(self.run_folder.folder)
                if self.was_open or not is_own:
                    raise  # MLflow keeps the file open, or it may hold the records of others
                self.set_damaged_aside()
                record = self.register()
            if self.assets:
                record.write_assets(self.assets)
            self.record, self.was_open = record, True
        return self.record

    def register(self) -> MlflowRecord:
        """Register the campaign in its record, or find it there."""
        run_folder = self.run_folder
        self.environment = self.environment or versions()
        record = MlflowRecord(run_folder.tracking_uri, run_folder.settings.name, run_folder.kind)
        tags = registration_tags(run_folder, record.text)
        tags[schema.VERSIONS] = record.text(self.environment)
        record.register(
            run_folder.settings,
            run_folder.table,
            tags,
            again=run_folder.is_committed(),
            replaced=run_folder.replaced,
        )
        run_folder.note_committed()
        return record

    def set_damaged_aside(self) -> None:
        """Rename the damaged database in the folder, to write the record again beside it."""
        kept = set_aside(self.run_folder.folder / DATABASE)
        self.say(
            f"the database of the record was damaged; it is kept as {kept}, and the record is "
            "written again from the folders of the units"
        )

    def record_assets(self) -> None:
        """Record the assets of all blocks, and the units that an earlier run left unrecorded."""
        try:
            self.assets = read_all_assets(self.run_folder)
        except MissingStage as error:
            self.say(f"the assets are not recorded: {error}")
        self.jobs.append(self.thread.submit(self.catch_up))

    def record_unit(self, row: Assignment) -> None:
        """Record a unit that has ended."""
        self.jobs.append(self.thread.submit(self.write, [row]))

    def catch_up(self) -> None:
        """Write the assets, and every unit that has ended and is not recorded as it ended."""
        try:
            record = self.connect()
            if self.assets:
                record.write_assets(self.assets)
            runs = record.units()
            altered = self.altered(record, runs)
        except (Unreachable, Damaged):
            self.record, runs, altered = None, {}, set()
        status = self.run_folder.statuses()
        if altered:
            units = "a unit was" if len(altered) == 1 else f"{len(altered)} units were"
            self.say(f"{units} altered in the record, or lacked artifacts; written again")
        # A unit that failed again has the same status and another reason: write_unit compares both.
        recorded = {
            unit_id
            for unit_id, run in runs.items()
            if run.data.tags.get("status") == status.get(unit_id) == schema.FINISHED
        }
        pending = {unit_id for unit_id, state in status.items() if state == schema.PENDING}
        done = pending | (recorded - altered)
        self.write([row for row in self.run_folder.table if row.unit_id not in done])

    def altered(self, record: MlflowRecord, runs: dict[str, Any]) -> set[str]:
        """List the finished units whose run in the record is not what their folder holds."""
        rows = {row.unit_id: row for row in self.run_folder.table}
        found = set()
        for unit_id, run in runs.items():
            row = rows.get(unit_id)
            outcome = None if row is None else self.run_folder.outcome(row)
            if row is None or outcome is None:
                continue
            tags = tags_of(self.run_folder, row, outcome, self.environment.get("git_commit", ""))
            pictures = pictures_of(self.run_folder, row) or {}
            if not agrees(record.store, run, tags, outcome, pictures):
                found.add(unit_id)
        return found

    def write(self, rows: list[Assignment]) -> None:
        """Write units, the unrecorded ones first; keep those that cannot be written."""
        was_unreachable = bool(self.unrecorded)
        rows = [*self.unrecorded, *rows]
        if time.monotonic() < self.next_try:
            self.unrecorded = rows
            return
        number = 0
        try:
            while rows:
                record = self.connect()
                record.write_unit(*self.content(rows[0]))
                rows, number = rows[1:], number + 1
        except (Unreachable, Damaged) as error:
            self.record, self.unrecorded = None, rows
            self.next_try = time.monotonic() + OUTAGE_PAUSE
            if not was_unreachable:
                self.say(f"the record cannot be reached, the run goes on: {error}")
            return
        self.unrecorded = []
        if was_unreachable:
            self.say(f"the record can be reached again; {counted(number, 'missing unit')} written")

    def content(
        self, row: Assignment
    ) -> tuple[dict[str, str], dict[str, Any] | None, dict[str, Any], dict[str, float]]:
        """Collect tags, outcome, pictures and own options of a unit that has ended."""
        run_folder = self.run_folder
        outcome = run_folder.outcome(row)
        tags = tags_of(run_folder, row, outcome, self.environment.get("git_commit", ""))
        pictures = {} if outcome is None else pictures_of(run_folder, row)
        if pictures is None:
            self.say(f"{row.unit_id} is recorded without pictures: its score.pt is missing")
        return tags, outcome, pictures or {}, run_folder.options(row)

    def close(self) -> None:
        """Wait until every unit is recorded or the record stays unreachable; close it.

        Raises:
            OSError, ValueError: what went wrong in the thread.
        """
        self.thread.shutdown()
        for job in self.jobs:
            job.result()
        end = time.monotonic() + CLOSE_PATIENCE
        while self.unrecorded:
            self.next_try = 0.0
            self.write([])
            if time.monotonic() >= end:
                break
            time.sleep(1)
        if not self.unrecorded:
            run_folder = self.run_folder
            self.connect().close(nonce=run_folder.nonce if run_folder.is_over() else None)
