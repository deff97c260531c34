"""What the evaluation models say of reconstructions."""

from typing import Any

import torch
from torch import Tensor

from atat_ray.data import IdentitySplit
from atat_ray.data.stored_images import StoredImages, in_parts, to_bytes
from atat_ray.evaluation.evaluators import EvaluationModels
from atat_ray.metrics.attack_accuracy import hits, hits_by_class
from atat_ray.metrics.feature_distance import nearest_of_class


@torch.no_grad()
def reported(found: dict[str, Any], models: EvaluationModels) -> dict[str, Any]:
    """Choose the stage of IF-GMI that is reported, where that is left to the evaluation models.

    As in the paper's code it is the one stage of all classes with the highest AttAcc@1, the first
    of equals; the target model's own choice is in ``images`` already.

    Args:
        found: reconstructions; with ``stage_images`` (N, S, channels, H, W), uint8, and
            ``stage_confidence`` (N, S) if there is a choice, S = 0 or none of them if not.
        models: of the block, in evaluation mode.
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
) -> tuple[dict[str, float], list[dict[str, int]], Tensor]:
    """Score reconstructions with the evaluation models.

    Args:
        images: (N, channels, H, W) reconstructions in [0, 1], the same number of every class that
            was attacked, classes in order, best first.
        classes: (N,) long, the target class.
        models: of the block, in evaluation mode, on the device where all of it is computed.
        split: of the block; distances are to its private training images.

    Returns:
        Outcomes by name (see ``analysis.schema``); one row a class that was attacked with k of
        n; and a picture, uint8 (channels, 2 H, C W): above the best reconstruction of each such
        class, below the nearest training image.
    """
    device, num_classes = models.lda.weight.device, split.num_classes
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
    counts = {name: hits_by_class(value, classes, num_classes)[0] for name, value in hit.items()}
    n = classes.bincount(minlength=num_classes)
    rows = [
        {"class": int(split.people[c]), "n": int(n[c])}
        | {name: int(count[c]) for name, count in counts.items()}
        for c in classes.unique().tolist()
    ]
    keep = int((classes == classes[0]).sum())
    best, real = images[::keep], train.images[nearest[::keep]]
    picture = torch.cat([torch.cat(list(row), dim=2) for row in (best, real)], dim=1)
    return outcomes, rows, to_bytes(picture).cpu()
