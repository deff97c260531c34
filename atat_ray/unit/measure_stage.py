"""The measure stage: dependence of features, and quality of the reconstructions as images.

It is optional and runs on a finished unit; most trials do not need it.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot

from atat_ray.data import Faces, IdentitySplit, load_split
from atat_ray.data.stored_images import StoredImages, in_parts, take
from atat_ray.dependence.hsic import against_permutations, cka, hsic, nocco
from atat_ray.dependence.kernels import gaussian_kernel, linear_kernel
from atat_ray.evaluation.scoring import select_reported_stage
from atat_ray.metrics.frechet import frechet_distance
from atat_ray.metrics.knowledge_extraction import knowledge_extraction_score
from atat_ray.metrics.prdc import prdc_by_class
from atat_ray.models import build_target
from atat_ray.models.layer_access import outputs_of, stages
from atat_ray.unit.block_assets import load_evaluation_models
from atat_ray.unit.invert_stage import invert_stage
from atat_ray.unit.spec import UnitSpec
from atat_ray.unit.train_stage import load_target
from atat_ray.utils.device import pick_device
from atat_ray.utils.hashing import specification_hash
from atat_ray.utils.seeding import derive_seed, generator
from atat_ray.utils.stage_files import load_stage, save_stage

PERMUTATIONS = 99
NUM_NEIGHBOURS = 3
MAX_IMAGES = 512


@torch.no_grad()
def stage_outputs(model: nn.Module, images: Tensor) -> list[Tensor]:
    """Run a model in evaluation mode and return the output of each of its stages."""
    model.eval()
    with outputs_of(stages(model)) as found:
        model(images)
    return list(found)


def dependence(model: nn.Module, faces: Faces, num_classes: int, *, seed: int) -> dict[str, float]:
    """Measure how strongly the stage outputs of a model depend on images and labels.

    Args:
        model: network with named stages.
        faces: images without augmentation and labels, on the model's device. Of images in a cache
            at most MAX_IMAGES are drawn, because the kernels are matrices of all pairs.
        num_classes: number of labels.
        seed: seed of the permutations.

    Returns:
        By name: ``hsic`` and ``cka`` (unbiased, median bandwidth) with images (``_x``) and labels
        (``_y``), the mean over stages; their p-values (``_p``), the largest over stages; and
        ``nocco_x``, the normalised form of earlier work with its sigma, 5 sqrt(dimension), and its
        image range, [-1, 1], the sum over stages.
    """
    images, labels = faces.images, faces.labels
    if isinstance(images, StoredImages):
        rows = torch.randperm(len(labels), generator=generator(seed, "images"))[:MAX_IMAGES]
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


def reconstruction_metrics(
    spec: UnitSpec, inversion: str, split: IdentitySplit, assets: Path, folder: Path
) -> dict[str, float]:
    """Compare the reconstructions of one inversion attack with the private images.

    Only the people whose classes were attacked are compared. PRDC (mean over the classes) and the
    Frechet distance (all classes together) use the features of the evaluation models. The knowledge
    score is the accuracy on private test images of a network of the target's architecture that was
    trained on the reconstructions only.
    """
    device = pick_device()
    models = load_evaluation_models(spec.block, split, assets).to(device)
    found = select_reported_stage(invert_stage(spec, inversion, assets, folder), models)
    fakes = Faces(images=found["images"], labels=found["classes"]).to(device)
    people = of_classes(split.recognised, found["classes"])
    recognised = people.to(device)
    with torch.no_grad():
        real = in_parts(models.features, recognised.images)
        fake = in_parts(models.features, fakes.images)
    seed = derive_seed(spec.seed("measures"), inversion)
    untrained = build_target(
        spec.architecture,
        num_classes=split.num_classes,
        channels=split.train.images.shape[1],
        seed=seed,
        weights=spec.training.weights,
        auxiliary=spec.training.auxiliary_weight > 0,
    ).to(device)
    labels = (people.labels, found["classes"])
    counts = [of.unique(return_counts=True)[1] for of in labels]
    k = min(NUM_NEIGHBOURS, min(int(count.min()) for count in counts) - 1)
    training = replace(spec.training, batch_size=min(spec.training.batch_size, len(fakes)))
    return {
        **prdc_by_class(real, recognised.labels, fake, fakes.labels, k=k),
        "frechet": frechet_distance(real, fake),
        "knowledge": knowledge_extraction_score(
            untrained,
            fakes,
            of_classes(split.test, found["classes"]).to(device),
            training,
            seed=seed,
        ),
    }


def of_classes(faces: Faces, classes: Tensor) -> Faces:
    """Select the faces whose label is among the classes."""
    rows = torch.isin(faces.labels.cpu(), classes.cpu()).nonzero().squeeze(1)
    return Faces(images=take(faces.images, rows), labels=faces.labels[rows])


def measure_stage(spec: UnitSpec, assets: Path, folder: Path) -> dict[str, Any]:
    """Measure a trained and inverted unit, unless the result is stored."""
    path = folder / "measures.pt"
    specification = specification_hash("measures", spec.score_hash())
    payload = load_stage(path, specification)
    if payload is None:
        split = load_split(spec.block.data, spec.block.split)
        target = load_target(spec, split, folder)
        payload = {"dependence": {}, "pictures": {}}
        if hasattr(target, "stages"):  # a ConstantClassifier (diverged) has none
            train, seed = split.train.to(pick_device()), spec.seed("dependence")
            payload["dependence"] = dependence(target, train, split.num_classes, seed=seed)
        for inversion in spec.inversions:
            payload["pictures"][inversion] = reconstruction_metrics(
                spec, inversion, split, assets, folder
            )
        save_stage(path, specification, payload)
    return payload
