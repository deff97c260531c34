"""Read files in a child process with limits on time and memory.

As a program: for each path on stdin it calls the function of its suffix, prints one JSON line.
"""

import importlib
import json
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

SECONDS = 10  # of a processor, for one file; other processes do not count
GIB = 2**30


def read_all(readers, paths):
    """Read each file in one child; return its outcomes: None for a result, or the error's text.

    ``readers`` names a function, as MODULE:FUNCTION, for each suffix.
    Whatever but a result or a ValueError of one line within the limits fails the test.
    """
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(sys.path),
        "ARROW_DEFAULT_MEMORY_POOL": "system",  # the default reserves 1 GiB of addresses
    }
    done = subprocess.run(
        [sys.executable, __file__, json.dumps(readers)],
        input="\n".join(map(str, paths)),
        capture_output=True,
        text=True,
        env=environment,
    )
    outcomes = [json.loads(line) for line in done.stdout.splitlines()]
    ended = paths[len(outcomes)] if len(outcomes) < len(paths) else "none"
    assert done.returncode == 0, f"ended with {done.returncode} at {ended}: {done.stderr[-2000:]}"
    for path, (kind, said) in zip(paths, outcomes, strict=True):
        assert kind in ("result", "ValueError"), f"{path}: {kind}: {said}"
        assert "MemoryError" not in (said or ""), f"{path} took more memory than its size allows"
        assert said is None or (said.isprintable() and len(said) < 1500), f"{path}: {said!r}"
    return [said for _, said in outcomes]


def limit_memory(size):
    """Allow twice the size of a file and 1 GiB more than this process has."""
    now = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (now + 2 * size + GIB, resource.RLIM_INFINITY))


def outcome(read, path):
    """Return the kind of what a call ends in, and the message if it is an error."""
    try:
        read(path)
    except ValueError as error:
        return "ValueError", str(error)
    except BaseException as error:
        return type(error).__name__, str(error)[:500]
    return "result", None


def main():
    """Read the files on stdin."""
    readers = {}
    for suffix, function in json.loads(sys.argv[1]).items():
        module, name = function.split(":")
        readers[suffix] = getattr(importlib.import_module(module), name)
    for path in map(Path, sys.stdin.read().splitlines()):
        read = readers[path.suffix]
        limit_memory(path.stat().st_size)
        signal.setitimer(signal.ITIMER_PROF, SECONDS)  # ends the process, also inside code in C
        print(json.dumps(outcome(read, path)), flush=True)
        signal.setitimer(signal.ITIMER_PROF, 0)


if __name__ == "__main__":
    main()
