"""What a block has once, before any unit: its evaluation models and its priors."""

import time
from pathlib import Path
from typing import Any

from atat_ray.data import IdentitySplit, load_split
from atat_ray.data.stored_images import StoredImages
from atat_ray.evaluation import EvaluationModels, fit_evaluation_models
from atat_ray.evaluation.evaluators import held_out_accuracy
from atat_ray.priors import Prior, fit_prior, load_prior, prior_state
from atat_ray.unit.spec import BlockSpec
from atat_ray.utils.seeding import derive_seed
from atat_ray.utils.stage_files import load_stage, save_stage


def describe(split: IdentitySplit, number: int) -> dict[str, Any]:
    """Describe the data of a block for the record: counts, the split's seed, the store's name."""
    images = split.train.images
    stored = {"store": images.fingerprint} if isinstance(images, StoredImages) else {}
    parts = {"train": split.train, "test": split.test, "public": split.public}
    counts = {name: len(part) for name, part in parts.items()}
    return {"classes": split.num_classes, **counts, "split_seed": 1000 + number, **stored}


def make_evaluation(block: BlockSpec, folder: Path) -> dict[str, Any]:
    """Make the evaluation models of a block unless they are there; describe them."""
    path = folder / f"{block.name}-evaluation.pt"
    payload = load_stage(path, block.evaluation_hash())
    if payload is None:
        start = time.perf_counter()
        split = load_split(block.data, block.split)
        seed = derive_seed(block.seed, block.name, "evaluation")
        models = fit_evaluation_models(split, block.evaluation, seed=seed)
        payload = {
            "state": {name: value.cpu() for name, value in models.state_dict().items()},
            "accuracy": held_out_accuracy(models, split.test),
            "data": describe(split, block.split),
            "seconds": time.perf_counter() - start,
        }
        save_stage(path, block.evaluation_hash(), payload)
    data = {"data": payload["data"]} if "data" in payload else {}  # came later
    return {
        "block": block.name,
        "asset": "evaluation models",
        "sha256": block.evaluation_hash(),
        "accuracy": payload["accuracy"],
        "seconds": payload["seconds"],
        **data,
    }


def make_prior(block: BlockSpec, inversion: str, folder: Path) -> dict[str, Any]:
    """Make the prior of one inversion attack unless it is there; describe it.

    It is fitted to the public images and nothing else.
    """
    path = folder / f"{block.name}-prior-{inversion}.pt"
    payload = load_stage(path, block.prior_hash(inversion))
    if payload is None:
        start = time.perf_counter()
        public = load_split(block.data, block.split).public
        seed = derive_seed(block.seed, block.name, "prior", inversion)
        prior = fit_prior(block.priors[inversion], public, seed=seed)
        payload = {"state": prior_state(prior), "seconds": time.perf_counter() - start}
        save_stage(path, block.prior_hash(inversion), payload)
    return {
        "block": block.name,
        "asset": f"prior of {inversion}",
        "sha256": block.prior_hash(inversion),
        "seconds": payload["seconds"],
    }


def make_assets(block: BlockSpec, folder: Path) -> list[dict[str, Any]]:
    """Make what a block has once, unless it is there; describe it."""
    priors = [make_prior(block, name, folder) for name in block.priors]
    return [make_evaluation(block, folder), *priors]


def load_block_prior(block: BlockSpec, inversion: str, folder: Path) -> Prior:
    """Load a prior that ``make_prior`` made, or make it."""
    make_prior(block, inversion, folder)
    payload = load_stage(folder / f"{block.name}-prior-{inversion}.pt", block.prior_hash(inversion))
    assert payload is not None, "the prior was written a moment ago"
    return load_prior(payload["state"], block.priors[inversion].file())


def load_evaluation(block: BlockSpec, split: IdentitySplit, folder: Path) -> EvaluationModels:
    """Load the evaluation models that ``make_evaluation`` made, or make them."""
    make_evaluation(block, folder)
    payload = load_stage(folder / f"{block.name}-evaluation.pt", block.evaluation_hash())
    assert payload is not None, "the evaluation models were written a moment ago"
    _, channels, size, _ = split.train.images.shape
    models = EvaluationModels(
        block.evaluation,
        num_classes=split.num_classes,
        channels=channels,
        size=size,
        trained=True,
    )
    models.load_state_dict(payload["state"])
    return models.eval()
