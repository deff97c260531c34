"""What ``atat`` prints after a run: how it ended, how to resume it, what a sweep found."""

import json
import shlex
import sys
from argparse import Namespace
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from atat_ray.utils.terminal import LINE, printable, printable_lines

if TYPE_CHECKING:
    from trials.campaign.folder import RunFolder
    from trials.execution.events import Summary


def print_summary(run_folder: "RunFolder", summary: "Summary", options: Namespace) -> None:
    """Print how many units finished, and why others did not."""
    from trials.execution.display import format_duration

    if options.json:
        print(json.dumps({**asdict(summary), "record": run_folder.tracking_uri}))
    else:
        print(f"{summary.finished} of {summary.total} units finished in "
              f"{format_duration(summary.seconds)}; "
              f"the record is at {run_folder.tracking_uri}")  # fmt: skip
    for unit_id, reason in summary.failed.items():
        print(f"{unit_id} failed: {printable(reason, LINE)}", file=sys.stderr)
    for unit_id, reason in summary.lost.items():
        print(f"{unit_id} has not ended: {printable(reason, LINE)}", file=sys.stderr)
    if summary.unrecorded:
        print(f"{summary.unrecorded} units are not in the record yet; "
              f"{resume_command(run_folder, options)} writes them", file=sys.stderr)  # fmt: skip


def print_sweep(run_folder: "RunFolder") -> None:
    """Write the table and figure of a sweep, and print its results."""
    from analysis.report.sweep import conclude_sweep

    name = run_folder.settings.name
    written = conclude_sweep(run_folder.tracking_uri, name, run_folder.folder / "report")
    print(f"\n{printable_lines(written.text)}\n")
    print(f"picture    {written.picture}\ntable      {written.table}")


def resume_command(run_folder: "RunFolder", options: Namespace) -> str:
    """Return the command that resumes a campaign or sweep, to be pasted into a shell."""
    is_given = getattr(options, "tracking_uri", None)
    given = ["--tracking-uri", str(run_folder.tracking_uri)] if is_given else []
    folder = str(options.out or run_folder.folder)
    words = ["atat", "resume", run_folder.settings.name, "--out", folder, *given]
    return f"`{shlex.join(words)}`"


def dashboard_command(run_folder: "RunFolder") -> str:
    """Return the address of MLflow's dashboard, or the command that opens it."""
    if run_folder.tracking_uri.startswith("http"):
        return run_folder.tracking_uri
    mlflow = Path(sys.executable).with_name("mlflow")
    if mlflow.is_relative_to(Path.cwd()):
        mlflow = mlflow.relative_to(Path.cwd())
    return shlex.join([str(mlflow), "ui", "--backend-store-uri", run_folder.tracking_uri])
