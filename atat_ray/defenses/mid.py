"""MID: add a variational information bottleneck before the last layer."""

from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from atat_ray.data import Faces
from atat_ray.models.bottleneck import Bottleneck
from atat_ray.models.layer_access import head, outputs_of, unwrap
from atat_ray.training.interface import Defense, LossTerms, check_weight
from atat_ray.utils.option_fields import STRICT
from atat_ray.utils.seeding import BatchDraws, seeded


@dataclass(frozen=True, kw_only=True, slots=True)
class Mid(Defense):
    """Options of mutual information regularisation.

    Attributes:
        weight: beta, weight of the divergence of the code from a standard normal, at least 0.
        noise: when the code is noisy: in "training" alone, or "always", in evaluation and under
            attack too. With "always", robust accuracy needs ``eot`` above 1.
    """

    weight: float
    noise: str = "training"

    summary: ClassVar[str] = "CE(f(z)) + weight KL(z | N(0, 1)), z a noisy code of the features"
    source: ClassVar[str] = "Wang et al., Improving robustness to model inversion, AAAI 2021"
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "reference": {"weight": 0.03, "noise": "always"}
    }
    __pydantic_config__ = STRICT

    def __post_init__(self) -> None:
        check_weight(self.weight)
        if self.noise not in ("training", "always"):
            raise ValueError(f"noise must be training or always, got {self.noise!r}")

    def prepare(self, model: nn.Module, *, public: Faces | None, seed: int) -> nn.Module:
        """Replace the last layer by a bottleneck with half as many codes as features."""
        last = head(model, "mid")
        with seeded(seed):
            model.head = Bottleneck(
                last.in_features,
                last.in_features // 2,
                last.out_features,
                seed=seed,
                always=self.noise == "always",
            )
        return model

    def loss(
        self, model: nn.Module, images: Tensor, labels: Tensor, draws: BatchDraws
    ) -> LossTerms:
        """Compute ``CE + weight KL`` of a batch, both means over the images."""
        bottleneck = getattr(unwrap(model), "head", None)
        if not isinstance(bottleneck, Bottleneck):
            raise ValueError(
                "mid needs a model that it prepared; call its prepare method before training"
            )
        with bottleneck.drawing(draws), outputs_of([bottleneck.encode]) as encoded:
            logits = model(images)
        mean, sigma = bottleneck.moments(encoded[0])
        clean = cross_entropy(logits, labels)
        divergence = (mean.square() + sigma.square() - 1) / 2 - sigma.log()
        divergence = divergence.sum(1).mean()
        return LossTerms(
            total=clean + self.weight * divergence,
            curves={"clean_loss": clean.detach(), "divergence": divergence.detach()},
        )
