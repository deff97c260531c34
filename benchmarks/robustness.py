"""Compare the cheap attack set with all of AutoAttack, on one unit of each arm.

    .venv/bin/python benchmarks/robustness.py runs/orl-rct

The script takes the first unit of each arm of a finished campaign and measures robust accuracy at
the protocol's epsilons with both attack sets, image by image.
"""

import argparse
import time
from pathlib import Path

import torch

from atat_ray.data import load_split
from atat_ray.robustness.autoattack import robust_mask
from atat_ray.unit.train_stage import load_target
from atat_ray.utils.precision import true_float32
from trials.campaign.campaign import Campaign

COMPARED = ("apgd-10", "standard")


def main() -> None:
    """Print a Markdown table with one row for each arm and epsilon."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="folder of a finished campaign")
    parser.add_argument("--arm", action="append", help="only these arms")
    campaign = Campaign.load(parser.parse_args().folder)
    torch.set_num_threads(1)
    print("| arm | epsilon | " + " | ".join(COMPARED) + " | images that differ | seconds |")
    print("|---|---|---|---|---|---|", flush=True)
    for arm in parser.parse_args().arm or campaign.settings.arms:
        row = next(row for row in campaign.table if row.arm == arm)
        spec = campaign.spec(row)
        split = load_split(spec.block.data, spec.block.split)
        target = load_target(spec, split, campaign.unit_folder(row.unit_id))
        for epsilon in spec.robustness.epsilons:
            right, seconds = [], []
            for attacks in COMPARED:
                start = time.perf_counter()
                with true_float32():
                    right.append(
                        robust_mask(
                            target, split.test.images, split.test.labels, epsilon=epsilon,
                            attacks=attacks, num_classes=split.num_classes,
                            seed=spec.seed("robustness"),
                        )
                    )  # fmt: skip
                seconds.append(f"{time.perf_counter() - start:.1f}")
            differ = int((right[0] != right[1]).sum())
            shares = " | ".join(f"{float(r.float().mean()):.3f}" for r in right)
            print(f"| {arm} | {epsilon:g} | {shares} | {differ} of {len(split.test)} "
                  f"| {', '.join(seconds)} |", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
