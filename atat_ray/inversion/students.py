"""Students: networks that imitate a target model on public images, to be attacked in its place.

Distillation uses the outputs of the target model and nothing else of it (LOMMA, Nguyen et al.
2023; LOKT, Nguyen et al. 2023b). Students learn what the target model knows of a person, but not
the roughness of its loss, on which a defense may rely.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from math import inf
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, kl_div

from atat_ray.data.augmentation import Augmentation, augment
from atat_ray.data.stored_images import StoredImages, in_parts, to_bytes
from atat_ray.inversion.selection import SCORING_BATCH
from atat_ray.priors import Prior
from atat_ray.utils.errors import unknown
from atat_ray.utils.option_fields import STRICT
from atat_ray.utils.precision import true_float32
from atat_ray.utils.seeding import BatchDraws, derive_seed, generator

LABELS = ("hard", "soft")
WARMUP = 0.15  # share of the steps in which the learning rate rises, as in a target's training
HELD_OUT_SHARE = 0.125  # samples on which students are compared with their target, per sample


@dataclass(frozen=True, kw_only=True, slots=True)
class Students:
    """Options of students: how many networks are distilled from a target model, and how.

    Attributes:
        count: number of students, 1 or more. They differ in initial weights and in all draws.
        samples: samples of the prior that they see beside all public images, 1 or more; stored at
            8 bits a value.
        steps: optimisation steps of each student, 1 or more: AdamW, one-cycle learning rate.
        batch_size: images of a step, 2 or more.
        learning_rate: peak of the one-cycle schedule, above 0.
        weight_decay: of AdamW, 0 or above.
        noise: standard deviation of the Gaussian noise added to the augmented images that a student
            sees, in pixel units (images in [0, 1]), 0 or above; the sum is clamped to [0, 1]. The
            target model sees the images without noise, because noise would change its answers.
        labels: "soft": the probabilities of the target model, learned with the Kullback-Leibler
            divergence. "hard": its most likely class only, learned with the cross-entropy.
        temperature: of the softmax with labels: soft, above 0; null with labels: hard.
        architecture: of the students; that of the target model if null.
        augmentation: ranges of the augmentation of the images.
        with_target: whether the target model itself is attacked together with its students.
    """

    count: int
    samples: int
    steps: int
    batch_size: int
    learning_rate: float
    weight_decay: float
    noise: float
    labels: str = "soft"
    temperature: float | None = None
    architecture: str | None = None
    augmentation: Augmentation = Augmentation()  # noqa: RUF009
    with_target: bool = False

    __pydantic_config__ = STRICT
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "quick": {
            "count": 2, "samples": 2048, "steps": 700, "batch_size": 56, "learning_rate": 0.002,
            "weight_decay": 0.02, "noise": 0.05, "temperature": 2.0,
        },
        "label_only": {
            "count": 2, "samples": 2048, "steps": 700, "batch_size": 56, "learning_rate": 0.002,
            "weight_decay": 0.02, "noise": 0.05, "labels": "hard",
        },
    }  # fmt: skip

    def __post_init__(self) -> None:
        for name, least in (("count", 1), ("samples", 1), ("steps", 1), ("batch_size", 2)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} must be {least} or more, got {getattr(self, name)}")
        if not 0 < self.learning_rate < inf:
            raise ValueError(f"learning_rate must be above 0, got {self.learning_rate:g}")
        for name in ("weight_decay", "noise"):
            if not 0 <= getattr(self, name) < inf:
                raise ValueError(f"{name} must be 0 or above, got {getattr(self, name):g}")
        if self.labels not in LABELS:
            raise unknown("labels", self.labels, LABELS)
        self.check_temperature()

    def check_temperature(self) -> None:
        """Refuse soft labels without a temperature, and hard ones with one."""
        if self.labels == "hard":
            if self.temperature is not None:
                raise ValueError(
                    f"labels: hard has no softmax, got temperature {self.temperature:g}; set "
                    "temperature: null, or choose preset: label_only"
                )
        elif self.temperature is None or not 0 < self.temperature < inf:
            raise ValueError(
                f"labels: soft needs a temperature above 0, got {self.temperature}; 1 leaves the "
                "probabilities as they are"
            )

    def minimal(self, batch_size: int) -> Self:
        """Return students that take one step, on at most ``batch_size`` images."""
        return replace(self, samples=1, steps=1, batch_size=min(self.batch_size, batch_size))

    def loss(self, answers: Tensor, logits: Tensor) -> Tensor:
        """Compute the loss of a student, a mean over the images.

        With labels: soft it is ``T^2 KL(p || q)``, p and q the softmax of the target model and of
        the student at temperature T (Hinton et al. 2015, Sec. 2.1). The probabilities of a target
        model determine those at any temperature.

        Args:
            answers: (N, C), log probabilities of the target model.
            logits: (N, C), of the student.
        """
        if self.temperature is None:
            return cross_entropy(logits, answers.argmax(1))
        scale = self.temperature
        wanted, found = ((x / scale).log_softmax(1) for x in (answers, logits))
        return scale**2 * kl_div(found, wanted, reduction="batchmean", log_target=True)


class MeanLogSoftmax(nn.Module):
    """Average the log probabilities of several networks: (N, C, H, W) to (N, K)."""

    def __init__(self, networks: Sequence[nn.Module]) -> None:
        super().__init__()
        self.networks = nn.ModuleList(networks)

    def forward(self, images: Tensor) -> Tensor:
        """Map images to the mean over networks of the log-softmax."""
        return torch.stack([network(images).log_softmax(1) for network in self.networks]).mean(0)


@torch.no_grad()
def sample_images(prior: Prior, num: int, *seeds: str | int) -> StoredImages:
    """Draw samples of a prior: (num, C, H, W), stored at 8 bits a value on the CPU."""
    latents = prior.sample_latents(num, generator(*seeds))
    return StoredImages(
        in_parts(lambda part: to_bytes(prior.synthesize(part)).cpu(), latents, size=SCORING_BATCH)
    )


@torch.no_grad()
def answers_of(target: nn.Module, images: Tensor) -> Tensor:
    """Ask the target model for the log probabilities of images, (N, C), and for no gradient."""
    return target(images).log_softmax(1).detach()


class Distillation:
    """State of a running distillation: student, optimizer, schedule and draws.

    Args:
        student: trained in place, on the device of the images.
        target: images (N, C, H, W) in [0, 1] to logits; only its outputs are used.
        options: of the students.
        samples: samples of the prior.
        public: images of public people.
        device: of the student and the target model.
        seeds: names from which all draws are derived.
    """

    def __init__(
        self,
        student: nn.Module,
        target: nn.Module,
        options: Students,
        *,
        samples: StoredImages,
        public: Tensor | StoredImages,
        device: torch.device,
        seeds: tuple[str | int, ...],
    ) -> None:
        self.student, self.target, self.options = student.train(), target, options
        self.samples, self.public = samples.to(device), public.to(device)
        self.order = generator(*seeds, "order")
        self.draws = BatchDraws(generator(*seeds, "augmentation"))
        self.noise = torch.Generator(device).manual_seed(derive_seed(*seeds, "noise"))
        self.optimizer = torch.optim.AdamW(
            student.parameters(), lr=options.learning_rate, weight_decay=options.weight_decay
        )
        self.schedule = torch.optim.lr_scheduler.OneCycleLR(
            self.optimizer,
            max_lr=options.learning_rate,
            total_steps=options.steps,
            pct_start=WARMUP,
        )

    def batches(self) -> Iterator[Tensor]:
        """Generate the rows of each step: all images in random order, again and again."""
        rows = torch.empty(0, dtype=torch.long)
        for _ in range(self.options.steps):
            while len(rows) < self.options.batch_size:
                total = len(self.samples) + len(self.public)
                rows = torch.cat([rows, torch.randperm(total, generator=self.order)])
            yield rows[: self.options.batch_size]
            rows = rows[self.options.batch_size :]

    def images(self, rows: Tensor) -> Tensor:
        """Read images by row, first the samples and then the public images; augment them."""
        count = len(self.samples)
        drawn, public = rows[rows < count], rows[rows >= count] - count
        images = torch.cat([self.samples[drawn], self.public[public]])
        return augment(images, self.options.augmentation, self.draws)

    def noisy(self, images: Tensor) -> Tensor:
        """Add the noise of the options to images, and clamp them to [0, 1]."""
        if not self.options.noise:
            return images
        noise = torch.randn(images.shape, generator=self.noise, device=images.device)
        return (images + self.options.noise * noise).clamp(0, 1)

    def step(self, rows: Tensor) -> Tensor:
        """Take one step on some rows; return the loss."""
        images = self.images(rows).contiguous(memory_format=torch.channels_last)
        answers = answers_of(self.target, images)
        loss = self.options.loss(answers, self.student(self.noisy(images)))
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()
        self.schedule.step()
        return loss.detach()

    def run(self) -> None:
        """Take all steps and put the student into evaluation mode.

        Raises:
            ValueError: the student diverged.
        """
        loss = torch.zeros(())
        with true_float32():
            for rows in self.batches():
                loss = self.step(rows)
        if not loss.isfinite():
            raise ValueError(
                f"a student diverged: its loss is {float(loss)} after {self.options.steps} steps; "
                "lower learning_rate of students"
            )
        self.student.eval()


@torch.no_grad()
def agreement(target: nn.Module, network: nn.Module, images: StoredImages) -> float:
    """Compute the share of images for which two networks have the same most likely class."""
    hits = [
        (target(part).argmax(1) == network(part).argmax(1)).float()
        for part in images.split(SCORING_BATCH)
    ]
    return float(torch.cat(hits).mean())


def num_held_out(options: Students) -> int:
    """Count the samples, unseen in training, on which students are compared with their target."""
    return max(1, round(HELD_OUT_SHARE * options.samples))
