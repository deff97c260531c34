"""Parser of the command line ``atat``: commands, options, help and exit codes."""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from trials.cli import commands

EPILOG = """\
examples:
  atat plan orl-rct           what the shipped trial would do; writes nothing
  atat run orl-rct            run it, or resume it; results in runs/orl-rct
  atat run orl-rct --rehearse   first take one step of every stage on this machine
  atat status orl-rct         units by arm and status; also: atat stop, atat resume
  atat report orl-rct         write the report: the verdict, a page, tables
  atat sweep orl-sweep        explore lambda and epsilon before a trial; not randomised
  atat run my-trial.yaml      a trial of your own; start from a copy of orl-rct.yaml

A protocol is named by its file or, if it ships with atat-ray, by its name. epsilon is in pixel
units, images in [0, 1]. Exit codes: 0 done; 1 a unit failed or a check does not agree; 2 invalid
input; 130 interrupted, the same command resumes.
"""

PLAN = """\
Power is the share of simulated trials in which the report would show an effect. Outcomes are drawn
from Beta distributions with the means and the standard deviation given here, and are analysed as in
the report; the Monte Carlo standard error is in brackets. The assumptions decide the answer: take
them from the report of a similar campaign.

examples:
  atat plan orl-rct                             power for a fall from 90 % to 80 %
  atat plan orl-rct --effect -30 --sd 8         a larger effect, runs that vary more
  atat plan my-trial.yaml --like runs/orl-rct   hours, from a finished campaign
  atat plan facescrub-rct --probe               hours, from one step of each kind of unit

If the smallest p exceeds alpha, no data can show an effect; if power is low, an effect is likely to
be missed. In both cases add units or blocks.
"""


CONVERT = """\
FILE is NVIDIA's .pkl, which is read as data: no code in it is run, and a file that needs more than
the numbers of a generator is refused. Or FILE is .safetensors with the tensor names of G_ema. The
same generator gives the same bytes; a protocol names it by the sha256 that is printed.

example:
  atat prior convert ffhq.pkl ffhq.safetensors
"""


class HelpWithDefenses(argparse.RawDescriptionHelpFormatter):
    """Help that ends with the list of defenses, which is built only when help is printed."""

    def format_help(self) -> str:
        """Write the help."""
        from trials.cli.model import list_defenses

        return f"{super().format_help()}{list_defenses()}\n"


class AddCommand(Protocol):
    """Add a command to the parser."""

    def __call__(
        self, name: str, run: Callable[[argparse.Namespace], int], help: str, **settings: Any
    ) -> argparse.ArgumentParser: ...


def parser() -> argparse.ArgumentParser:
    """Build the parser of the command line."""
    top = argparse.ArgumentParser(
        prog="atat",
        description="Randomised trials of training-data privacy: train, invert, measure, conclude.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    sub = top.add_subparsers(metavar="COMMAND", required=True)

    def command(
        name: str, run: Callable[[argparse.Namespace], int], help: str, **settings: Any
    ) -> argparse.ArgumentParser:
        added = sub.add_parser(name, help=help, description=help, **settings)
        added.set_defaults(run=run)
        return added

    add_plan(command)
    add_campaigns(command)
    doctor = command(
        "doctor", commands.doctor, "check Python, torch, devices, Ray, MLflow, disk and data"
    )
    doctor.add_argument("--out", type=Path, metavar="DIR", help="folder of future campaigns")
    add_models(command)
    add_prior(command)
    add_data(command)
    return top


def add_campaigns(command: AddCommand) -> None:
    """Add the commands that run, stop, show and conclude campaigns and sweeps."""
    run = command("run", commands.run, "run a campaign, or resume it")
    run.add_argument("protocol", help="name or .yaml file")
    resume = command("resume", commands.resume, "resume a campaign from its folder alone")
    sweep = command(
        "sweep",
        commands.sweep,
        "explore the options of a defense, or resume a sweep; nothing is randomised",
    )
    sweep.add_argument("sweep", help="name or .yaml file")
    for one in (run, sweep):
        one.add_argument("--rehearse", action="store_true", help="take one step of every stage "
                         "of every kind of unit, then end; leaves no files")  # fmt: skip
        one.add_argument("--tracking-uri", metavar="URI", help="MLflow server (default: "
                         "$MLFLOW_TRACKING_URI, else a database in the folder)")  # fmt: skip
    for one in (run, resume, sweep):
        one.add_argument("--at-a-time", type=int, metavar="N", help="units at a time (default: "
                         "all that the devices hold)")  # fmt: skip
        one.add_argument("--retry-failed", action="store_true", help="run failed units again; "
                         "the report says so")  # fmt: skip
    stop = command("stop", commands.stop, "ask a running campaign to stop; finished stages are "
                   "kept")  # fmt: skip
    status = command("status", commands.status, "show units by arm and status; no outcomes")
    verify = command("verify", commands.verify, "recompute the allocation, compare it with the "
                     "folder and the record")  # fmt: skip
    report = command("report", commands.report, "write the report: the verdict, a page, tables")
    for one in (resume, stop, status, verify, report):
        one.add_argument("campaign", help="name of the protocol")
    for one in (run, resume, sweep, stop, status, verify, report):
        one.add_argument("--out", type=Path, metavar="DIR", help="folder of the campaign "
                         "(default: runs/NAME)")  # fmt: skip
    for one in (run, resume, sweep, status, verify):
        one.add_argument("--json", action="store_true", help="print JSON, for scripts")


def add_plan(command: AddCommand) -> None:
    """Add the command that shows what a protocol would do."""
    plan = command(
        "plan",
        commands.plan,
        "show what a protocol would do: units, smallest p, power, hours; writes nothing",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=PLAN,
    )
    plan.add_argument("protocol", help="name or .yaml file")
    plan.add_argument("--control", type=float, default=0.9, metavar="FRACTION",
                      help="expected outcome of the arm that the primary contrast is against "
                      "(default: 0.9)")  # fmt: skip
    plan.add_argument("--effect", type=float, default=-10.0, metavar="POINTS",
                      help="points by which the other arm differs (default: -10)")  # fmt: skip
    plan.add_argument("--sd", type=float, default=4.0, metavar="POINTS",
                      help="standard deviation of the runs of an arm (default: 4)")  # fmt: skip
    plan.add_argument("--trials", type=int, default=500, metavar="N",
                      help="simulated trials (default: 500)")  # fmt: skip
    hours = plan.add_mutually_exclusive_group()
    hours.add_argument("--like", type=Path, metavar="DIR",
                       help="folder of a campaign; its finished units give the hours")  # fmt: skip
    hours.add_argument("--probe", action="store_true",
                       help="measure one step of each kind of unit on this device, for the hours; "
                       "random data replaces missing files")  # fmt: skip


def add_models(command: AddCommand) -> None:
    """Add the commands for one target model outside any campaign."""
    train = command(
        "train",
        commands.train,
        "train one target model with the settings of a protocol",
        formatter_class=HelpWithDefenses,
        epilog="--arm takes a defense of the protocol; --defense takes any, with its options:\n"
        "  atat train runs/one --defense anti_adversarial weight=1 epsilon=0.01 steps=3 "
        "step_size=0.004 random_start=true\n\ndefenses:",
    )
    train.add_argument("folder", type=Path, help="new folder of the model")
    train.add_argument("--protocol", default="orl-rct", help="whose settings (default: orl-rct)")
    train.add_argument("--arm", help="arm of the protocol (default: its first)")
    train.add_argument("--defense", nargs="+", metavar="NAME [KEY=VALUE]", help="instead of an arm")
    train.add_argument("--split", type=int, default=0, help="identity split (default: 0)")
    train.add_argument("--seed", type=int, default=0, help="of weights and order (default: 0)")
    invert = command(
        "invert", commands.invert, "attack a model of `atat train`; writes pictures to its folder"
    )
    invert.add_argument("folder", type=Path)
    evaluate = command("evaluate", commands.evaluate, "measure a model of `atat train`")
    evaluate.add_argument("folder", type=Path)


def add_prior(command: AddCommand) -> None:
    """Add the command that converts generators."""
    prior = command("prior", commands.convert_prior, "convert a generator for use as a prior")
    convert = prior.add_subparsers(metavar="COMMAND", required=True).add_parser(
        "convert",
        help="convert a StyleGAN2 generator to a file that protocols can name",
        description="Convert a StyleGAN2 generator to a file that protocols can name.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=CONVERT,
    )
    convert.add_argument("source", type=Path, metavar="FILE", help=".pkl or .safetensors")
    convert.add_argument("target", type=Path, metavar="OUT", help="new .safetensors file")


def add_data(command: AddCommand) -> None:
    """Add the command that checks datasets in files."""
    data = command("data", commands.check_data, "check a dataset before it is used")
    check = data.add_subparsers(metavar="COMMAND", required=True).add_parser(
        "check", help="list what was found, what is missing, what to do; exit code 1 if unusable"
    )
    check.add_argument("name", help="as data.name in a protocol, such as image_folder")
    check.add_argument("--root", type=Path, required=True, metavar="DIR", help="its folder")
    check.add_argument("--json", action="store_true", help="print JSON, for scripts")


def parse_and_run(arguments: list[str] | None) -> int:
    """Parse the command line, run the command and flush its output."""
    try:
        options = parser().parse_args(arguments)
        return options.run(options)
    finally:
        sys.stdout.flush()


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return its exit code."""
    try:
        return parse_and_run(arguments)
    except ValueError as error:
        print(f"atat: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        from trials.execution.display import discard_stdout

        discard_stdout()
        return 0
    except OSError as error:
        place = f" {error.filename}" if error.filename else ""
        print(
            f"atat: cannot use{place}: {error.strerror or error}; free some space or choose "
            "another folder with --out, and run the same command again",
            file=sys.stderr,
        )
        return 2
    except KeyboardInterrupt:
        message = "atat: interrupted; finished stages are kept, the same command resumes"
        print(message, file=sys.stderr)
        return 130
