"""What the commands of ``atat`` do; ``trials.cli`` says how they are called."""

import json
import os
import sys
from argparse import Namespace
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from trials.campaign.campaign import Campaign
    from trials.campaign.folder import Kept
    from trials.config.protocol import Settings
    from trials.execution.events import Summary


def plan(options: Namespace) -> int:
    """Print what a protocol would do."""
    from trials.planning import plan as planning

    return planning.plan(options)


def folder_of(options: Namespace) -> Path:
    """Find the folder of a campaign or sweep from its name and ``--out``."""
    from trials.campaign.campaign import default_folder

    return options.out or default_folder(Path(options.campaign).stem)


def kept_in(folder: Path) -> "Kept":
    """Load the campaign or the sweep that lies in a folder."""
    from trials.campaign.campaign import load
    from trials.search.sweep import SWEEP_FILE
    from trials.search.sweep import load as load_sweep

    return load_sweep(folder) if (folder / SWEEP_FILE).exists() else load(folder)


def run(options: Namespace) -> int:
    """Run a campaign, or go on with it, and say how to read it."""
    from trials.campaign.campaign import default_folder, enrol
    from trials.config.load import read_protocol

    check_at_a_time(options)
    protocol = read_protocol(options.protocol)
    folder = options.out or default_folder(protocol.name)
    if options.rehearse:
        return rehearse(protocol, options)
    return go_on(enrol(protocol, folder, check_can_run(protocol, folder, options)), options)


def rehearse(settings: "Settings", options: Namespace) -> int:
    """Take one step of everything that a protocol or sweep would do; 0 if all of it passes."""
    from trials.execution.progress import Lines
    from trials.planning import rehearsal as rehearsing

    lines = Lines(sys.stderr if options.json else None)
    return rehearsing.run(settings, lines.say, as_json=options.json)


def check_can_run(protocol: "Settings", folder: Path, options: Namespace) -> str | None:
    """Check what must be there before anything is written; return the address of MLflow, if any."""
    from trials.campaign.folder import COMMITTED_FILE
    from trials.execution.preflight import read_data
    from trials.tracking.connection import check_answers

    uri = options.tracking_uri or os.environ.get("MLFLOW_TRACKING_URI")
    if not (folder / COMMITTED_FILE).exists():
        if uri:
            check_answers(uri)
        read_data(protocol)
    return uri


def sweep(options: Namespace) -> int:
    """Run a sweep, or go on with it, and show what it found."""
    from trials.campaign.campaign import default_folder
    from trials.config.load import read_sweep
    from trials.search.sweep import begin

    check_at_a_time(options)
    settings = read_sweep(options.sweep)
    if options.rehearse:
        return rehearse(settings, options)
    folder = options.out or default_folder(settings.name)
    return go_on(begin(settings, folder, check_can_run(settings, folder, options)), options)


def resume(options: Namespace) -> int:
    """Go on with a campaign or sweep from its folder alone."""
    check_at_a_time(options)
    return go_on(checked(kept_in(folder_of(options))), options)


def checked(kept: "Kept") -> "Kept":
    """Refuse a campaign whose table is not what was drawn and committed."""
    from trials.campaign.campaign import Campaign

    if isinstance(kept, Campaign):
        kept.check_table()
    return kept


def check_at_a_time(options: Namespace) -> None:
    """Refuse a number of units at a time that is none."""
    if options.at_a_time is not None and options.at_a_time < 1:
        raise ValueError(f"--at-a-time must be 1 or more, got {options.at_a_time}")


def go_on(kept: "Kept", options: Namespace) -> int:
    """Run what is left of a campaign or sweep and say how it ended.

    Returns:
        0 if it is over and recorded, 130 if a signal stopped it before, else 1.
    """
    from trials.campaign.lock import alone
    from trials.execution.progress import clock, screen
    from trials.execution.run import run as run_campaign
    from trials.search.run import run as run_sweep
    from trials.search.sweep import Sweep

    again = again_words(kept, options)
    run_it: Callable[..., Summary] = run_sweep if isinstance(kept, Sweep) else run_campaign
    with alone(kept.folder), screen(plain=options.json) as shown:
        if options.retry_failed:
            kept.retry_failures()
        summary = run_it(kept, at_a_time=options.at_a_time, screen=shown)
    if options.json:
        print(json.dumps({**asdict(summary), "record": kept.tracking_uri}))
    else:
        print(f"{summary.finished} of {summary.total} units finished in {clock(summary.seconds)}; "
              f"the record is at {kept.tracking_uri}")  # fmt: skip
    for unit_id, reason in summary.failed.items():
        print(f"{unit_id} failed: {reason}", file=sys.stderr)
    for unit_id, reason in summary.lost.items():
        print(f"{unit_id} is not done: {reason}", file=sys.stderr)
    if summary.owed:
        print(f"the record is owed {summary.owed} units; {again} writes them", file=sys.stderr)
    if isinstance(kept, Sweep) and not options.json and any(map(kept.outcome, kept.table)):
        show_sweep(kept)
    if not kept.over():
        print(f"{again} goes on", file=sys.stderr)
        if kept.stop_file.exists() and kept.stop_file.read_text():
            return 130
    return 1 if summary.failed or summary.lost or summary.owed or not kept.over() else 0


def again_words(kept: "Kept", options: Namespace) -> str:
    """Name the command that goes on with a campaign or sweep."""
    return f"`atat resume {kept.protocol.name} --out {options.out or kept.folder}`"


def show_sweep(sweep: "Kept") -> None:
    """Show what a sweep found, from its record."""
    from analysis.report.sweep import conclude_sweep

    found = conclude_sweep(sweep.tracking_uri, sweep.protocol.name, sweep.folder / "report")
    print(f"\n{found.text}\n\npicture    {found.picture}\ntable      {found.table}")


def stop(options: Namespace) -> int:
    """Ask a running campaign or sweep to stop after the present stages of its units."""
    kept = kept_in(folder_of(options))
    kept.stop_file.touch()
    again = again_words(kept, options)
    print(f"{kept.protocol.name} stops after the present stages of its units; {again} goes on")
    return 0


def status(options: Namespace) -> int:
    """Print units by arm and status."""
    from analysis.schema.names import FAILED, STATUSES

    kept = checked(kept_in(folder_of(options)))
    states = {row.unit_id: kept.status(row) for row in kept.table}
    counts = Counter((row.arm, states[row.unit_id]) for row in kept.table)
    shown = list(dict.fromkeys([*STATUSES, *states.values()]))
    reasons = {
        unit_id: kept.note(unit_id, FAILED)["reason"]
        for unit_id, state in states.items()
        if state == FAILED
    }
    if options.json:
        arms = {arm: {s: counts[arm, s] for s in shown} for arm in kept.groups()}
        print(json.dumps({"campaign": kept.protocol.name, "folder": str(kept.folder),
                          "record": kept.tracking_uri, "total": kept.total(), "arms": arms,
                          "units": states, "failed": reasons}))  # fmt: skip
        return 0
    print(f"{kept.protocol.name} in {kept.folder}")
    print(f"{'arm':<16}" + "".join(f"{name:>10}" for name in shown))
    for arm in kept.groups():
        print(f"{arm:<16}" + "".join(f"{counts[arm, name]:>10}" for name in shown))
    if len(kept.table) < kept.total():
        print(f"{kept.total() - len(kept.table)} of {kept.total()} points are not proposed yet")
    for unit_id, reason in reasons.items():
        print(f"{unit_id} failed: {reason}")
    return 0


def doctor(options: Namespace) -> int:
    """Check what campaigns need, in one screen."""
    from trials.cli.doctor import examine

    healthy = True
    for finding in examine(options.out or Path()):
        healthy &= finding.good
        print(f"{'ok  ' if finding.good else 'BAD '} {finding.what:<10} {finding.words}")
    return 0 if healthy else 1


def verify(options: Namespace) -> int:
    """Recompute the allocation and compare it with all that was recorded."""
    from trials.campaign.verify import verify as verify_campaign

    checks = verify_campaign(randomised(kept_in(folder_of(options))))
    agree = not any(check.problems for check in checks)
    if options.json:
        print(json.dumps({"agrees": agree, "checks": [asdict(check) for check in checks]}))
        return 0 if agree else 1
    for check in checks:
        print(f"{'agrees ' if not check.problems else 'DIFFERS'} {check.what}")
        for problem in check.problems:
            print(f"        {problem}")
    return 0 if agree else 1


def randomised(kept: "Kept") -> "Campaign":
    """Refuse a sweep, in which nothing was allocated."""
    from trials.campaign.campaign import Campaign

    if not isinstance(kept, Campaign):
        raise ValueError(
            f"{kept.folder} holds a sweep: nothing was randomised, so there is no allocation to "
            "verify; `atat report` shows what it found"
        )
    return kept


def report(options: Namespace) -> int:
    """Conclude from the record."""
    from analysis.report import conclude
    from trials.search.sweep import Sweep

    kept = kept_in(folder_of(options))
    if isinstance(kept, Sweep):
        show_sweep(kept)
        return 0
    made = conclude(kept.tracking_uri, kept.protocol.name, kept.folder / "report")
    print(f"\n{made.verdict}\n")
    print(f"report     {made.page}")
    print(f"dashboard  {mlflow_command(kept)}")
    return 0


def mlflow_command(kept: "Kept") -> str:
    """Say how to open the record in MLflow's dashboard."""
    if kept.tracking_uri.startswith("http"):
        return kept.tracking_uri
    mlflow = Path(sys.executable).with_name("mlflow")
    if mlflow.is_relative_to(Path.cwd()):
        mlflow = mlflow.relative_to(Path.cwd())
    return f"{mlflow} ui --backend-store-uri {kept.tracking_uri}"


def prior(options: Namespace) -> int:
    """Convert a generator."""
    from trials.cli.prior import convert

    return convert(options.source, options.target)


def train(options: Namespace) -> int:
    """Train one target model."""
    from trials.cli import model as single
    from trials.execution.progress import Lines

    return single.train(options, Lines().say)


def invert(options: Namespace) -> int:
    """Attack one target model."""
    from trials.cli import model as single
    from trials.execution.progress import Lines

    return single.invert(options.folder, Lines().say)


def evaluate(options: Namespace) -> int:
    """Measure one target model."""
    from trials.cli import model as single
    from trials.execution.progress import Lines

    return single.evaluate(options.folder, Lines().say)


def data(options: Namespace) -> int:
    """Check a dataset in files."""
    from trials.cli import data as data_check

    return data_check.check(options)
