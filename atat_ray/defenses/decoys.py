"""Decoy labels, the wrong classes that AT-AT and its placebo train towards, and their loss."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from atat_ray.models.batch_norm_modes import frozen_statistics
from atat_ray.models.split_batch_norm import adversarial_statistics
from atat_ray.training.interface import Forward, LossTerms
from atat_ray.utils.seeding import BatchDraws


def draw_decoys(labels: Tensor, num_classes: int, draws: BatchDraws) -> Tensor:
    """Draw decoy labels exactly uniformly over the wrong classes: (N,) -> (N,)."""
    return (labels + draws.integers(1, num_classes, labels)) % num_classes


def draw_reference_decoys(labels: Tensor, num_classes: int, draws: BatchDraws) -> Tensor:
    """Draw decoy labels as the reference code does: over all classes, and y + 1 in place of y.

    Class y + 1 is then twice as likely as each other wrong class.
    """
    drawn = draws.integers(0, num_classes, labels)
    return torch.where(drawn == labels, (labels + 1) % num_classes, drawn)


DECOYS = {"uniform": draw_decoys, "reference": draw_reference_decoys}

# Batch normalisation in the pass over x + delta.
PASSES: dict[str, Callable[[Any], AbstractContextManager[object]]] = {
    "shared": nullcontext,  # a separate batch, which updates the running statistics too
    "frozen": frozen_statistics,  # a separate batch, which does not update them
    "split": adversarial_statistics,  # separate layers, not used after training (AdvProp)
    "joint": nullcontext,  # one batch together with the clean images
}


def decoy_loss(
    model: Forward,
    images: Tensor,
    labels: Tensor,
    *,
    weight: float,
    perturb: Callable[[Tensor, Tensor], Tensor],
    draws: BatchDraws,
    smoothing: float = 0.0,
    decoys: str = "uniform",
    adversarial_pass: str = "shared",
    num_classes: int | None = None,
) -> LossTerms:
    """Compute ``CE(f(x), y) + weight CE(f(perturb(x, y')), y')`` over a batch.

    With weight 0 this is plain training: no image is perturbed and no number is drawn.

    Args:
        model: images to logits, in training mode.
        images: (N, C, H, W) in [0, 1].
        labels: (N,) long.
        weight: lambda, at least 0.
        perturb: function (images, decoys) -> images of the second term, without gradient.
        draws: randomness of the decoys.
        smoothing: label smoothing of the second term.
        decoys: a key of DECOYS.
        adversarial_pass: a key of PASSES.
        num_classes: number of logits; needed by the joint pass.
    """
    joint = adversarial_pass == "joint" and weight != 0
    logits = None if joint else model(images)
    if weight == 0:
        assert logits is not None
        clean = cross_entropy(logits, labels)
        return LossTerms(total=clean, curves={"clean_loss": clean.detach()})
    classes = num_classes if logits is None else logits.shape[1]
    assert classes is not None, "the joint pass needs the number of classes"
    wrong = DECOYS[decoys](labels, classes, draws)
    perturbed = perturb(images, wrong)
    if logits is None:
        logits, decoy_logits = model(torch.cat([images, perturbed])).chunk(2)
    else:
        with PASSES[adversarial_pass](model):
            decoy_logits = model(perturbed)
    clean = cross_entropy(logits, labels)
    adversarial = cross_entropy(decoy_logits, wrong, label_smoothing=smoothing)
    return LossTerms(
        total=clean + weight * adversarial,
        curves={
            "clean_loss": clean.detach(),
            "decoy_loss": adversarial.detach(),
            "decoy_hit_rate": (decoy_logits.argmax(1) == wrong).float().mean(),
        },
    )
