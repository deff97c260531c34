"""The command ``atat``. Whatever is slow to import is imported by the command that needs it."""

import argparse
import sys
from pathlib import Path

from trials.cli import commands

EPILOG = """\
examples:
  atat plan orl-rct           what the shipped trial would do; writes nothing
  atat run orl-rct            run it, or go on with it; results in runs/orl-rct
  atat run orl-rct --rehearse   one step of everything first: does it run on this machine?
  atat status orl-rct         how far it is; atat stop orl-rct and atat resume orl-rct
  atat report orl-rct         conclude: the verdict, and a page to read
  atat sweep orl-sweep        explore lambda and epsilon before a trial; not randomised
  atat run my-trial.yaml      a trial of your own; begin with a copy of orl-rct.yaml

A protocol is named by its file or, where it ships, by its name. epsilon is in pixel units, images
in [0, 1]. Exit code 0: done; 1: something failed or does not agree; 2: something that was given is
wrong; 130: interrupted, the same command goes on.
"""

PLAN = """\
power is the share of simulated trials in which the report would show an effect. Outcomes are drawn
from Beta distributions with the means and the standard deviation given here and analysed as the
report does; the Monte Carlo standard error stands in brackets. What you assume decides the answer:
take it from the report of a campaign like this one.

examples:
  atat plan orl-rct                             is a fall from 90 % to 80 % seen?
  atat plan orl-rct --effect -30 --sd 8         a larger effect on runs that vary twice as much
  atat plan my-trial.yaml --like runs/orl-rct   hours, from the units of a campaign that ran
  atat plan facescrub-rct --probe               hours, from a step of each kind of unit here

Where the smallest p exceeds alpha no data can decide; where power is low an effect is likely to be
missed: in both cases add units or blocks.
"""


CONVERT = """\
FILE is NVIDIA's .pkl, which is read as data: nothing in it is run, and a file that asks for more
than a generator's numbers is refused. Or it is .safetensors with the names of its G_ema. The same
generator gives the same bytes, and the sha256 printed is what a protocol names it by.

example:
  atat prior convert ffhq.pkl ffhq.safetensors
"""


class WithDefenses(argparse.RawDescriptionHelpFormatter):
    """A help that ends with the list of defenses, which is made only when it is asked for."""

    def format_help(self) -> str:
        """Write the help."""
        from trials.cli.model import list_defenses

        return f"{super().format_help()}{list_defenses()}\n"


def parser() -> argparse.ArgumentParser:
    """Build the parser of the command line."""
    top = argparse.ArgumentParser(
        prog="atat",
        description="Randomised trials of training-data privacy: train, invert, measure, conclude.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    sub = top.add_subparsers(metavar="COMMAND", required=True)

    def command(name: str, help: str, **settings: object) -> argparse.ArgumentParser:
        made = sub.add_parser(name, help=help, description=help, **settings)  # type: ignore[arg-type]
        made.set_defaults(run=getattr(commands, name))
        return made

    add_plan(command)
    run = command("run", "run a campaign, or go on with it")
    run.add_argument("protocol", help="name or .yaml file")
    resume = command("resume", "go on with a campaign from its folder alone")
    sweep = command("sweep", "explore the options of a defense, or go on; nothing is randomised")
    sweep.add_argument("sweep", help="name or .yaml file")
    for made in (run, sweep):
        made.add_argument("--rehearse", action="store_true", help="take one step of every stage "
                          "of every kind of unit, then end; leaves nothing behind")  # fmt: skip
        made.add_argument("--tracking-uri", metavar="URI", help="MLflow server (default: "
                          "$MLFLOW_TRACKING_URI, else a database in the folder)")  # fmt: skip
    for made in (run, resume, sweep):
        made.add_argument("--at-a-time", type=int, metavar="N", help="units at a time (default: "
                          "all that the devices hold)")  # fmt: skip
        made.add_argument(
            "--retry-failed", action="store_true", help="run failed units again; the report says so"
        )
    stop = command("stop", "ask a running campaign to stop; nothing that is done is lost")
    status = command("status", "show how far a campaign is: units by arm and status, no outcomes")
    verify = command(
        "verify", "recompute the allocation, compare it with the folder and the record"
    )
    report = command("report", "conclude from the record: the verdict, a page, tables")
    for made in (resume, stop, status, verify, report):
        made.add_argument("campaign", help="name of the protocol")
    for made in (run, resume, sweep, stop, status, verify, report):
        made.add_argument("--out", type=Path, metavar="DIR", help="where the campaign lies "
                          "(default: runs/NAME)")  # fmt: skip
    for made in (run, resume, sweep, status, verify):
        made.add_argument("--json", action="store_true", help="print JSON, for scripts")
    doctor = command("doctor", "check Python, torch, devices, Ray, MLflow, disk and data")
    doctor.add_argument("--out", type=Path, metavar="DIR", help="folder that campaigns will go to")
    add_single(command)
    add_prior(command)
    add_data(command)
    return top


def add_plan(command: object) -> None:
    """Add the command that shows what a protocol would do."""
    plan = command(  # type: ignore[operator]
        "plan",
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
                       help="folder of a campaign whose finished units tell the hours")  # fmt: skip
    hours.add_argument("--probe", action="store_true",
                       help="measure a step of each kind of unit on this device, for the hours; "
                       "made data where files are missing")  # fmt: skip


def add_single(command: object) -> None:
    """Add the commands that handle one target model outside any campaign."""
    train = command(  # type: ignore[operator]
        "train",
        "train one target model with the settings of a protocol",
        formatter_class=WithDefenses,
        epilog="--arm takes a defense of the protocol; --defense takes any, with its options:\n"
        "  atat train runs/one --defense anti_adversarial weight=1 epsilon=0.01 steps=3 "
        "step_size=0.004 random_start=true\n\ndefenses:",
    )
    train.add_argument("folder", type=Path, help="where the model goes")
    train.add_argument("--protocol", default="orl-rct", help="whose settings (default: orl-rct)")
    train.add_argument("--arm", help="arm of the protocol (default: its first)")
    train.add_argument("--defense", nargs="+", metavar="NAME [KEY=VALUE]", help="instead of an arm")
    train.add_argument("--split", type=int, default=0, help="identity split (default: 0)")
    train.add_argument("--seed", type=int, default=0, help="of weights and order (default: 0)")
    invert = command("invert", "attack a model that `atat train` made; pictures in its folder")  # type: ignore[operator]
    invert.add_argument("folder", type=Path)
    evaluate = command("evaluate", "measure a model that `atat train` made")  # type: ignore[operator]
    evaluate.add_argument("folder", type=Path)


def add_prior(command: object) -> None:
    """Add the command for priors that somebody else trained."""
    prior = command("prior", "bring a generator that somebody else trained")  # type: ignore[operator]
    deeds = prior.add_subparsers(metavar="DEED", required=True)
    convert = deeds.add_parser(
        "convert",
        help="make a StyleGAN2 generator a file that protocols can name",
        description="Make a StyleGAN2 generator a file that protocols can name.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=CONVERT,
    )
    convert.add_argument("source", type=Path, metavar="FILE", help=".pkl or .safetensors")
    convert.add_argument("target", type=Path, metavar="OUT", help="new .safetensors file")


def add_data(command: object) -> None:
    """Add the command that looks at datasets in files."""
    data = command("data", "check a dataset before it is used")  # type: ignore[operator]
    check = data.add_subparsers(metavar="COMMAND", required=True).add_parser(
        "check", help="what was found, what is missing, what to do; 1 if it cannot be used"
    )
    check.add_argument("name", help="as data.name in a protocol, such as image_folder")
    check.add_argument("--root", type=Path, required=True, metavar="DIR", help="its folder")
    check.add_argument("--json", action="store_true", help="print JSON, for scripts")


def carry_out(arguments: list[str] | None) -> int:
    """Read the command line and do what it says; what was printed has gone out when this ends."""
    try:
        options = parser().parse_args(arguments)
        return options.run(options)
    finally:
        sys.stdout.flush()


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return its exit code."""
    try:
        return carry_out(arguments)
    except ValueError as error:
        print(f"atat: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        from trials.execution.progress import go_unheard

        go_unheard()
        return 0
    except OSError as error:
        place = f" {error.filename}" if error.filename else ""
        print(
            f"atat: cannot use{place}: {error.strerror or error}; mend that (free some space, "
            "or choose another folder with --out) and run the same command again",
            file=sys.stderr,
        )
        return 2
    except KeyboardInterrupt:
        print("atat: interrupted; what was done is kept, the same command goes on", file=sys.stderr)
        return 130
