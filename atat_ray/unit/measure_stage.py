"""Measures of a finished unit beside its outcome: dependence of features, quality of pictures.

They take a stage of their own, because most trials do not need them.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot

from atat_ray.data import Faces, IdentitySplit, load_split
from atat_ray.data.stored_images import StoredImages, in_parts
from atat_ray.dependence.hsic import against_permutations, cka, hsic, nocco
from atat_ray.dependence.kernels import gaussian_kernel, linear_kernel
from atat_ray.evaluation.scoring import select_reported_stage
from atat_ray.metrics.frechet import frechet_distance
from atat_ray.metrics.knowledge_extraction import knowledge_extraction_score
from atat_ray.metrics.prdc import prdc_by_class
from atat_ray.models import build_target
from atat_ray.models.introspection import outputs_of, stages
from atat_ray.unit.block_assets import load_evaluation
from atat_ray.unit.invert_stage import invert_stage
from atat_ray.unit.spec import UnitSpec
from atat_ray.unit.train_stage import load_target
from atat_ray.utils.device import pick_device
from atat_ray.utils.hashing import specification_hash
from atat_ray.utils.seeding import derive_seed, generator
from atat_ray.utils.stage_files import load_stage, save_stage

PERMUTATIONS = 99
NEIGHBOURS = 3
MOST = 512  # images


@torch.no_grad()
def stage_outputs(model: nn.Module, images: Tensor) -> list[Tensor]:
    """Run a model in evaluation mode and return the output of each of its stages."""
    model.eval()
    with outputs_of(stages(model)) as found:
        model(images)
    return list(found)


def dependence(model: nn.Module, faces: Faces, num_classes: int, *, seed: int) -> dict[str, float]:
    """Measure how far the stages of a model depend on images and labels.

    Args:
        model: with named stages.
        faces: on its device, images without augmentation; of stored ones at most MOST, drawn, as
            the kernels are matrices of all pairs.
        num_classes: number of labels.
        seed: of the permutations.

    Returns:
        By name: ``hsic`` and ``cka`` (unbiased, median bandwidth), the mean over stages, with
        images (``_x``) and labels (``_y``); their largest p-value over stages; and ``nocco_x``, the
        normalised form of earlier work, sigma 5 sqrt(dimension) and images in [-1, 1] as there, the
        sum over stages.
    """
    images, labels = faces.images, faces.labels
    if isinstance(images, StoredImages):
        rows = torch.randperm(len(labels), generator=generator(seed, "images"))[:MOST]
        images, labels = images[rows], labels[rows]
    one_hot_labels = one_hot(labels, num_classes).to(images)
    others = {"x": gaussian_kernel(images), "y": linear_kernel(one_hot_labels)}
    wide = gaussian_kernel(2 * images - 1, 5 * images[0].numel() ** 0.5)
    found: dict[str, list[float]] = {"nocco_x": []}
    for number, rows in enumerate(stage_outputs(model, images)):
        kernel = gaussian_kernel(rows)
        for name, other in others.items():
            for measure in (hsic, cka):
                null = against_permutations(
                    measure,
                    kernel,
                    other,
                    permutations=PERMUTATIONS,
                    generator=generator(seed, name, number),
                )
                found.setdefault(f"{measure.__name__}_{name}", []).append(null.value)
                found.setdefault(f"{measure.__name__}_{name}_p", []).append(null.p_value)
        fixed = gaussian_kernel(rows, 5 * rows[0].numel() ** 0.5)
        found["nocco_x"].append(float(nocco(fixed, wide)))
    reduce = {"nocco_x": sum} | {name: max for name in found if name.endswith("_p")}
    mean = lambda values: sum(values) / len(values)  # noqa: E731
    return {name: float(reduce.get(name, mean)(values)) for name, values in found.items()}


def pictures(
    spec: UnitSpec, inversion: str, split: IdentitySplit, assets: Path, folder: Path
) -> dict[str, float]:
    """Measure the reconstructions of one inversion attack as pictures.

    PRDC is the mean over all classes, the Frechet distance is over all of them, both in the
    features of the evaluation models; the knowledge score is the accuracy on private test images of
    a network of the target's architecture that saw the reconstructions alone.
    """
    device = pick_device()
    models = load_evaluation(spec.block, split, assets).to(device)
    stage = select_reported_stage(invert_stage(spec, inversion, assets, folder), models)
    seen = Faces(images=stage["images"], labels=stage["classes"]).to(device)
    recognised = split.recognised.to(device)
    with torch.no_grad():
        real = in_parts(models.features, recognised.images)
        fake = in_parts(models.features, seen.images)
    seed = derive_seed(spec.seed("measures"), inversion)
    fresh = build_target(
        spec.architecture,
        num_classes=split.num_classes,
        channels=split.train.images.shape[1],
        seed=seed,
        weights=spec.training.weights,
        auxiliary=spec.training.auxiliary_weight > 0,
    ).to(device)
    least = min(int(of.bincount().min()) for of in (split.recognised.labels, stage["classes"]))
    k = min(NEIGHBOURS, least - 1)
    training = replace(spec.training, batch_size=min(spec.training.batch_size, len(seen)))
    return {
        **prdc_by_class(real, recognised.labels, fake, seen.labels, k=k),
        "frechet": frechet_distance(real, fake),
        "knowledge": knowledge_extraction_score(
            fresh, seen, split.test.to(device), training, seed=seed
        ),
    }


def measure_stage(spec: UnitSpec, assets: Path, folder: Path) -> dict[str, Any]:
    """Measure a trained and inverted unit, unless that is done."""
    path = folder / "measures.pt"
    specification = specification_hash("measures, nocco in [-1, 1]", spec.score_hash())
    payload = load_stage(path, specification)
    if payload is None:
        split = load_split(spec.block.data, spec.block.split)
        target = load_target(spec, split, folder)
        payload = {"dependence": {}, "pictures": {}}
        if hasattr(target, "stages"):  # one that diverged is a constant and has none
            train, seed = split.train.to(pick_device()), spec.seed("dependence")
            payload["dependence"] = dependence(target, train, split.num_classes, seed=seed)
        for inversion in spec.inversions:
            payload["pictures"][inversion] = pictures(spec, inversion, split, assets, folder)
        save_stage(path, specification, payload)
    return payload
