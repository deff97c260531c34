"""Time and memory of a report, from a local sqlite MLflow to the page.

    .venv/bin/python benchmarks/report.py 1000 10000

Writes a campaign of that many synthetic units (4 arms, 10 blocks, 24 classes, two inversion
attacks) into the tables of a new MLflow database, runs ``python -m analysis`` on it in its own
process and prints the wall seconds and the peak memory. The limits on two cores are 15 s for 1,000
units and 90 s for 10,000.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import resource
import sqlite3
import subprocess
import sys
import time
import uuid
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from analysis import schema

ARMS = {
    "control": ({"defense": "none"}, 0.90, 0.98),
    "treatment": ({"defense": "anti_adversarial", "weight": 2.0}, 0.62, 0.92),
    "placebo": ({"defense": "decoy_noise", "weight": 2.0}, 0.68, 0.91),
    "placebo_weak": ({"defense": "decoy_noise", "weight": 1.0}, 0.76, 0.94),
}
BLOCKS, CLASSES, INVERSIONS = 10, 24, ("standard", "strong")
EPSILONS = (0.00125, 0.0025, 0.005, 0.01)


def protocol(units: int) -> dict:
    """Return a protocol with two contrasts and every optional key of the analysis."""
    return {
        "name": "benchmark",
        "question": "How long does a report take?",
        "seed": 1,
        "blocks": {f"split-{b}": {"split": b} for b in range(BLOCKS)},
        "units_per_arm": units // BLOCKS // len(ARMS),
        "arms": {name: recipe for name, (recipe, _, _) in ARMS.items()},
        "outcome": "standard/att_acc_1",
        "alpha": 0.05,
        "contrasts": {
            "primary": {"arm": "treatment", "against": "control"},
            "mechanism": {"arm": "treatment", "against": "placebo"},
        },
        "margins": {schema.CLEAN_ACC: 0.02},
        "doses": {"control": 0.0, "placebo_weak": 1.0, "placebo": 2.0},
    }


def outcomes(arm: str, rng: np.random.Generator) -> tuple[dict[str, float], str]:
    """Draw one unit: its metrics and its class table."""
    _, leakage, clean = ARMS[arm]
    values = {schema.CLEAN_ACC: rng.binomial(200, clean) / 200, schema.TRAIN_ACC: 0.99}
    for epsilon in EPSILONS:
        mean = leakage * np.exp(-epsilon * 100)
        values[schema.robust_column(epsilon)] = rng.binomial(200, mean) / 200
    lines = [",".join(schema.CLASS_COLUMNS)]
    for inversion in INVERSIONS:
        mean = rng.beta(60 * leakage, 60 * (1 - leakage))
        k = rng.binomial(4, mean, CLASSES)
        lines += [f"{inversion},{c},4,{n},4,{n},4" for c, n in enumerate(k)]
        for name in schema.INVERSION_OUTCOMES:
            values[schema.inversion_column(inversion, name)] = float(rng.beta(60, 20))
        values[schema.inversion_column(inversion, "att_acc_1")] = k.sum() / (4 * CLASSES)
    return values, "\n".join(lines) + "\n"


def fill(folder: Path, units: int) -> str:
    """Write the campaign; return the tracking URI."""
    from mlflow import MlflowClient

    path = folder / "mlflow.db"
    client = MlflowClient(f"sqlite:///{path}")
    experiment = client.create_experiment("benchmark", f"file://{folder / 'artifacts'}")
    parent = client.create_run(experiment).info.run_id
    rng, design = np.random.default_rng(0), protocol(units)
    rows = [
        (f"{block}/{i:05d}", block, str(arm))
        for block in design["blocks"]
        for i, arm in enumerate(rng.permutation(np.repeat(list(ARMS), design["units_per_arm"])))
    ]
    text = json.dumps(design, sort_keys=True)
    table = "unit_id,block,arm\n" + "".join(f"{','.join(row)}\n" for row in rows)
    client.log_text(parent, text, schema.PROTOCOL_FILE)
    client.log_text(parent, table, schema.ALLOCATION_FILE)
    tags = {
        schema.KIND_TAG: schema.KIND_CAMPAIGN,
        schema.RECORD_VERSION_TAG: schema.RECORD_VERSION,
        "campaign": "benchmark",
        "protocol_sha256": hashlib.sha256(text.encode()).hexdigest(),
        "allocation_sha256": hashlib.sha256(table.encode()).hexdigest(),
        "versions": "{}",
    }
    for name, value in tags.items():
        client.set_tag(parent, name, value)
    _insert(path, folder, int(experiment), parent, rows, rng)
    return f"sqlite:///{path}"


def _insert(
    path: Path,
    folder: Path,
    experiment: int,
    parent: str,
    rows: list[tuple[str, str, str]],
    rng: np.random.Generator,
) -> None:
    """Insert the units as MLflow does; its client would need a quarter of an hour."""
    connection = sqlite3.connect(path)
    for i, (unit_id, block, arm) in enumerate(rows):
        run, values, classes = uuid.UUID(bytes=rng.bytes(16)).hex, *outcomes(arm, rng)
        place = folder / "artifacts" / run / "artifacts"
        place.mkdir(parents=True)
        (place / schema.CLASSES_FILE).write_text(classes, encoding="utf-8")
        connection.execute(
            "INSERT INTO runs (run_uuid, name, source_type, source_name, entry_point_name, user_id,"
            " status, start_time, end_time, source_version, lifecycle_stage, artifact_uri,"
            " experiment_id) VALUES (?, ?, 'UNKNOWN', '', '', 'x', 'FINISHED', 1, 2, '', 'active',"
            " ?, ?)",
            (run, unit_id, f"file://{place}", experiment),
        )
        tags = {
            schema.KIND_TAG: schema.KIND_UNIT,
            "mlflow.parentRunId": parent,
            "unit_id": unit_id,
            "block": block,
            "arm": arm,
            "status": schema.FINISHED,
            "start_order": str(i + 1),
            "node": f"node-{i % 4}",
            "evaluation_sha256": "e",
            "prior_sha256": "p",
        }
        connection.executemany(
            "INSERT INTO tags (key, value, run_uuid) VALUES (?, ?, ?)",
            [(key, value, run) for key, value in tags.items()],
        )
        for name in ("latest_metrics", "metrics"):
            connection.executemany(
                f"INSERT INTO {name} (key, value, timestamp, step, is_nan, run_uuid)"
                " VALUES (?, ?, 1, 0, 0, ?)",
                [(key, float(value), run) for key, value in values.items()],
            )
    connection.commit()
    connection.close()


def main() -> None:
    """Print one row for each number of units."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("units", type=int, nargs="+", help="units of a campaign, multiples of 40")
    print("| units | seconds | peak memory (MiB) | page (kB) |\n| ---: | ---: | ---: | ---: |")
    for units in parser.parse_args().units:
        with TemporaryDirectory() as name:
            folder = Path(name)
            uri = fill(folder, units)
            command = [sys.executable, "-m", "analysis", "benchmark", "--tracking-uri", uri]
            start = time.monotonic()
            subprocess.run(
                [*command, "--out", str(folder / "report")], check=True, stdout=sys.stderr
            )
            seconds = time.monotonic() - start
            memory = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024
            page = (folder / "report" / "report.html").stat().st_size // 1000
        print(f"| {units} | {seconds:.1f} | {memory} | {page} |", flush=True)


if __name__ == "__main__":
    main()
