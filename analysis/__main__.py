"""Write the report of a recorded campaign.

Usage: ``python -m analysis CAMPAIGN --tracking-uri URI [--out FOLDER] [--no-log]``.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path


def main(arguments: list[str] | None = None) -> int:
    """Print the verdict and the path of the page; return 2 after one line on an error."""
    parser = argparse.ArgumentParser(
        prog="python -m analysis", description="Write the report of a recorded campaign."
    )
    parser.add_argument("campaign", help="name of the MLflow experiment")
    parser.add_argument("--tracking-uri", required=True, help="sqlite:///FILE or http://HOST:PORT")
    parser.add_argument("--out", type=Path, help="folder of the report (default: report/CAMPAIGN)")
    parser.add_argument(
        "--no-log",
        action="store_true",
        help="do not write the look and the report to the record",
    )
    options = parser.parse_args(arguments)

    from analysis.report import conclude, one_line

    folder = options.out or Path("report") / options.campaign
    try:
        report = conclude(options.tracking_uri, options.campaign, folder, log=not options.no_log)
    except (ValueError, OSError, ImportError) as error:
        print(f"error: {one_line(str(error))}", file=sys.stderr)
        return 2
    print(f"{one_line(report.verdict)}\n{report.page}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
