"""One unit from its specification to its outcome, stage by stage, each of them a file.

    train -> invert (one an inversion attack) -> score -> robustness -> outcome.json

A stage that is done is never done again: its file has the hash of all that it depends on.
"""

import json
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from atat_ray.assets import BlockSpec, load_block_prior, load_evaluation
from atat_ray.checkpoint import Checkpoint
from atat_ray.data import IdentitySplit, load_split
from atat_ray.defenses import Defense, prepare
from atat_ray.evaluation import EvaluationModels
from atat_ray.inversion.ppa import Ppa, Reconstructions, invert
from atat_ray.metrics.attack_accuracy import hits, hits_by_class
from atat_ray.metrics.feature_distance import nearest_of_class
from atat_ray.models import build_target
from atat_ray.robustness import Robustness, robust_accuracies
from atat_ray.seeding import derive_seed
from atat_ray.stages import load_stage, save_stage, specification_hash, write_whole
from atat_ray.training import Epoch, Training, accuracy, train


@dataclass(frozen=True, kw_only=True, slots=True)
class UnitSpec:
    """All that a unit's outcome depends on.

    Attributes:
        unit_id: names the unit.
        seed_name: what its seeds are derived from, beside the block's seed; units of a matched set
            share it, others have their unit_id.
        block: its data, evaluation models and priors.
        architecture: of the target model.
        defense: what its arm says.
        training: schedule of the target model.
        inversions: attack by name, each on the block's prior of that name.
        robustness: how robust accuracy is measured.
        workers: processes that share the training of the target model.
    """

    unit_id: str
    seed_name: str
    block: BlockSpec
    architecture: str
    defense: Defense
    training: Training
    inversions: dict[str, Ppa]
    robustness: Robustness
    workers: int = 1

    def seed(self, stage: str) -> int:
        """Derive the seed of a stage; it does not depend on the arm."""
        return derive_seed(self.block.seed, self.seed_name, stage)

    def train_hash(self) -> str:
        """Name the trained target model by what it depends on."""
        return specification_hash(
            "train", self.seed_name, self.block.seed, self.block.data, self.block.split,
            self.architecture, self.defense, self.training, self.workers,
        )  # fmt: skip

    def invert_hash(self, inversion: str) -> str:
        """Name the reconstructions of one attack by what they depend on."""
        return specification_hash(
            "invert", self.train_hash(), self.block.prior_hash(inversion),
            inversion, self.inversions[inversion],
        )  # fmt: skip

    def score_hash(self) -> str:
        """Name the scores by what they depend on."""
        inversions = [self.invert_hash(name) for name in self.inversions]
        return specification_hash("score", inversions, self.block.evaluation_hash())

    def robustness_hash(self) -> str:
        """Name the robust accuracies by what they depend on."""
        return specification_hash("robustness", self.train_hash(), self.robustness)

    def outcome_hash(self) -> str:
        """Name the outcome by what it depends on."""
        return specification_hash("outcome", self.score_hash(), self.robustness_hash())


CHECKPOINT = "train-checkpoint.pt"
State = dict[str, Tensor]
Trainer = Callable[[UnitSpec, Path], tuple[State, list[Epoch]]]
OnStage = Callable[[str], None]


def pick_device() -> torch.device:
    """Pick CUDA where there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def new_target(spec: UnitSpec, split: IdentitySplit, *, trained: bool = False) -> nn.Module:
    """Build the target model of a unit; ``trained`` if weights are loaded into it next."""
    model = build_target(
        spec.architecture,
        num_classes=split.num_classes,
        channels=split.train.images.shape[1],
        seed=spec.seed("weights"),
    )
    public = None if trained else split.public
    return prepare(spec.defense, model, public=public, seed=spec.seed("prepare"))


class Undecided(nn.Module):
    """What a target model is whose loss diverged: the same logit for every class, always.

    Divergence is an outcome of a unit, not its failure, and this is what can be measured of it.
    """

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.ones(num_classes))

    def forward(self, images: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, num_classes) ones, with a gradient of zero at the images."""
        return self.logits + 0 * images.flatten(1).sum(dim=1, keepdim=True)


def trained_target(
    spec: UnitSpec, split: IdentitySplit, state: State, *, diverged: bool
) -> nn.Module:
    """Build the trained target model of a unit from its state."""
    if diverged:
        return Undecided(split.num_classes)
    model = new_target(spec, split, trained=True)
    model.load_state_dict(state)
    return model


def train_here(spec: UnitSpec, folder: Path) -> tuple[State, list[Epoch]]:
    """Train the target model of a unit in this process; return its state and curves."""
    split, device = load_split(spec.block.data, spec.block.split), pick_device()
    model = new_target(spec, split).to(device)
    faces = split.train.to(device)
    curves = train(
        model,
        faces,
        spec.defense,
        spec.training,
        seed=spec.seed("train"),
        checkpoint=Checkpoint(folder / CHECKPOINT, spec.train_hash()),
    )
    return {name: value.cpu() for name, value in model.state_dict().items()}, curves


def train_stage(spec: UnitSpec, folder: Path, trainer: Trainer = train_here) -> dict[str, Any]:
    """Train the target model and measure its accuracies, unless that is done."""
    path, specification = folder / "train.pt", spec.train_hash()
    payload = load_stage(path, specification)
    if payload is None:
        start = time.perf_counter()
        state, curves = trainer(spec, folder)
        split = load_split(spec.block.data, spec.block.split)
        diverged = not isfinite(curves[-1]["loss"])
        model = trained_target(spec, split, state, diverged=diverged)
        payload = {
            "state": state,
            "curves": curves,
            "diverged": diverged,
            "clean_acc": accuracy(model, split.test),
            "train_acc": accuracy(model, split.train),
            "seconds": time.perf_counter() - start,
        }
        save_stage(path, specification, payload)
    return payload


def load_target(spec: UnitSpec, split: IdentitySplit, folder: Path) -> nn.Module:
    """Load the trained target model of a unit, in evaluation mode on its device.

    Raises:
        ValueError: it has not been trained with this specification.
    """
    payload = load_stage(folder / "train.pt", spec.train_hash())
    if payload is None:
        raise ValueError(f"{folder} holds no target model of this specification; train it first")
    model = trained_target(spec, split, payload["state"], diverged=payload["diverged"])
    return model.to(pick_device()).eval()


def invert_stage(spec: UnitSpec, inversion: str, assets: Path, folder: Path) -> dict[str, Any]:
    """Run one inversion attack on the target model, unless that is done."""
    path, specification = folder / f"invert-{inversion}.pt", spec.invert_hash(inversion)
    payload = load_stage(path, specification)
    if payload is None:
        start = time.perf_counter()
        split = load_split(spec.block.data, spec.block.split)
        target = load_target(spec, split, folder)
        prior = load_block_prior(spec.block, inversion, assets).to(pick_device())
        found = invert(
            target,
            prior,
            split.num_classes,
            spec.inversions[inversion],
            seed=spec.seed(f"invert {inversion}"),
        )
        with torch.no_grad():
            confidence = target(found.images).softmax(1).gather(1, found.classes[:, None])
        payload = {
            "images": found.images.cpu(),
            "latents": found.latents.cpu(),
            "classes": found.classes.cpu(),
            "target_confidence": float(confidence.mean()),
            "seconds": time.perf_counter() - start,
        }
        save_stage(path, specification, payload)
    return payload


@torch.no_grad()
def score(
    found: Reconstructions, models: EvaluationModels, split: IdentitySplit
) -> tuple[dict[str, float], list[dict[str, int]], Tensor]:
    """Score reconstructions with the evaluation models.

    Args:
        found: reconstructions of every class, the same number of each, best first.
        models: of the block, in evaluation mode.
        split: of the block; distances are to its private training images.

    Returns:
        Outcomes by name (see ``analysis.schema``); one row a class with k of n; and a picture,
        uint8 (channels, 2 H, C W): above the best reconstruction of each class, below the nearest
        training image.
    """
    classes, num_classes = found.classes, split.num_classes
    probabilities, linear = models(found.images), models.lda(found.images)
    hit = {
        "k_1": hits(probabilities, classes, 1),
        "k_5": hits(probabilities, classes, 5),
        "lda_k_1": hits(linear, classes, 1),
        "lda_k_5": hits(linear, classes, 5),
    }
    distances, nearest = nearest_of_class(
        models.features(found.images),
        classes,
        models.features(split.train.images),
        split.train.labels,
    )
    outcomes = {
        "att_acc_1": float(hit["k_1"].float().mean()),
        "att_acc_5": float(hit["k_5"].float().mean()),
        "lda_att_acc_1": float(hit["lda_k_1"].float().mean()),
        "lda_att_acc_5": float(hit["lda_k_5"].float().mean()),
        "delta_eval": float(distances.mean()),
        "evaluation_confidence": float(probabilities.gather(1, classes[:, None]).mean()),
    }
    counts = {name: hits_by_class(value, classes, num_classes)[0] for name, value in hit.items()}
    n = classes.bincount(minlength=num_classes)
    rows = [
        {"class": int(split.people[c]), "n": int(n[c])}
        | {name: int(count[c]) for name, count in counts.items()}
        for c in range(num_classes)
    ]
    keep = len(classes) // num_classes
    best, real = found.images[::keep], split.train.images[nearest[::keep]]
    picture = torch.cat([torch.cat(list(row), dim=2) for row in (best, real)], dim=1)
    return outcomes, rows, (picture * 255).round().to(torch.uint8)


def score_stage(spec: UnitSpec, assets: Path, folder: Path) -> dict[str, Any]:
    """Score the reconstructions of every inversion attack, unless that is done."""
    path, specification = folder / "score.pt", spec.score_hash()
    payload = load_stage(path, specification)
    if payload is None:
        start = time.perf_counter()
        split = load_split(spec.block.data, spec.block.split)
        models = load_evaluation(spec.block, split, assets)
        payload = {"outcomes": {}, "classes": [], "pictures": {}}
        for inversion in spec.inversions:
            stage = invert_stage(spec, inversion, assets, folder)
            found = Reconstructions(
                images=stage["images"], latents=stage["latents"], classes=stage["classes"]
            )
            outcomes, rows, picture = score(found, models, split)
            outcomes["target_confidence"] = stage["target_confidence"]
            payload["outcomes"] |= {f"{inversion}/{k}": v for k, v in outcomes.items()}
            payload["classes"] += [{"inversion": inversion, **row} for row in rows]
            payload["pictures"][inversion] = picture
        payload["seconds"] = time.perf_counter() - start
        save_stage(path, specification, payload)
    return payload


def robustness_stage(spec: UnitSpec, folder: Path) -> dict[str, Any]:
    """Measure robust accuracy on the private test images, unless that is done."""
    path, specification = folder / "robustness.pt", spec.robustness_hash()
    payload = load_stage(path, specification)
    if payload is None:
        start = time.perf_counter()
        split = load_split(spec.block.data, spec.block.split)
        target = load_target(spec, split, folder)
        robust = robust_accuracies(
            target,
            split.test.to(pick_device()),
            spec.robustness,
            num_classes=split.num_classes,
            seed=spec.seed("robustness"),
            keep=(folder / "robustness-parts", specification),
        )
        payload = {"robust_acc": robust, "seconds": time.perf_counter() - start}
        save_stage(path, specification, payload)
        shutil.rmtree(folder / "robustness-parts", ignore_errors=True)
    return payload


def read_outcome(spec: UnitSpec, folder: Path) -> dict[str, Any] | None:
    """Read the outcome of a unit; None if it is not finished with this specification."""
    try:
        outcome = json.loads((folder / "outcome.json").read_text())
    except (OSError, ValueError):
        return None
    return outcome if outcome.get("specification") == spec.outcome_hash() else None


def run_unit(
    spec: UnitSpec,
    *,
    assets: Path,
    folder: Path,
    trainer: Trainer = train_here,
    on_stage: OnStage = lambda stage: None,
) -> dict[str, Any]:
    """Run what is left of a unit and return its outcome.

    Args:
        spec: the unit.
        assets: folder of the block's evaluation models and priors, which are made if missing.
        folder: where the stages of this unit are kept.
        trainer: trains the target model; ``atat_ray.distributed`` has one of several workers.
        on_stage: told the name of each stage before it starts.

    Returns:
        Content of ``outcome.json``: outcomes by column name, rows by class, curves, seconds.
    """
    outcome = read_outcome(spec, folder)
    if outcome is not None:
        return outcome
    on_stage("train")
    trained = train_stage(spec, folder, trainer)
    seconds = {"train": trained["seconds"]}
    for inversion in spec.inversions:
        on_stage(f"invert {inversion}")
        seconds[f"invert_{inversion}"] = invert_stage(spec, inversion, assets, folder)["seconds"]
    on_stage("score")
    scored = score_stage(spec, assets, folder)
    on_stage("robustness")
    robust = robustness_stage(spec, folder)
    seconds |= {"score": scored["seconds"], "robustness": robust["seconds"]}
    outcome = {
        "specification": spec.outcome_hash(),
        "unit_id": spec.unit_id,
        "clean_acc": trained["clean_acc"],
        "train_acc": trained["train_acc"],
        "diverged": trained["diverged"],
        "inversions": scored["outcomes"],
        "robust_acc": {f"{epsilon:g}": value for epsilon, value in robust["robust_acc"].items()},
        "classes": scored["classes"],
        "curves": trained["curves"],
        "seconds": seconds,
    }
    write_whole(folder / "outcome.json", json.dumps(outcome, indent=1).encode())
    return outcome
