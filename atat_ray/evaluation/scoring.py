"""Score reconstructions with the evaluation models."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from atat_ray.data import IdentitySplit
from atat_ray.data.stored_images import StoredImages, in_parts, to_bytes
from atat_ray.evaluation.evaluators import EvaluationModels
from atat_ray.metrics.attack_accuracy import hits, hits_by_class
from atat_ray.metrics.feature_distance import nearest_of_class


@dataclass(frozen=True, kw_only=True, slots=True)
class Scores:
    """Scores of the reconstructions of one inversion attack.

    Attributes:
        outcomes: numbers by their names in ``analysis.schema``, such as ``att_acc_1``.
        classes: one row for each attacked class: its name, n reconstructions, and how many of
            them each evaluator recognised (k).
        picture: uint8 (channels, 2 H, C W); the best reconstruction of each attacked class above
            the nearest training image of its person.
    """

    outcomes: dict[str, float]
    classes: list[dict[str, Any]]
    picture: Tensor


@torch.no_grad()
def select_reported_stage(found: dict[str, Any], models: EvaluationModels) -> dict[str, Any]:
    """Replace the images of IF-GMI by those of the stage that the evaluation models prefer.

    As in the paper's code, this is the one stage for all classes with the highest AttAcc@1, the
    first of several. Reconstructions whose stage the target model chose are returned unchanged.

    Args:
        found: reconstructions by field. If the stage is still to be chosen, ``stage_images``
            (N, S, channels, H, W) is uint8 with S > 0, and ``stage_confidence`` is (N, S).
        models: evaluation models of the block, in evaluation mode.
    """
    images = found.get("stage_images")
    if images is None or not images.shape[1]:
        return found
    device = models.lda.weight.device
    classes = found["classes"].to(device)
    stages = [StoredImages(images[:, stage]).to(device) for stage in range(images.shape[1])]
    accuracy = [hits(in_parts(models, stage), classes, 1).float().mean() for stage in stages]
    best = int(torch.stack(accuracy).argmax())
    return {**found, "images": stages[best], "confidence": found["stage_confidence"][:, best]}


@torch.no_grad()
def score(
    images: Tensor | StoredImages, classes: Tensor, models: EvaluationModels, split: IdentitySplit
) -> Scores:
    """Score reconstructions with the evaluation models.

    Args:
        images: (N, channels, H, W) reconstructions in [0, 1], equally many of each attacked class,
            classes in order, best first.
        classes: (N,) long, the target class.
        models: evaluation models in evaluation mode; their device computes the scores.
        split: people and images; distances are to the private training images.
    """
    device = models.lda.weight.device
    images, classes = images.to(device), classes.to(device)
    train = split.train.to(device)
    probabilities, linear = in_parts(models, images), in_parts(models.lda, images)
    hit = {
        "k_1": hits(probabilities, classes, 1),
        "k_5": hits(probabilities, classes, 5),
        "lda_k_1": hits(linear, classes, 1),
        "lda_k_5": hits(linear, classes, 5),
    }
    distances, nearest = nearest_of_class(
        in_parts(models.features, images),
        classes,
        in_parts(models.features, train.images),
        train.labels,
    )
    outcomes = {
        "att_acc_1": float(hit["k_1"].float().mean()),
        "att_acc_5": float(hit["k_5"].float().mean()),
        "lda_att_acc_1": float(hit["lda_k_1"].float().mean()),
        "lda_att_acc_5": float(hit["lda_k_5"].float().mean()),
        "delta_eval": float(distances.mean()),
        "evaluation_confidence": float(probabilities.gather(1, classes[:, None]).mean()),
    }
    keep = int((classes == classes[0]).sum())
    best, real = images[::keep], train.images[nearest[::keep]]
    picture = torch.cat([torch.cat(list(row), dim=2) for row in (best, real)], dim=1)
    return Scores(
        outcomes=outcomes,
        classes=class_rows(hit, classes, split.names),
        picture=to_bytes(picture).cpu(),
    )


def class_rows(
    hit: dict[str, Tensor], classes: Tensor, names: Sequence[str]
) -> list[dict[str, Any]]:
    """List one row for each attacked class.

    Args:
        hit: (N,) bool by the name of the count, whether a reconstruction was recognised.
        classes: (N,) long, the target class.
        names: of all classes.
    """
    counts = {
        name: hits_by_class(value, classes, len(names))[0].tolist() for name, value in hit.items()
    }
    n = classes.bincount(minlength=len(names)).tolist()
    return [
        {"class": names[c], "n": n[c]} | {name: count[c] for name, count in counts.items()}
        for c in classes.unique().tolist()
    ]
