"""What the commands of ``atat`` do; ``trials.cli`` says how they are called."""

import os
import sys
from argparse import Namespace
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from trials.campaign import Campaign


def plan(options: Namespace) -> int:
    """Print what a protocol would do."""
    from math import comb

    from trials.allocation import draw
    from trials.reading import read_protocol

    protocol = read_protocol(options.protocol)
    table = draw(protocol)
    n, blocks = protocol.units_per_arm, len(protocol.blocks)
    print(f"{protocol.name}: {protocol.question}")
    print(f"protocol {protocol.sha256()}")
    print(f"{len(table)} units in {blocks} blocks, {n} of each arm in each block")
    for name, arm in protocol.canonical()["arms"].items():
        words = " ".join(f"{key}={value}" for key, value in arm.items() if key != "defense")
        print(f"  {name:<12}{arm['defense']} {words}")
    allocations = comb(2 * n, n) ** blocks
    for index, (name, contrast) in enumerate(protocol.contrasts.items()):
        kind = "primary" if index == 0 else "secondary"
        print(f"contrast {name} ({kind}): {contrast.arm} against {contrast.against}, "
              f"{protocol.outcome}")  # fmt: skip
    floor = min(1.0, 2 / allocations)
    print(f"smallest two-sided exact p of a contrast: {floor:.2g} ({allocations} allocations)")
    if floor > protocol.alpha:
        print(f"warning: no result can be below alpha = {protocol.alpha:g}; add units or blocks")
    return 0


def folder_of(options: Namespace) -> Path:
    """Find the folder of a campaign from its name and ``--out``."""
    from trials.campaign import default_folder

    return options.out or default_folder(Path(options.campaign).stem)


def run(options: Namespace) -> int:
    """Run a campaign and say how to read it."""
    from trials.campaign import default_folder, enrol
    from trials.reading import read_protocol
    from trials.running import run as run_campaign
    from trials.writer import clock

    if options.at_a_time is not None and options.at_a_time < 1:
        raise ValueError(f"--at-a-time must be 1 or more, got {options.at_a_time}")
    protocol = read_protocol(options.protocol)
    folder = options.out or default_folder(protocol.name)
    uri = options.tracking_uri or os.environ.get("MLFLOW_TRACKING_URI")
    if uri:
        from trials.record import check_answers

        check_answers(uri)
    campaign = enrol(protocol, folder, uri)
    summary = run_campaign(campaign, at_a_time=options.at_a_time, echo=say)
    print(f"{summary.finished} of {summary.total} units finished in {clock(summary.seconds)}; "
          f"the record is at {campaign.tracking_uri}")  # fmt: skip
    for unit_id, reason in summary.failed.items():
        print(f"{unit_id} failed: {reason}", file=sys.stderr)
    if summary.finished < summary.total:
        print(f"run `atat run {options.protocol}` again to go on", file=sys.stderr)
        return 1
    return 0


def say(line: str) -> None:
    """Print a line of progress at once."""
    print(line, flush=True)


def status(options: Namespace) -> int:
    """Print units by arm and status."""
    from analysis.schema import STATUSES
    from trials.campaign import load

    campaign = load(folder_of(options))
    counts = Counter((row.arm, campaign.status(row)) for row in campaign.table)
    print(f"{campaign.protocol.name} in {campaign.folder}")
    print(f"{'arm':<16}" + "".join(f"{name:>10}" for name in STATUSES))
    for arm in campaign.protocol.arms:
        print(f"{arm:<16}" + "".join(f"{counts[arm, name]:>10}" for name in STATUSES))
    for row in campaign.table:
        reason = campaign.note(row.unit_id, "failure").get("reason")
        if reason:
            print(f"{row.unit_id} failed: {reason}")
    return 0


def verify(options: Namespace) -> int:
    """Recompute the allocation and compare it with all that was recorded."""
    from trials.campaign import load
    from trials.verification import verify as verify_campaign

    campaign = load(folder_of(options))
    agree = True
    for check in verify_campaign(campaign):
        agree &= not check.problems
        print(f"{'agrees ' if not check.problems else 'DIFFERS'} {check.what}")
        for problem in check.problems:
            print(f"        {problem}")
    return 0 if agree else 1


def report(options: Namespace) -> int:
    """Conclude from the record."""
    from analysis.report import conclude
    from trials.campaign import load

    campaign = load(folder_of(options))
    made = conclude(campaign.tracking_uri, campaign.protocol.name, campaign.folder / "report")
    print(f"\n{made.verdict}\n")
    print(f"report     {made.page}")
    print(f"dashboard  {mlflow_command(campaign)}")
    return 0


def mlflow_command(campaign: "Campaign") -> str:
    """Say how to open the record in MLflow's dashboard."""
    if campaign.tracking_uri.startswith("http"):
        return campaign.tracking_uri
    mlflow = Path(sys.executable).with_name("mlflow")
    if mlflow.is_relative_to(Path.cwd()):
        mlflow = mlflow.relative_to(Path.cwd())
    return f"{mlflow} ui --backend-store-uri {campaign.tracking_uri}"


def train(options: Namespace) -> int:
    """Train one target model."""
    from trials import single

    if options.list:
        print(single.list_defenses())
        return 0
    if options.folder is None:
        raise ValueError("name the folder that the model goes to, or give --list")
    return single.train(options, say)


def invert(options: Namespace) -> int:
    """Attack one target model."""
    from trials import single

    return single.invert(options.folder, say)


def evaluate(options: Namespace) -> int:
    """Measure one target model."""
    from trials import single

    return single.evaluate(options.folder, say)
