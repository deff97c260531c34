"""TL-DMI: learn the first stages from public images and freeze them."""

from copy import deepcopy
from dataclasses import dataclass, replace
from typing import ClassVar

from torch import Tensor, nn

from atat_ray.data import Faces
from atat_ray.models.layer_access import head, require_method
from atat_ray.training import Training, train
from atat_ray.training.interface import Defense, LossTerms
from atat_ray.training.no_defense import NoDefense
from atat_ray.utils.option_fields import STRICT
from atat_ray.utils.seeding import BatchDraws, derive_seed, seeded


class FrozenBatchNorm2d(nn.BatchNorm2d):
    """Batch normalisation with fixed statistics and parameters in every mode."""

    def train(self, mode: bool = True) -> "FrozenBatchNorm2d":
        """Stay in evaluation mode."""
        return super().train(False)


def freeze(module: nn.Module) -> nn.Module:
    """Fix all parameters and statistics of a module; return the module that replaces it."""
    if isinstance(module, nn.BatchNorm2d):
        frozen = FrozenBatchNorm2d(module.num_features, eps=module.eps, momentum=module.momentum)
        frozen.to(module.weight.device)
        frozen.load_state_dict(module.state_dict())
        module = frozen.train()
    for name, child in module.named_children():
        setattr(module, name, freeze(child))
    return module.requires_grad_(False)


@dataclass(frozen=True, kw_only=True, slots=True)
class TlDmi(Defense):
    """Options of transfer learning as a defense.

    Attributes:
        frozen: number of stages learned from public images alone; with 0 that is only the stem.
        public_epochs: passes over the public images, before the private training and with the same
            optimizer, AdamW with a one-cycle schedule. With 0 the initial weights are frozen: those
            of ImageNet, as in the paper, or drawn ones.
        public_learning_rate: peak of the schedule on public images.
        public_batch_size: images of a step on public images.
    """

    frozen: int
    public_epochs: int = 40
    public_learning_rate: float = 0.0015
    public_batch_size: int = 40

    summary: ClassVar[str] = "first stages learned from public images, then frozen"
    source: ClassVar[str] = "Ho et al., Model inversion robustness: transfer learning, CVPR 2024"
    __pydantic_config__ = STRICT

    def __post_init__(self) -> None:
        if self.frozen < 0 or self.public_epochs < 0:
            raise ValueError(
                f"frozen must be 0 or more and public_epochs 0 or more, "
                f"got {self.frozen} and {self.public_epochs}"
            )

    def minimal(self) -> "TlDmi":
        """Return options with at most one public epoch, for a rehearsal."""
        return replace(self, public_epochs=min(self.public_epochs, 1))

    def prepare(self, model: nn.Module, *, public: Faces | None, seed: int) -> nn.Module:
        """Learn initial weights from public images and freeze the first stages."""
        stages = require_method(model, "stages", "tl_dmi", "named stages")()
        if self.frozen > len(stages):
            raise ValueError(
                f"frozen must be at most the {len(stages)} stages of the network, got {self.frozen}"
            )
        if public is not None and self.public_epochs > 0:
            if not len(public):
                raise ValueError(
                    "tl_dmi learns its first stages from public images and every class is private; "
                    "lower num_private, or set public_epochs: 0 and weights: imagenet"
                )
            self.learn(model, public, seed)
        frozen_part = require_method(model, "frozen_part", "tl_dmi", "parts")
        parts = {id(part) for part in frozen_part(self.frozen)}
        for parent in list(model.modules()):
            for name, child in list(parent.named_children()):
                if id(child) in parts:
                    setattr(parent, name, freeze(child))
        return model

    def learn(self, model: nn.Module, public: Faces, seed: int) -> None:
        """Train all but the last layer to recognise the people of the public images, in place."""
        student = deepcopy(model)
        last = head(student, "tl_dmi")
        people, labels = public.labels.unique(return_inverse=True)
        device = last.weight.device
        with seeded(derive_seed(seed, "public head")):
            student.head = nn.Linear(last.in_features, len(people)).to(device)
        training = Training(
            epochs=self.public_epochs,
            batch_size=self.public_batch_size,
            learning_rate=self.public_learning_rate,
            weight_decay=0.02,
        )
        faces = Faces(images=public.images, labels=labels).to(device)
        train(student, faces, NoDefense(), training, seed=derive_seed(seed, "public"))
        learned = student.state_dict()
        own = {name: value for name, value in model.state_dict().items() if "head." in name}
        model.load_state_dict({**learned, **own})

    def loss(
        self, model: nn.Module, images: Tensor, labels: Tensor, draws: BatchDraws
    ) -> LossTerms:
        """Compute CE(f(x), y); the defense differs in the parameters that are trained."""
        return NoDefense().loss(model, images, labels, draws)
