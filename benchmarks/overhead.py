"""What a campaign costs beside its units: time and memory of a whole run, measured from outside.

    .venv/bin/python benchmarks/overhead.py orl-rct --out /tmp/overhead

Runs ``atat run`` in an empty folder and prints, of the wall time between its start and its end, the
share in which the devices computed units (stage seconds of all units, divided by units at a time),
the share in which they made evaluation models and priors, and the largest memory of all processes
together (proportional set size, so that shared pages count once; read from /proc, Linux only).
"""

import argparse
import json
import subprocess
import sys
import threading
import time
from pathlib import Path


def children() -> dict[int, list[int]]:
    """Map every process to its children."""
    tree: dict[int, list[int]] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(path.read_text().rpartition(")")[2].split()[1])
        except (OSError, IndexError, ValueError):
            continue  # it ended while we looked
        tree.setdefault(parent, []).append(int(path.parent.name))
    return tree


def memory(root: int) -> tuple[int, int]:
    """Add up the proportional set size of a process and its descendants: bytes, processes."""
    tree, waiting, total, count = children(), [root], 0, 0
    while waiting:
        pid = waiting.pop()
        waiting += tree.get(pid, [])
        try:
            lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        except OSError:
            continue
        total += sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))
        count += 1
    return total, count


def measure(command: list[str]) -> tuple[float, int, int]:
    """Run a command; return its wall seconds, largest memory in bytes and number of processes."""
    start, peak, processes = time.monotonic(), 0, 0
    running = subprocess.Popen(command)
    ended = threading.Event()
    while not ended.wait(0.5):
        total, count = memory(running.pid)
        peak, processes = max(peak, total), max(processes, count)
        if running.poll() is not None:
            ended.set()
    if running.returncode:
        raise SystemExit(f"{' '.join(command)} ended with exit code {running.returncode}")
    return time.monotonic() - start, peak, processes


def unit_seconds(folder: Path) -> tuple[float, int]:
    """Add up what the units of a campaign computed."""
    outcomes = [json.loads(path.read_text()) for path in folder.glob("units/*/outcome.json")]
    return sum(sum(outcome["seconds"].values()) for outcome in outcomes), len(outcomes)


def asset_seconds(folder: Path) -> float:
    """Add up what the evaluation models and priors took."""
    import torch

    paths = folder.glob("assets/*.pt")
    return sum(torch.load(path, weights_only=True)["seconds"] for path in paths)


def main() -> None:
    """Run the campaign and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("protocol", help="name or .yaml file")
    parser.add_argument("--out", type=Path, required=True, help="folder that does not exist yet")
    parser.add_argument("--at-a-time", type=int, default=2, help="units at a time (default: 2)")
    options = parser.parse_args()
    if options.out.exists():
        parser.error(f"{options.out} exists; a campaign that is part done measures nothing")
    atat = Path(sys.executable).with_name("atat")
    slots = options.at_a_time
    wall, peak, processes = measure(
        [str(atat), "run", options.protocol, "--out", str(options.out), "--at-a-time", str(slots)]
    )
    units, count = unit_seconds(options.out)
    assets = asset_seconds(options.out)
    share = (units + assets) / slots / wall
    print(f"wall time                  {wall:7.1f} s, {count} units, {slots} at a time")
    print(
        f"units' own compute         {units / slots / wall:7.1%} of it, "
        f"{units / count:.1f} s a unit"
    )
    print(f"evaluation models, priors  {assets / slots / wall:7.1%} of it, {assets:.1f} s in all")
    print(f"everything else            {1 - share:7.1%} of it")
    print(f"largest memory             {peak / 2**30:7.2f} GiB in {processes} processes (PSS)")


if __name__ == "__main__":
    main()
