"""Run the command line: output, errors in one line, and exit codes."""

import io
import os
import select
import sys
import traceback
from contextlib import suppress

from atat_ray.utils.messages import lines_to
from atat_ray.utils.terminal import printable_lines
from trials.cli.parser import parser
from trials.execution.classify import Kind, classify
from trials.execution.display import discard
from trials.execution.exit_codes import DONE, INCOMPLETE, INTERRUPTED, UNUSABLE
from trials.execution.signals import INTERRUPTED_LINE, signals_as_interrupt


def parse_and_run(arguments: list[str] | None) -> int:
    """Parse the command line, run the command and flush its output."""
    try:
        options = parser().parse_args(arguments)
        with lines_to(lambda line: print(f"atat: {line}", file=sys.stderr, flush=True)):
            return options.run(options)
    finally:
        sys.stdout.flush()


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return its exit code."""
    prepare_output()
    try:
        with signals_as_interrupt():
            return parse_and_run(arguments)
    except ValueError as error:
        return complain(str(error), UNUSABLE)
    except KeyboardInterrupt:
        return complain(INTERRUPTED_LINE, INTERRUPTED)
    except Exception as error:
        if isinstance(error, BrokenPipeError) and is_stdout_closed():
            discard(sys.stdout)
            return DONE
        failure = classify(error)
        if failure.kind is Kind.UNIT:  # no unit: the command itself
            return complain(describe_defect(error), UNUSABLE)
        return complain(str(failure), UNUSABLE if failure.kind is Kind.ENVIRONMENT else INCOMPLETE)


def complain(line: str, code: int) -> int:
    """Print an error on stderr, where that is possible; return the exit code."""
    with suppress(OSError):
        print(f"atat: {printable_lines(line)}", file=sys.stderr)
    return code


def describe_defect(error: Exception) -> str:
    """Describe an exception that nobody foresaw in one line.

    Raises:
        Exception: the same, with its traceback, in Python's development mode.
    """
    if sys.flags.dev_mode:
        raise error
    place = traceback.extract_tb(error.__traceback__)[-1]
    return (
        f"unexpected {classify(error).reason} at {place.filename}:{place.lineno}; this is a defect "
        "of atat-ray: report it with the output of the same command under PYTHONDEVMODE=1"
    )


def is_stdout_closed() -> bool:
    """Tell whether the reader of stdout, such as ``head``, has ended."""
    try:
        sys.stdout.flush()
        watch = select.poll()
        watch.register(sys.stdout.fileno(), select.POLLOUT)
        # A write that failed may have left nothing to flush.
        return any(event & select.POLLERR for _, event in watch.poll(0))
    except BrokenPipeError:
        return True
    except (OSError, ValueError):  # no file of the system
        return False


def prepare_output() -> None:
    """Let no character end the program that the encoding of a stream does not have."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:  # closed by the shell
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115 - until the process ends
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
