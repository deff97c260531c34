"""Assets of a block: evaluation models and priors, built once before any of its units."""

import time
from pathlib import Path
from typing import Any

from atat_ray.data import IdentitySplit, data_manifest, load_split
from atat_ray.data.stored_images import StoredImages
from atat_ray.evaluation import EvaluationModels, fit_evaluation_models, held_out_accuracy
from atat_ray.priors import Prior, fit_prior, load_prior, prior_state
from atat_ray.unit.spec import BlockSpec
from atat_ray.utils.hashing import specification_hash
from atat_ray.utils.seeding import derive_seed
from atat_ray.utils.stage_files import MissingStage, load_stage, payload_hash, save_stage


def build_block_assets(block: BlockSpec, folder: Path) -> list[dict[str, Any]]:
    """Build the evaluation models and priors of a block, unless they exist.

    Args:
        block: specification of the block.
        folder: folder of assets; it may hold those of several blocks.

    Returns:
        One description of each asset for the record.

    Raises:
        ValueError: an evaluation model diverged, or a prior cannot be fitted or read.
    """
    priors = [build_prior(block, name, folder) for name in block.priors]
    return [build_evaluation_models(block, folder), *priors]


def read_block_assets(block: BlockSpec, folder: Path) -> list[dict[str, Any]]:
    """Return what :func:`build_block_assets` returns, but build nothing.

    Raises:
        MissingStage: an asset is missing or damaged.
    """
    files = {evaluation_path(block, folder): block.evaluation_hash()}
    files |= {prior_path(block, name, folder): block.prior_hash(name) for name in block.priors}
    for path, specification in files.items():
        if load_stage(path, specification) is None:
            raise MissingStage(f"{path} is missing or damaged")
    return build_block_assets(block, folder)


def build_evaluation_models(block: BlockSpec, folder: Path) -> dict[str, Any]:
    """Train the evaluation models of a block, unless they exist; return their description."""
    payload = evaluation_payload(block, folder)
    return {
        "block": block.name,
        "asset": "evaluation models",
        "sha256": block.evaluation_hash(),
        "content_sha256": payload_hash(payload["state"]),
        "accuracy": payload["accuracy"],
        "seconds": payload["seconds"],
        "data": payload["data"],
    }


def evaluation_payload(block: BlockSpec, folder: Path) -> dict[str, Any]:
    """Read the evaluation models of a block; train them first if they are missing or damaged."""
    path = evaluation_path(block, folder)
    payload = load_stage(path, block.evaluation_hash())
    if payload is None:
        start = time.perf_counter()
        split = load_split(block.data, block.split)
        seed = derive_seed(block.seed, block.name, "evaluation")
        models = fit_evaluation_models(split, block.evaluation, seed=seed)
        payload = {
            "state": {name: value.cpu() for name, value in models.state_dict().items()},
            "accuracy": held_out_accuracy(models, split.test),
            "data": describe_split(split, block.split),
            "seconds": time.perf_counter() - start,
        }
        save_stage(path, block.evaluation_hash(), payload)
    return payload


def describe_split(split: IdentitySplit, number: int) -> dict[str, Any]:
    """Describe the data of a block: numbers of images, seed of the split, hash of the cache."""
    images = split.train.images
    stored = {"store": images.fingerprint} if isinstance(images, StoredImages) else {}
    parts = {"train": split.train, "test": split.test, "public": split.public}
    counts = {name: len(part) for name, part in parts.items()}
    return {"classes": split.num_classes, **counts, "split_seed": 1000 + number, **stored}


def build_prior(block: BlockSpec, inversion: str, folder: Path) -> dict[str, Any]:
    """Fit the prior of one inversion attack, unless it exists; return its description."""
    payload = prior_payload(block, inversion, folder)
    return {
        "block": block.name,
        "asset": f"prior of {inversion}",
        "sha256": block.prior_hash(inversion),
        "content_sha256": payload_hash(payload["state"]),
        "seconds": payload["seconds"],
    }


def prior_payload(block: BlockSpec, inversion: str, folder: Path) -> dict[str, Any]:
    """Read the prior of one inversion attack; fit it first if it is missing or damaged.

    Only public images are used.
    """
    path = prior_path(block, inversion, folder)
    payload = load_stage(path, block.prior_hash(inversion))
    if payload is None:
        start = time.perf_counter()
        public = load_split(block.data, block.split).public
        seed = derive_seed(block.seed, block.name, "prior", inversion)
        prior = fit_prior(block.priors[inversion], public, seed=seed)
        payload = {"state": prior_state(prior), "seconds": time.perf_counter() - start}
        save_stage(path, block.prior_hash(inversion), payload)
    return payload


def contents(block: BlockSpec, folder: Path) -> dict[str, Any]:
    """Return the SHA-256 of what the units of a block are measured with.

    Returns:
        ``data``, of the files that are read, empty if images are computed; ``evaluation``, of the
        evaluation models; ``priors``, by inversion attack.
    """
    files = data_manifest(block.data)
    priors = {n: payload_hash(prior_payload(block, n, folder)["state"]) for n in block.priors}
    return {
        "data": specification_hash(files) if files else "",
        "evaluation": payload_hash(evaluation_payload(block, folder)["state"]),
        "priors": priors,
    }


def load_block_prior(block: BlockSpec, inversion: str, folder: Path) -> Prior:
    """Load the prior of one inversion attack; build it first if it does not exist."""
    payload = prior_payload(block, inversion, folder)
    return load_prior(payload["state"], block.priors[inversion].file())


def load_evaluation_models(
    block: BlockSpec, split: IdentitySplit, folder: Path
) -> EvaluationModels:
    """Load the evaluation models of a block; build them first if they do not exist."""
    payload = evaluation_payload(block, folder)
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


def evaluation_path(block: BlockSpec, folder: Path) -> Path:
    """Return the path of a block's evaluation models."""
    return folder / f"{block.name}-evaluation.pt"


def prior_path(block: BlockSpec, inversion: str, folder: Path) -> Path:
    """Return the path of the prior of one inversion attack."""
    return folder / f"{block.name}-prior-{inversion}.pt"
