"""Compare the numbers and the time of one unit under several instruction sets of this processor.

    .venv/bin/python benchmarks/processors.py [--short] [--repeats 3] [--threads 2]

Each run builds the assets of a block and runs one unit of its treatment in a process of its own,
with the environment variables of a setting, on one thread. The runs take turns. Two settings give
the same numbers if every tensor and outcome that a stage stores is equal bit for bit.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import torch

from atat_ray.unit import UnitSpec, run_unit
from atat_ray.unit.block_assets import build_block_assets
from atat_ray.utils.stage_files import payload_hash, read_stage
from trials.config.load import read_protocol

# "imitated" hides from the libraries what a processor without AVX-512 lacks.
AVX2 = {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2"}
SETTINGS = {
    "default": {},
    "default, imitated AVX2": AVX2 | {"MKL_ENABLE_INSTRUCTIONS": "AVX2"},
    "ATen AVX2": {"ATEN_CPU_CAPABILITY": "avx2"},
    "oneDNN AVX2": {"ONEDNN_MAX_CPU_ISA": "AVX2"},
    "MKL AVX2": {"MKL_CBWR": "AVX2"},
    "all AVX2": AVX2 | {"MKL_CBWR": "AVX2"},
    "all AVX2, imitated AVX2": AVX2 | {"MKL_CBWR": "AVX2", "MKL_ENABLE_INSTRUCTIONS": "AVX2"},
    "all AVX2, MKL compatible": AVX2 | {"MKL_CBWR": "COMPATIBLE"},
}
SHORT = {"epochs": 2, "steps": 3, "samples": 30}


def main() -> None:
    """Print a Markdown table with one row for each setting."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--setting", action="append", choices=SETTINGS, help="only these")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--short", action="store_true", help=f"a shortened unit: {SHORT}")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print(json.dumps(measure(options.threads, short=options.short)))
        return
    runs = {name: [] for name in options.setting or SETTINGS}
    for _ in range(options.repeats):
        for name, found in runs.items():
            found.append(run_child(SETTINGS[name], sys.argv[1:]))
            print(name, found[-1], file=sys.stderr, flush=True)
    show(runs)


def run_child(environment: dict[str, str], arguments: list[str]) -> dict:
    """Measure in a new process with more environment variables."""
    result = subprocess.run(
        [sys.executable, __file__, *arguments, "--child"],
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        check=True,
    )
    return json.loads(result.stdout.splitlines()[-1])


def measure(threads: int, *, short: bool) -> dict:
    """Build assets and run one unit; return hashes, outcomes and CPU-seconds of both."""
    torch.set_num_threads(threads)
    spec = read_protocol("orl-rct").unit_spec("benchmark", "split-10", "treatment")
    spec = shortened(spec) if short else spec
    with TemporaryDirectory() as folder:
        start = time.process_time()
        assets = build_block_assets(spec.block, Path(folder) / "assets")
        outcome = run_unit(spec, assets=Path(folder) / "assets", folder=Path(folder) / "unit")
        stored = sorted((Path(folder) / "unit").glob("*.pt"))
        stages = {file.stem: payload_hash(tensors_of(read_stage(file)[0])) for file in stored}
    hashes = {asset["asset"]: asset["content_sha256"] for asset in assets}
    return {
        "assets": hashes,
        "stages": stages,
        "clean_acc": outcome["clean_acc"],
        "inversions": outcome["inversions"],
        "robust_acc": outcome["robust_acc"],
        "seconds": time.process_time() - start,
    }


def shortened(spec: UnitSpec) -> UnitSpec:
    """Shorten a unit to seconds."""
    epochs, evaluation = SHORT["epochs"], spec.block.evaluation
    evaluation = replace(evaluation, training=replace(evaluation.training, epochs=epochs))
    search = {"steps": SHORT["steps"], "samples": SHORT["samples"]}
    return replace(
        spec,
        block=replace(spec.block, evaluation=evaluation),
        training=replace(spec.training, epochs=epochs),
        inversions={name: replace(a, **search) for name, a in spec.inversions.items()},
    )


def tensors_of(value: object) -> object:
    """Keep the tensors of nested dictionaries and lists; durations differ in every run."""
    if isinstance(value, dict):
        return {name: tensors_of(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [tensors_of(item) for item in value]
    return value if isinstance(value, torch.Tensor) else None


def show(runs: dict[str, list[dict]]) -> None:
    """Print the table."""
    base = median(run["seconds"] for run in next(iter(runs.values())))
    print("| setting | numbers | clean accuracy | AttAcc@1 | CPU-seconds | time |")
    print("|---|---|---|---|---|---|")
    seen: dict[str, str] = {}
    for name, found in runs.items():
        prints = [json.dumps({**run, "seconds": None}) for run in found]
        letters = {seen.setdefault(one, chr(ord("A") + len(seen))) for one in prints}
        seconds = median(run["seconds"] for run in found)
        run = found[0]
        found_1 = [v for k, v in run["inversions"].items() if k.endswith("/att_acc_1")]
        attacked = ", ".join(f"{value:.3f}" for value in found_1)
        print(f"| {name} | {'/'.join(sorted(letters))} | {run['clean_acc']:.3f} | {attacked} "
              f"| {seconds:.1f} | {seconds / base:.2f} |")  # fmt: skip


if __name__ == "__main__":
    main()
