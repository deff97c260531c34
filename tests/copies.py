"""Copies of the packages in a temporary folder, to which a test adds a file and a line."""

import difflib
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGES = ("atat_ray", "trials", "analysis")


def copy_packages(folder):
    """Copy the three packages into a folder."""
    ignore = shutil.ignore_patterns("__pycache__")
    for name in PACKAGES:
        shutil.copytree(ROOT / name, folder / name, ignore=ignore)


def add_line(path, before, line):
    """Insert a line in front of the first one that starts with ``before``, spaces aside."""
    lines = path.read_text().splitlines(keepends=True)
    place = next(i for i, text in enumerate(lines) if text.lstrip().startswith(before))
    indent = lines[place][: len(lines[place]) - len(lines[place].lstrip())]
    path.write_text("".join([*lines[:place], f"{indent}{line}\n", *lines[place:]]))


def changes(folder):
    """List the files of a copy that are new, and the lines that differ from the original."""
    new, differing = [], []
    for path in sorted(path for name in PACKAGES for path in (folder / name).rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_dir() or "__pycache__" in name:
            continue
        if not (ROOT / name).exists():
            new.append(name)
        elif path.read_bytes() != (ROOT / name).read_bytes():
            pair = [text.read_text().splitlines() for text in (ROOT / name, path)]
            lines = [line for line in difflib.ndiff(*pair) if line[0] in "+-"]
            differing += [(name, line[0], line[2:].strip()) for line in lines]
    return new, differing


def run_in(folder, code):
    """Run Python code that imports the copy; return what it printed."""
    environment = {**os.environ, "PYTHONPATH": str(folder), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
