"""Readers of mutated files of a campaign's folder, for the child of ``bounded.read_all``.

A case is a folder with the mutated files of a campaign, beside an ``original`` campaign. Its files
replace those of a copy of the campaign while commands read it.
"""

import contextlib
import io
import shutil
from functools import cache

import mlflow.store.tracking.sqlalchemy_store as stores

from analysis import schema
from analysis.record.reader import load_record
from atat_ray.utils.stage_files import payload_hash, read_stage
from atat_ray.utils.terminal import LINE, printable_lines
from trials.campaign.campaign import Campaign
from trials.campaign.layout import local_uri
from trials.cli.program import main
from trials.execution.recorder import Recorder

LONGEST = LINE + 100  # characters of a line: of a foreign text and the words around it


def read_stage_file(path):
    """Read a stage file; fail unless it is refused or has the content of the original.

    A file with the hash of its mutated content may have another content.
    """
    payload, damage = read_stage(path)
    if payload is None:
        raise ValueError(damage)
    original, _ = read_stage(path.with_name("original.stage"))
    if payload_hash(payload) != payload_hash(original) and ".signed" not in path.name:
        raise AssertionError("a stage with other content was read")


def run(command, folder):
    """Run ``atat``; return its exit code and its lines, which must be fit to be shown."""
    output = io.StringIO()
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
        code = main([command, "tiny", "--out", str(folder)])
    lines = output.getvalue().splitlines()
    for line in lines:
        assert is_fit_to_be_shown(line), f"{command}: {line!r}"[:500]
    return code, lines


def is_fit_to_be_shown(line):
    """Tell whether a line is neither too long, nor of a defect or of memory that ran out."""
    defect = any(words in line for words in ("this is a defect", "memory ran out"))
    return not defect and line.isprintable() and len(line) < LONGEST


def read_folder(case):
    """Read a campaign with mutated files; ``verify`` agrees only with its content."""
    read(case, lambda work: shutil.copytree(case, work, dirs_exist_ok=True))


def read_database(case):
    """Read a campaign with a mutated database."""
    read(case, lambda work: shutil.copy(case, work / "mlflow.db"))


def read(case, mutate):
    """Show, verify and report a mutated copy of a campaign, and connect to its record.

    Raises:
        ValueError: a command refused it, or said that it differs.
    """
    original, work = case.with_name("original"), case.with_name(f"work-{case.stem}")
    shutil.copytree(original, work)
    mutate(work)
    try:
        codes = [run(command, work) for command in ("status", "verify")]
        refused = [lines[-1][:200] for code, lines in codes if code]
        if not refused:
            compare(Campaign.load(work), Campaign.load(original))
        if is_other(work, original):
            run("report", work)  # takes seconds
        reconnect(work)
    finally:
        forget(work)
    if refused:
        raise ValueError(refused[0])


def compare(campaign, original):
    """Fail unless two campaigns have the same allocation and outcomes, in folder and record."""
    assert campaign.hashes() == original.hashes()
    for row in original.table:
        assert campaign.outcome(row) == original.outcome(row)
    found, expected = load_record(campaign.tracking_uri, "tiny"), record_of(original.folder)
    assert found.classes.equals(expected.classes)
    outcomes = expected.units.select_dtypes("float").columns
    names = [*schema.ALLOCATION_COLUMNS, "status", *outcomes]
    kept = [name for name in names if not name.startswith(schema.SECONDS_PREFIX)]
    assert found.units[kept].equals(expected.units[kept])


@cache
def record_of(folder):
    """Read the record of a campaign that does not change, once."""
    return load_record(local_uri(folder), "tiny")


def is_other(work, original):
    """Tell whether the record of a campaign has other units than the original; False if damaged."""
    try:
        found = load_record(local_uri(work), "tiny")
    except ValueError:
        return False  # `report` says the same
    expected = record_of(original)
    return found.tags != expected.tags or not found.units.equals(expected.units)


class QuickRecorder(Recorder):
    """Recorder that copies an empty database where MLflow would need seconds to create one."""

    def set_damaged_aside(self):
        super().set_damaged_aside()
        folder = self.run_folder.folder
        shutil.copy(folder.with_name("empty.db"), folder / "mlflow.db")


def reconnect(work):
    """Open the record and write what is missing in it, as a resume does before it runs units."""
    said = []
    try:
        campaign = Campaign.load(work)
        campaign.check()
        recorder = QuickRecorder(campaign, said.append)
        try:
            recorder.open_or_postpone()
            recorder.catch_up()
        finally:
            recorder.thread.shutdown()
    except ValueError as error:
        said.append(printable_lines(str(error)))  # as the command line does
    assert all(map(is_fit_to_be_shown, said)), said


def forget(work):
    """Remove a copy, and the connections to its database."""
    engine = stores.SqlAlchemyStore._engine_map.pop(local_uri(work).full, None)
    if engine is not None:
        engine.dispose()
    shutil.rmtree(work)
