"""Parser of the command line ``atat``: commands, options and help."""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn, Protocol

from trials.cli import commands

EPILOG = """\
examples:
  atat plan orl-rct             describe the shipped trial; writes nothing
  atat run orl-rct --rehearse   run one step of every stage on this machine
  atat run orl-rct              run the trial, or resume it; results in runs/orl-rct
  atat status orl-rct           units by arm and status; also: atat stop, atat resume
  atat report orl-rct           write the report: verdict, page, tables
  atat sweep orl-sweep          explore lambda and epsilon before a trial; not randomised
  atat run my-trial.yaml        run your own trial; start from a copy of orl-rct.yaml

Name a protocol by its file or, if it ships with atat-ray, by its name. epsilon is in pixel units,
images in [0, 1]. Exit codes: 0 done; 1 a unit or a check failed, or units are left; 2 invalid
input, or something on this machine must be changed first; 130 stopped by a signal or `atat stop`,
the same command resumes.
"""

PLAN = """\
Power is the share of simulated trials in which the report would show an effect. Outcomes are drawn
from Beta distributions with the given means and standard deviation and are analysed as in the
report. The Monte Carlo standard error is in brackets. Power depends on these assumptions: take them
from the report of a similar campaign.

examples:
  atat plan orl-rct                             power for a fall from 90 % to 80 %
  atat plan orl-rct --effect -30 --sd 8         a larger effect, runs that vary more
  atat plan my-trial.yaml --like runs/orl-rct   hours, from a finished campaign
  atat plan facescrub-rct --probe               hours, from one step of each kind of unit

If the smallest p exceeds alpha, no data can show an effect; if power is low, an effect is likely to
be missed. In both cases add units or blocks.
"""


CONVERT = """\
FILE is NVIDIA's .pkl, or a .safetensors with the tensor names of G_ema. A .pkl is read as data:
no code in it is run, and a file with anything but the numbers of a generator is refused. The same
generator gives the same bytes. A protocol needs the sha256 that is printed.

example:
  atat prior convert ffhq.pkl ffhq.safetensors
"""


class HelpWithDefenses(argparse.RawDescriptionHelpFormatter):
    """Help that ends with the list of defenses; the list is built only when help is printed."""

    def format_help(self) -> str:
        """Return the text of the help."""
        from trials.cli.model import list_defenses

        return f"{super().format_help()}{list_defenses()}\n"


class AddCommand(Protocol):
    """Function that adds a command to the parser."""

    def __call__(
        self, name: str, run: Callable[[argparse.Namespace], int], help: str, **settings: Any
    ) -> argparse.ArgumentParser: ...


class Parser(argparse.ArgumentParser):
    """Parser whose errors, which repeat what was given, hide the secrets of addresses."""

    def error(self, message: str) -> NoReturn:
        """Print the usage and the error, and exit with code 2."""
        super().error(commands.without_secrets(message))


def parser() -> argparse.ArgumentParser:
    """Build the parser of the command line."""
    top = Parser(
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
    doctor.add_argument("--out", type=Path, metavar="DIR", help="folder for campaigns")
    add_models(command)
    add_prior(command)
    add_data(command)
    return top


def add_campaigns(command: AddCommand) -> None:
    """Add the commands that run, stop, inspect and report campaigns and sweeps."""
    run = command("run", commands.run, "run a campaign, or resume it")
    run.add_argument("protocol", help="name or .yaml file")
    resume = command("resume", commands.resume, "resume a campaign or sweep from its folder")
    sweep = command(
        "sweep",
        commands.sweep,
        "explore the options of a defense, or resume a sweep; nothing is randomised",
    )
    sweep.add_argument("sweep", help="name or .yaml file")
    for each in (run, sweep):
        each.add_argument("--rehearse", action="store_true", help="run one step of every stage "
                          "of every kind of unit, then end; leaves no files")  # fmt: skip
        each.add_argument("--tracking-uri", metavar="URI", help="MLflow server (default: "
                          "$MLFLOW_TRACKING_URI, else a database in the folder)")  # fmt: skip
    address = "address of the record, if it is not in the folder (default: $MLFLOW_TRACKING_URI)"
    resume.add_argument("--tracking-uri", metavar="URI", help=address)
    for each in (run, resume, sweep):
        each.add_argument("--at-a-time", type=int, metavar="N", help="units at a time (default: "
                          "as many as the devices hold)")  # fmt: skip
        each.add_argument("--retry-failed", action="store_true", help="run failed units again; "
                          "the report says so")  # fmt: skip
    stop = command("stop", commands.stop, "ask a running campaign or sweep to stop; finished "
                   "stages are kept")  # fmt: skip
    status = command("status", commands.status, "show units by arm and status; no outcomes")
    verify = command("verify", commands.verify, "recompute the allocation, compare it with the "
                     "folder and the record")  # fmt: skip
    report = command("report", commands.report, "write the report: verdict, page, tables")
    move = command("move", commands.move, "keep the record of a campaign or sweep at another "
                   "address; checks what is there, leaves the former record")  # fmt: skip
    for each in (verify, report):
        each.add_argument("--tracking-uri", metavar="URI", help=address)
    move.add_argument("--tracking-uri", metavar="URI", required=True, help="new address; "
                      "sqlite:///FOLDER/mlflow.db for the database in the folder")  # fmt: skip
    for each in (resume, stop, status, verify, report, move):
        each.add_argument("campaign", help="name of the protocol or sweep")
    for each in (run, resume, sweep, stop, status, verify, report, move):
        each.add_argument("--out", type=Path, metavar="DIR", help="folder of the campaign "
                          "(default: runs/NAME)")  # fmt: skip
    for each in (run, resume, sweep, status, verify):
        each.add_argument("--json", action="store_true", help="print JSON, for scripts")


def add_plan(command: AddCommand) -> None:
    """Add the command that describes a protocol before it runs."""
    plan = command(
        "plan",
        commands.plan,
        "describe a protocol before it runs: units, smallest p, power, hours; writes nothing",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=PLAN,
    )
    plan.add_argument("protocol", help="name or .yaml file")
    plan.add_argument("--control", type=float, default=0.9, metavar="FRACTION",
                      help="expected outcome of the reference arm of the primary contrast "
                      "(default: 0.9)")  # fmt: skip
    plan.add_argument("--effect", type=float, default=-10.0, metavar="POINTS",
                      help="expected difference of the other arm, in percentage points "
                      "(default: -10)")  # fmt: skip
    plan.add_argument("--sd", type=float, default=4.0, metavar="POINTS",
                      help="standard deviation of the units of an arm, in percentage points "
                      "(default: 4)")  # fmt: skip
    plan.add_argument("--trials", type=int, default=500, metavar="N",
                      help="number of simulated trials (default: 500)")  # fmt: skip
    hours = plan.add_mutually_exclusive_group()
    hours.add_argument("--like", type=Path, metavar="DIR", help="estimate hours from the finished "
                       "units of the campaign in this folder")  # fmt: skip
    hours.add_argument("--probe", action="store_true",
                       help="estimate hours from one step of each kind of unit on this device; "
                       "random data replaces missing files")  # fmt: skip


def add_models(command: AddCommand) -> None:
    """Add the commands for a single target model without a campaign."""
    train = command(
        "train",
        commands.train,
        "train one target model with the settings of a protocol",
        formatter_class=HelpWithDefenses,
        epilog="--arm uses a defense of the protocol; --defense uses any defense with options:\n"
        "  atat train runs/one --defense anti_adversarial weight=1 epsilon=0.01 steps=3 "
        "step_size=0.004 random_start=true\n\ndefenses:",
    )
    train.add_argument("folder", type=Path, help="new folder of the model")
    train.add_argument("--protocol", default="orl-rct", help="protocol with the other settings "
                       "(default: orl-rct)")  # fmt: skip
    train.add_argument("--arm", help="arm of the protocol (default: its first)")
    train.add_argument("--defense", nargs="+", metavar="NAME [KEY=VALUE]", help="defense and its "
                       "options, instead of an arm")  # fmt: skip
    train.add_argument("--split", type=int, default=0, help="identity split (default: 0)")
    train.add_argument("--seed", type=int, default=0, help="seed of the initial weights and of the "
                       "order of images (default: 0)")  # fmt: skip
    invert = command(
        "invert", commands.invert, "attack a model of `atat train`; writes pictures to its folder"
    )
    invert.add_argument("folder", type=Path, help="folder of the model")
    evaluate = command("evaluate", commands.evaluate, "measure a model of `atat train`")
    evaluate.add_argument("folder", type=Path, help="folder of the model")


def add_prior(command: AddCommand) -> None:
    """Add the command that converts generators."""
    prior = command("prior", commands.convert_prior, "convert a generator for use as a prior")
    convert = prior.add_subparsers(metavar="COMMAND", required=True).add_parser(
        "convert",
        help="convert a StyleGAN2 generator for use in protocols",
        description="Convert a StyleGAN2 generator for use in protocols.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=CONVERT,
    )
    convert.add_argument("source", type=Path, metavar="FILE", help=".pkl or .safetensors")
    convert.add_argument("target", type=Path, metavar="OUT", help="new .safetensors file")


def add_data(command: AddCommand) -> None:
    """Add the command that checks datasets of image files."""
    data = command("data", commands.check_data, "check a dataset before it is used")
    check = data.add_subparsers(metavar="COMMAND", required=True).add_parser(
        "check", help="list classes, images, problems and what to do; exit code 1 if unusable"
    )
    check.add_argument("name", help="data.name of a protocol, such as image_folder")
    check.add_argument("--root", type=Path, required=True, metavar="DIR", help="folder of the "
                       "dataset")  # fmt: skip
    check.add_argument("--json", action="store_true", help="print JSON, for scripts")
