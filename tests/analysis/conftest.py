"""A small recorded campaign, written straight into MLflow as ``analysis.schema`` says."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from mlflow import MlflowClient
from mlflow.entities import Metric
from PIL import Image

from analysis import schema
from analysis.record.reader import Record, load_record

INVERSIONS = ("standard", "strong")
EPSILONS = (0.0025, 0.005, 0.01, 0.02)
CLASSES = 6
# mean of AttAcc@1 (standard), clean accuracy and robust accuracy by epsilon: the sizes that were
# measured on ORL faces with 24 people
DEFENSES = {
    "none": (0.91, 0.98, (0.96, 0.94, 0.85, 0.37)),
    "anti_adversarial": (0.60, 0.92, (0.25, 0.02, 0.0, 0.0)),
    "decoy_noise": (0.68, 0.90, (0.85, 0.77, 0.60, 0.20)),
}
Campaign = tuple[str, str]  # tracking URI, name


def protocol_of(name: str, arms: dict[str, dict[str, Any]], **changes: Any) -> dict[str, Any]:
    contrasts = {"primary": {"arm": "treatment", "against": "control"}}
    if "placebo" in arms:
        contrasts["mechanism"] = {"arm": "treatment", "against": "placebo"}
    protocol = {
        "name": name,
        "question": "Does anti-adversarial training lower what model inversion recovers?",
        "seed": 2026,
        "blocks": {"split-10": {"split": 10}, "split-11": {"split": 11}},
        "units_per_arm": 4,
        "arms": arms,
        "outcome": "standard/att_acc_1",
        "alpha": 0.05,
        "contrasts": contrasts,
    }
    return {**protocol, **changes}


THREE_ARMS = {
    "control": {"defense": "none"},
    "treatment": {"defense": "anti_adversarial", "weight": 2.0, "epsilon": 0.01},
    "placebo": {"defense": "decoy_noise", "weight": 2.0, "epsilon": 0.01},
}


def draw_outcomes(defense: str, rng: np.random.Generator) -> dict[str, float]:
    leakage, clean, robust = DEFENSES[defense]
    outcomes = {
        schema.CLEAN_ACC: rng.binomial(72, clean) / 72,
        schema.TRAIN_ACC: rng.binomial(168, min(0.999, clean + 0.02)) / 168,
        "seconds/train": float(rng.uniform(8, 15)),
    }
    for epsilon, mean in zip(EPSILONS, robust, strict=True):
        outcomes[schema.robust_column(epsilon)] = rng.binomial(72, mean) / 72
    for inversion, shift in zip(INVERSIONS, (0.0, 0.04), strict=True):
        mean = leakage + shift
        values = {
            "att_acc_1": rng.beta(60 * mean, 60 * (1 - mean)),
            "att_acc_5": rng.beta(300 * 0.97, 300 * 0.03),
            "lda_att_acc_1": rng.beta(50 * (mean - 0.1), 50 * (1.1 - mean)),
            "lda_att_acc_5": rng.beta(200 * 0.93, 200 * 0.07),
            "delta_eval": float(rng.normal(1.1 - 0.68 * mean, 0.015)),
            "target_confidence": rng.beta(300 * 0.97, 300 * 0.03),
            "evaluation_confidence": rng.beta(80 * (mean - 0.05), 80 * (1.05 - mean)),
        }
        outcomes |= {schema.inversion_column(inversion, k): float(v) for k, v in values.items()}
    return outcomes


def draw_picture(rng: np.random.Generator) -> bytes:
    small = rng.integers(0, 255, (2 * 8, CLASSES * 8), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(small).resize((CLASSES * 32, 64), Image.Resampling.BILINEAR).save(buffer, "PNG")
    return buffer.getvalue()


def draw_classes(rng: np.random.Generator) -> pd.DataFrame:
    rows = [
        (inversion, c, 4, *rng.integers(0, 5, 4))
        for inversion in INVERSIONS
        for c in range(CLASSES)
    ]
    return pd.DataFrame(rows, columns=list(schema.CLASS_COLUMNS))


def allocate(protocol: dict[str, Any], rng: np.random.Generator) -> pd.DataFrame:
    rows = []
    for block in protocol["blocks"]:
        arms = rng.permutation(np.repeat(list(protocol["arms"]), protocol["units_per_arm"]))
        rows += [(f"{block}/{i:02d}", block, str(arm)) for i, arm in enumerate(arms)]
    return pd.DataFrame(rows, columns=list(schema.ALLOCATION_COLUMNS))


def pytest_configure(config: pytest.Config) -> None:
    # MLflow 3.17 on SQLAlchemy 2.1 warns about itself when it opens its database
    config.addinivalue_line("markers", "browser: opens the report in headless Chromium")
    config.addinivalue_line("filterwarnings", "ignore:The ``noload`` loader strategy")


class Writer:
    """Writes fake campaigns into one sqlite MLflow."""

    def __init__(self, folder: Path) -> None:
        self.uri = f"sqlite:///{folder / 'mlflow.db'}"
        self.artifacts = folder / "artifacts"
        self.client = MlflowClient(self.uri)

    def start(
        self, protocol: dict[str, Any], *, seed: int = 0, with_assets: bool = True
    ) -> tuple[str, str, pd.DataFrame]:
        """Record the campaign's parent run; return experiment id, run id and allocation."""
        name = protocol["name"]
        experiment = self.client.create_experiment(name, f"file://{self.artifacts / name}")
        allocation = allocate(protocol, np.random.default_rng(seed))
        table = allocation.to_csv(index=False, lineterminator="\n")
        text = json.dumps(protocol, sort_keys=True, separators=(",", ":"))
        tags = {
            schema.KIND_TAG: schema.KIND_CAMPAIGN,
            schema.RECORD_VERSION_TAG: schema.RECORD_VERSION,
            "campaign": name,
            "protocol_sha256": hashlib.sha256(text.encode()).hexdigest(),
            "allocation_sha256": hashlib.sha256(table.encode()).hexdigest(),
            "versions": json.dumps({"atat-ray": "0.1.0", "torch": "2.15.0", "device": "cpu"}),
        }
        parent = self.client.create_run(experiment, tags=tags).info.run_id
        assets = [
            {"block": b, "asset": kind, "sha256": hashlib.sha256(f"{b}{kind}".encode()).hexdigest()}
            | ({"accuracy": 0.986} if kind == "evaluation models" else {})
            | {"seconds": 12.5}
            for b in protocol["blocks"]
            for kind in ("evaluation models", "prior of standard", "prior of strong")
        ]
        self.client.log_text(parent, text, schema.PROTOCOL_FILE)
        self.client.log_text(parent, table, schema.ALLOCATION_FILE)
        if with_assets:
            self.client.log_text(parent, json.dumps(assets), schema.ASSETS_FILE)
        return experiment, parent, allocation

    def unit(self, experiment: str, parent: str, row: dict[str, Any], **tags: str) -> str:
        """Record a unit's run with its tags only."""
        all_tags = {
            schema.KIND_TAG: schema.KIND_UNIT,
            "mlflow.parentRunId": parent,
            "campaign": "any",
            "status": schema.FINISHED,
            "reason": "",
            "node": "node-1/cpu",
            "evaluation_sha256": "e" * 64,
            "prior_sha256": "f" * 64,
            **{k: str(v) for k, v in row.items()},
            **tags,
        }
        run_id = self.client.create_run(experiment, tags=all_tags).info.run_id
        ended = "FAILED" if all_tags["status"] == schema.FAILED else "FINISHED"
        self.client.set_terminated(run_id, ended)
        return run_id

    def outcome(self, run_id: str, defense: str, rng: np.random.Generator) -> None:
        """Record a finished unit's metrics, class table and pictures."""
        values = {**draw_outcomes(defense, rng), f"{schema.EPOCH_PREFIX}loss": 0.1}
        metrics = [Metric(key, float(value), 0, 0) for key, value in values.items()]
        self.client.log_batch(run_id, metrics)
        text = draw_classes(rng).to_csv(index=False)
        self.client.log_text(run_id, text, schema.CLASSES_FILE)
        folder = self.artifacts / "made"
        folder.mkdir(parents=True, exist_ok=True)
        for inversion in INVERSIONS:
            path = folder / f"{inversion}.png"
            path.write_bytes(draw_picture(rng))
            self.client.log_artifact(run_id, str(path), schema.PICTURES_FOLDER)

    def campaign(
        self,
        protocol: dict[str, Any],
        *,
        failed: tuple[int, ...] = (),
        pending: tuple[int, ...] = (),
        seed: int = 0,
    ) -> Campaign:
        """Record a whole campaign; the rows in ``failed`` and ``pending`` have no outcome."""
        rng = np.random.default_rng(seed)
        experiment, parent, allocation = self.start(protocol, seed=seed)
        order = rng.permutation(len(allocation)) + 1
        for i, row in enumerate(allocation.to_dict("records")):
            if i in pending:
                continue
            if i in failed:
                self.unit(
                    experiment,
                    parent,
                    row,
                    start_order=str(order[i]),
                    status=schema.FAILED,
                    reason="out of memory",
                )
                continue
            run_id = self.unit(experiment, parent, row, start_order=str(order[i]))
            self.outcome(run_id, protocol["arms"][row["arm"]]["defense"], rng)
        return self.uri, protocol["name"]


@pytest.fixture(scope="session")
def writer(tmp_path_factory: pytest.TempPathFactory) -> Writer:
    """Write fake campaigns into a database of the session."""
    return Writer(tmp_path_factory.mktemp("mlflow"))


@pytest.fixture(scope="session")
def make_protocol() -> Callable[..., dict[str, Any]]:
    """Return a protocol with three arms unless told otherwise."""

    def make(name: str, arms: dict[str, Any] | None = None, **changes: Any) -> dict[str, Any]:
        return protocol_of(name, arms or THREE_ARMS, **changes)

    return make


@pytest.fixture(scope="session")
def finished(writer: Writer, make_protocol: Callable[..., dict[str, Any]]) -> Campaign:
    """Record a finished campaign: 3 arms x 2 blocks x 4 units, all finished."""
    return writer.campaign(make_protocol("orl-rct"), seed=1)


@pytest.fixture(scope="session")
def record(finished: Campaign) -> Record:
    """Load the finished campaign; copy it before changing it."""
    return load_record(*finished)


@pytest.fixture
def table() -> Callable[..., pd.DataFrame]:
    """Return a table of units with Beta outcomes: arms a and b, equal numbers in each block."""

    def make(
        per_cell: int = 4, blocks: int = 2, means: tuple[float, float] = (0.6, 0.9), seed: int = 0
    ) -> pd.DataFrame:
        rng = np.random.default_rng(seed)
        rows = [
            (f"b{b}/{arm}{i}", f"b{b}", arm, rng.beta(60 * mean, 60 * (1 - mean)))
            for b in range(blocks)
            for arm, mean in zip("ab", means, strict=True)
            for i in range(per_cell)
        ]
        return pd.DataFrame(rows, columns=["unit_id", "block", "arm", "standard/att_acc_1"])

    return make
