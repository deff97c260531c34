"""Commands of ``atat``; :mod:`trials.cli.parser` parses their options.

Each command imports what it needs when it runs, so that ``atat --help`` is fast.
"""

import json
import os
import sys
from argparse import Namespace
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from atat_ray.utils.terminal import LINE, printable, printable_lines
from trials.cli.folders import at_given_address, check_new, check_unregistered, load
from trials.cli.summary import dashboard_command, print_summary, print_sweep, resume_command
from trials.execution.exit_codes import INTERRUPTED

if TYPE_CHECKING:
    from trials.campaign.folder import RunFolder
    from trials.config.settings import Settings


def plan(options: Namespace) -> int:
    """Describe a protocol before it runs."""
    from trials.planning.plan import describe_plan

    for line in describe_plan(options):
        print(printable(line, LINE), flush=True)
    return 0


def run(options: Namespace) -> int:
    """Run a campaign, or resume it."""
    from trials.campaign.campaign import Campaign
    from trials.config.load import read_protocol

    return start(Campaign, read_protocol(options.protocol), options)


def sweep(options: Namespace) -> int:
    """Run a sweep, or resume it, and print its results."""
    from trials.config.load import read_sweep
    from trials.search.sweep import Sweep

    return start(Sweep, read_sweep(options.sweep), options)


def start(kind: type["RunFolder"], settings: "Settings", options: Namespace) -> int:
    """Rehearse settings, or register them in a folder and run its units."""
    from trials.campaign.creation import changes_before_start
    from trials.campaign.layout import default_folder

    check_at_a_time(options)
    if options.rehearse:
        return rehearse(settings, options)
    folder = options.out or default_folder(settings.name)
    if kind.is_in(folder) and not changes_before_start(kind, settings, folder):
        run_folder = kind.create_or_resume(settings, folder, None)
        return execute(at_given_address(run_folder, options), options)
    uri = options.tracking_uri or os.environ.get("MLFLOW_TRACKING_URI")
    check_new(kind, settings, folder, uri)
    return execute(kind.create_or_resume(settings, folder, uri), options, data_checked=True)


def rehearse(settings: "Settings", options: Namespace) -> int:
    """Run one step of every stage of every kind of unit; return 0 if all stages pass."""
    from trials.cli.rehearsal_table import print_rehearsal
    from trials.execution.display import Lines
    from trials.planning.rehearsal import rehearse_settings

    lines = Lines(sys.stderr if options.json else None)
    rehearsal = rehearse_settings(settings, lines.say)
    print_rehearsal(rehearsal, as_json=options.json)
    return 0 if rehearsal.passed else 1


def resume(options: Namespace) -> int:
    """Resume a campaign or sweep from its folder alone."""
    check_at_a_time(options)
    run_folder = load(options)
    run_folder.check()
    return execute(run_folder, options)


def check_at_a_time(options: Namespace) -> None:
    """Refuse ``--at-a-time`` below 1."""
    if options.at_a_time is not None and options.at_a_time < 1:
        raise ValueError(f"--at-a-time must be 1 or more, got {options.at_a_time}")


def execute(run_folder: "RunFolder", options: Namespace, *, data_checked: bool = False) -> int:
    """Run the pending units and say how the run ended.

    Args:
        run_folder: a campaign or sweep.
        options: of the command line.
        data_checked: whether the data were read a moment ago, before the folder was written.

    Returns:
        0 if all units have ended and are recorded, 130 if a signal or ``atat stop`` stopped the
        run, else 1.
    """
    from atat_ray.utils.messages import lines_to
    from trials.campaign.creation import check_is_there
    from trials.campaign.lock import exclusive_lock
    from trials.execution.display import open_display
    from trials.execution.run import run as run_units

    if not (data_checked or run_folder.is_committed()):
        check_unregistered(run_folder)
    with (
        exclusive_lock(run_folder.folder),
        open_display(plain=options.json) as display,
        lines_to(display.say),
    ):
        if options.retry_failed:
            run_folder.retry_failures()
        try:
            summary = run_units(
                run_folder,
                at_a_time=options.at_a_time,
                display=display,
                data_checked=data_checked,
            )
        finally:
            check_is_there(run_folder)
    print_summary(run_folder, summary, options)
    if not (options.json or run_folder.kind.randomised) and summary.finished:
        print_sweep(run_folder)
    is_over = run_folder.is_over()
    if not is_over:
        print(f"{resume_command(run_folder, options)} resumes it", file=sys.stderr)
        if run_folder.stop_file.exists():
            return INTERRUPTED
    incomplete = summary.failed or summary.lost or summary.unrecorded or not is_over
    return 1 if incomplete else 0


def without_secrets(message: str) -> str:
    """Hide user and password of the addresses in a message about the command line."""
    from analysis.record.address import hide_addresses

    return hide_addresses(message)


def stop(options: Namespace) -> int:
    """Ask a running campaign or sweep to stop after the current stages of its units."""
    run_folder = load(options)
    run_folder.stop_file.touch()
    print(f"{run_folder.settings.name} stops after the current stages of its units; "
          f"{resume_command(run_folder, options)} resumes it")  # fmt: skip
    return 0


def status(options: Namespace) -> int:
    """Print units by arm and status."""
    from analysis.schema import STATUSES

    run_folder = load(options)
    run_folder.check()
    states = run_folder.statuses()
    counts = Counter((row.arm, states[row.unit_id]) for row in run_folder.table)
    shown = list(dict.fromkeys([*STATUSES, *states.values()]))
    arms = {arm: {name: counts[arm, name] for name in shown} for arm in run_folder.arms()}
    reasons = run_folder.failures(states)
    name, total = run_folder.settings.name, run_folder.total()
    if options.json:
        print(json.dumps({"campaign": name, "folder": str(run_folder.folder),
                          "record": run_folder.tracking_uri, "total": total, "arms": arms,
                          "units": states, "failed": reasons}))  # fmt: skip
        return 0
    print(f"{name} in {run_folder.folder}")
    print(f"{'arm':<16}" + "".join(f"{state:>10}" for state in shown))
    for arm, row in arms.items():
        print(f"{arm:<16}" + "".join(f"{count:>10}" for count in row.values()))
    if run_folder.unproposed():
        print(f"{run_folder.unproposed()} of {total} points have not been proposed yet")
    for unit_id, reason in reasons.items():
        print(f"{printable(unit_id)} failed: {printable(reason, LINE)}")
    return 0


def move(options: Namespace) -> int:
    """Move the record of a campaign or sweep to another address."""
    from trials.campaign.move import move_record

    without_address = {k: v for k, v in vars(options).items() if k != "tracking_uri"}
    run_folder = load(Namespace(**without_address))
    run_folder.check()
    print(move_record(run_folder, options.tracking_uri))
    moved = load(Namespace(**without_address))
    print(f"{resume_command(moved, options)} writes what is missing there")
    return 0


def verify(options: Namespace) -> int:
    """Recompute the allocation and compare it with folder and record."""
    checks = load(options).verify()
    agree = not any(check.problems for check in checks)
    if options.json:
        print(json.dumps({"agrees": agree, "checks": [asdict(check) for check in checks]}))
        return 0 if agree else 1
    for check in checks:
        print(f"{'agrees ' if not check.problems else 'DIFFERS'} {printable(check.what, LINE)}")
        for problem in check.problems:
            print(f"        {printable(problem, LINE)}")
        for note in check.notes:
            print(f"        note: {printable(note, LINE)}")
    return 0 if agree else 1


def report(options: Namespace) -> int:
    """Write the report of a campaign, or the table and figure of a sweep."""
    from analysis.report import conclude

    run_folder = load(options)
    if not run_folder.kind.randomised:
        print_sweep(run_folder)
        return 0
    name = run_folder.settings.name
    written = conclude(run_folder.tracking_uri, name, run_folder.folder / "report")
    print(f"\n{printable_lines(written.verdict)}\n")
    print(f"report     {written.page}")
    print(f"dashboard  {dashboard_command(run_folder)}")
    return 0


def doctor(options: Namespace) -> int:
    """Check this machine and print one line for each check; return 0 if all pass."""
    from trials.cli.doctor import examine

    healthy = True
    for finding in examine(options.out or Path()):
        healthy &= finding.good
        result = printable(finding.result, LINE)
        print(f"{'ok  ' if finding.good else 'BAD '} {finding.check:<10} {result}")
    return 0 if healthy else 1


def train(options: Namespace) -> int:
    """Train one target model."""
    from trials.cli import model

    return model.train(options)


def invert(options: Namespace) -> int:
    """Attack one target model."""
    from trials.cli import model

    return model.invert(options.folder)


def evaluate(options: Namespace) -> int:
    """Measure one target model."""
    from trials.cli import model

    return model.evaluate(options.folder)


def convert_prior(options: Namespace) -> int:
    """Convert a StyleGAN2 generator for use in protocols."""
    from trials.cli.prior import convert

    return convert(options.source, options.target)


def check_data(options: Namespace) -> int:
    """Check a dataset of image files."""
    from trials.cli.data import check

    return check(options)
