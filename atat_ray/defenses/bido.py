"""BiDO: train features that depend little on the image and much on the label."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor, nn
from torch.nn.functional import cross_entropy, one_hot

from atat_ray.dependence.hsic import coco, coco_frobenius, hsic, nocco
from atat_ray.dependence.kernels import gaussian_kernel, linear_kernel
from atat_ray.models.layer_access import outputs_of, stages
from atat_ray.training.all_workers import all_rows
from atat_ray.training.interface import Defense, LossTerms, check_weight
from atat_ray.utils.errors import unknown
from atat_ray.utils.option_fields import STRICT
from atat_ray.utils.seeding import BatchDraws

MEASURES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "nocco": nocco,
    "coco": coco,
    "coco_frobenius": coco_frobenius,
    "hsic": hsic,
}
MIN_ROWS = 4  # that the unbiased estimator needs


@dataclass(frozen=True, kw_only=True, slots=True)
class Bido(Defense):
    """Options of bilateral dependency optimisation; BiDO** of the paper has a larger image weight.

    Attributes:
        image_weight: lambda_x, weight of the dependence of each stage on the image, at least 0.
        label_weight: lambda_y, weight of the dependence of each stage on the label, at least 0.
        measure: "nocco", which BiDO calls HSIC; "coco", constrained covariance with the spectral
            norm as defined; "coco_frobenius", with the Frobenius norm as in BiDO's code; or "hsic",
            unbiased.
        bandwidth: of the Gaussian kernels: "median", or "fixed" at 5 sqrt(dimension) as in BiDO.
            With "fixed", images are mapped to [-1, 1], their range in BiDO.
    """

    image_weight: float
    label_weight: float
    measure: str = "nocco"
    bandwidth: str = "median"

    summary: ClassVar[str] = "CE + sum over stages Z (a d(Z, X) - b d(Z, Y)), d a dependence"
    source: ClassVar[str] = "Peng et al., Bilateral dependency optimization, KDD 2022, Eq. 3"
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "reference": {"image_weight": 0.05, "label_weight": 0.5, "bandwidth": "fixed"}
    }
    __pydantic_config__ = STRICT

    def __post_init__(self) -> None:
        check_weight(self.image_weight, "image_weight")
        check_weight(self.label_weight, "label_weight")
        if self.measure not in MEASURES:
            raise unknown("measure of dependence", self.measure, MEASURES)
        if self.bandwidth not in ("median", "fixed"):
            raise unknown("bandwidth", self.bandwidth, ("median", "fixed"))

    def kernel(self, rows: Tensor) -> Tensor:
        """Compute the Gaussian kernel matrix of a batch: (N, ...) -> (N, N)."""
        if self.bandwidth == "median":
            return gaussian_kernel(rows)
        return gaussian_kernel(rows, 5 * rows[0].numel() ** 0.5)

    def kernel_of_images(self, images: Tensor) -> Tensor:
        """Compute the kernel matrix of images; a fixed bandwidth maps them to [-1, 1] first."""
        return self.kernel(images if self.bandwidth == "median" else 2 * images - 1)

    def loss(
        self, model: nn.Module, images: Tensor, labels: Tensor, draws: BatchDraws
    ) -> LossTerms:
        """Compute the loss of a batch, with the dependence within the batch of all workers."""
        if len(images) * draws.world_size < MIN_ROWS:
            raise ValueError(
                f"bido measures dependence within a batch and needs {MIN_ROWS} images or more, got "
                f"{len(images) * draws.world_size}; raise batch_size"
            )
        with outputs_of(stages(model, "bido")) as found:
            logits = model(images)
        clean = cross_entropy(logits, labels)
        measure = MEASURES[self.measure]
        of_images = self.kernel_of_images(all_rows(images, draws))
        of_labels = linear_kernel(all_rows(one_hot(labels, logits.shape[1]).to(logits), draws))
        kernels = [self.kernel(all_rows(stage, draws)) for stage in found]
        on_images = sum((measure(k, of_images) for k in kernels), clean.new_zeros(()))
        on_labels = sum((measure(k, of_labels) for k in kernels), clean.new_zeros(()))
        return LossTerms(
            total=clean + self.image_weight * on_images - self.label_weight * on_labels,
            curves={
                "clean_loss": clean.detach(),
                "image_dependence": on_images.detach(),
                "label_dependence": on_labels.detach(),
            },
        )
