"""Attack the three arms of orl-rct as an attacker would who knows of the defense.

    .venv/bin/python benchmarks/adaptive_attacks.py runs/adaptive --seeds 2

Trains control, treatment and placebo on splits 0 and 1, which no trial uses, and attacks each
target model with PPA, with PPA of three times the budget, through a smoothed target model, through
students, and through students together with the target model. Results are stored in the folder and
reused; ``table.md`` there has the table. A target model and its attacks take about three
CPU-minutes, the evaluation models and priors of a split two.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from atat_ray.unit import UnitSpec, build_block_assets, run_unit
from atat_ray.utils.atomic_files import write_whole
from trials.config.load import check_protocol, read_protocol
from trials.config.protocol import Protocol

SPLITS = (0, 1)  # no trial uses them
# By name of an inversion: changes of PPA's options, and what it attacks in place of the target.
ATTACKS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "ppa": ({}, {}),
    "ppa-3x": ({"steps": 100}, {}),
    "smoothed": ({}, {"smoothing": {"preset": "quick"}}),
    "students": ({}, {"students": {"preset": "quick"}}),
    "students-and-target": ({}, {"students": {"preset": "quick", "with_target": True}}),
}
SMALL = {"samples": 12, "candidates": 2, "keep": 2, "views": 2, "steps": 2}
SMALL_STUDENTS = {"samples": 32, "steps": 4}


def protocol(*, small: bool) -> Protocol:
    """Return orl-rct with these attacks, on the splits that no trial uses, with another seed.

    Args:
        small: whether every budget is so small that the numbers mean nothing.
    """
    content = read_protocol("orl-rct").canonical()
    standard = content["inversions"]["standard"]
    inversions = {}
    for name, (changes, beside) in ATTACKS.items():
        options = standard["ppa"] | changes | (SMALL if small else {})
        inversions[name] = {"prior": standard["prior"], "ppa": options, **beside}
        if small and "students" in beside:
            inversions[name]["students"] = beside["students"] | SMALL_STUDENTS
    if small:
        for part in (content, content["evaluation"]):
            part["training"] = part["training"] | {"epochs": 2}
    changed = {
        "seed": 20261128,
        "blocks": {f"split-{split}": {"split": split} for split in SPLITS},
        "inversions": inversions,
        "outcome": "ppa/att_acc_1",
        "robustness": content["robustness"] | {"epsilons": []},
    }
    return check_protocol(content | changed, "adaptive-attacks")


def measured(spec: UnitSpec, folder: Path, assets: Path) -> dict[str, Any]:
    """Run a unit, or read its outcome; return it with the CPU-seconds of each stage.

    The seconds of a stage that was interrupted are those since it was resumed.
    """
    path = folder / "cpu.json"
    seconds: dict[str, float] = json.loads(path.read_text()) if path.exists() else {}
    now: dict[str, Any] = {"stage": "", "start": 0.0}

    def begin(stage: str) -> None:
        if now["stage"]:
            seconds.setdefault(now["stage"], time.process_time() - now["start"])
            write_whole(path, json.dumps(seconds).encode())
        now.update(stage=stage, start=time.process_time())

    outcome = run_unit(spec, assets=assets, folder=folder, on_stage=begin)
    begin("")
    return {**outcome, "cpu": seconds}


def rows_of(options: argparse.Namespace) -> pd.DataFrame:
    """Attack every target model; return a row for each attack on each."""
    whole, rows = protocol(small=options.small), []
    for split in options.splits:
        for seed in range(options.seeds):
            for arm in options.arms:
                block, name = f"split-{split}", f"split-{split}-{seed}"
                spec = whole.unit_spec(f"{name}-{arm}", block, arm, seed_name=name)
                build_block_assets(spec.block, options.folder / "assets")
                found = measured(spec, options.folder / spec.unit_id, options.folder / "assets")
                cpu = found["cpu"]
                for attack in ATTACKS:
                    columns = {
                        key.removeprefix(f"{attack}/"): value
                        for key, value in found["inversions"].items()
                        if key.startswith(f"{attack}/")
                    }
                    rows.append({"arm": arm, "split": split, "seed": seed, "attack": attack,
                                 "clean_acc": found["clean_acc"],
                                 "cpu": cpu.get(f"invert {attack}"),
                                 "cpu_students": cpu.get(f"students {attack}"),
                                 **columns})  # fmt: skip
                    print(json.dumps(rows[-1]), flush=True)
    return pd.DataFrame(rows)


def table_of(rows: pd.DataFrame) -> str:
    """Format the mean (range) of AttAcc@1, and the mean by LDA, as a Markdown table."""
    head = ["arm", "clean", *ATTACKS, "students on private test images"]
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    for arm, of_arm in rows.groupby("arm", sort=False):
        cells = [str(arm), f"{of_arm['clean_acc'].mean():.2f}"]
        for attack in ATTACKS:
            part = of_arm[of_arm["attack"] == attack]
            found, lda = part["att_acc_1"], part["lda_att_acc_1"].mean()
            cells.append(f"{found.mean():.2f} ({found.min():.2f}-{found.max():.2f}); {lda:.2f}")
        cells.append(f"{of_arm['student_acc'].mean():.2f}")
        lines.append("| " + " | ".join(cells) + " |")
    of = {attack: rows[rows["attack"] == attack] for attack in ATTACKS}
    seconds = [f"{attack} {part['cpu'].mean():.0f}" for attack, part in of.items()]
    taught = f"the students of a target model {of['students']['cpu_students'].mean():.0f}"
    networks = len(rows) // (len(ATTACKS) * rows["arm"].nunique())
    return "\n".join([
        f"AttAcc@1, mean (range) over {networks} target models of each arm; then the mean by LDA.",
        "", *lines, "", f"CPU-seconds: {', '.join([*seconds, taught])}.", "",
    ])  # fmt: skip


def main() -> None:
    """Write the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="folder for the results")
    parser.add_argument("--seeds", type=int, default=2, help="target models of an arm and split")
    parser.add_argument("--splits", type=int, nargs="+", choices=SPLITS, default=list(SPLITS))
    arms = list(read_protocol("orl-rct").arms)
    parser.add_argument("--arms", nargs="+", choices=arms, default=arms)
    parser.add_argument("--small", action="store_true", help="tiny budgets, to try the script")
    options = parser.parse_args()
    torch.set_num_threads(1)
    table = table_of(rows_of(options))
    write_whole(options.folder / "table.md", table.encode())
    print(table)


if __name__ == "__main__":
    main()
