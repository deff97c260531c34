"""Time one training step of AT-AT and compare it with the step of the reference code.

    .venv/bin/python benchmarks/atat_step.py
    .venv/bin/python benchmarks/atat_step.py --resnet18      # 224 x 224, batch 128, needs a GPU

Each variant is one complete step on one thread: images, augmentation, perturbation, loss, backward
pass and optimizer. The step of the reference code has contiguous layout, transforms of single PIL
images in a DataLoader, one pass for clean and one for perturbed images, running statistics that
every pass updates, and summed losses. The variants alternate, so that a slow period of the machine
affects all of them.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, Dataset
from torchvision import models, transforms

from atat_ray.data import Data, Faces, load_split
from atat_ray.data.augmentation import Augmentation, augment
from atat_ray.defenses.anti_adversarial import AntiAdversarial
from atat_ray.models import build_target
from atat_ray.utils.precision import true_float32
from atat_ray.utils.seeding import BatchDraws, generator

EPSILON, WEIGHT = 0.01, 2.0
Step = Callable[[], None]


class Images(Dataset[tuple[Tensor, int]]):
    """Faces as PIL images with a chain of transforms."""

    def __init__(self, faces: Faces) -> None:
        size = faces.images.shape[-1]
        self.images = [transforms.functional.to_pil_image(image) for image in faces.images]
        self.labels = faces.labels.tolist()
        channels = faces.images.shape[1]
        self.chain = transforms.Compose(
            [
                transforms.Resize((size, size)),
                transforms.RandomResizedCrop(size, scale=(0.85, 1.0), ratio=(1.0, 1.0)),
                transforms.RandomHorizontalFlip(),
                transforms.ColorJitter(0.2, 0.2, 0.1, 0.1),
                transforms.ToTensor(),
                transforms.Normalize([0.5] * channels, [0.5] * channels),
            ]
        )

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.chain(self.images[index]), self.labels[index]


class Signed(nn.Module):
    """A network for images in [-1, 1], the range of the reference code."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body

    def forward(self, images: Tensor) -> Tensor:
        return self.body((images + 1) / 2)


def reference_step(model: nn.Module, faces: Faces, batch: int, steps: int, classes: int) -> Step:
    """Return the step of the reference code, with epsilon and images in [-1, 1]."""
    device = faces.images.device
    loader = DataLoader(
        Images(Faces(images=faces.images.cpu(), labels=faces.labels.cpu())),
        batch_size=batch, shuffle=True, drop_last=True,
    )  # fmt: skip
    signed = Signed(model).to(device, memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    optimizer = torch.optim.Adam(signed.parameters(), lr=1e-3)
    epsilon, alpha = 2 * EPSILON, 2 * EPSILON / steps

    def forever() -> Iterator[Any]:
        while True:
            yield from loader

    batches = forever()

    def step() -> None:
        images, labels = (part.to(device) for part in next(batches))
        clean = cross_entropy(signed(images), labels, reduction="sum")
        drawn = torch.randint(classes, labels.shape, device=device)
        decoys = torch.where(drawn == labels, (labels + 1) % classes, drawn)
        moved = (images + torch.empty_like(images).uniform_(-epsilon, epsilon)).clamp(-1, 1)
        for _ in range(steps):
            moved = moved.detach().requires_grad_()
            loss = cross_entropy(signed(moved), decoys)
            gradient = torch.autograd.grad(loss, moved)[0]
            moved = moved.detach() - alpha * gradient.sign()
            moved = (images + (moved - images).clamp(-epsilon, epsilon)).clamp(-1, 1)
        wrong = cross_entropy(signed(moved.detach()), decoys, reduction="sum")
        optimizer.zero_grad()
        (clean + WEIGHT * wrong).backward()
        optimizer.step()

    return step


def loop_step(model: nn.Module, faces: Faces, batch: int, defense: AntiAdversarial) -> Step:
    """Return the step of the training loop of this project."""
    model = model.to(memory_format=torch.channels_last).train()  # type: ignore[call-overload]
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    order, views = generator("order"), BatchDraws(generator("views"))
    draws = BatchDraws(generator("defense"))

    def step() -> None:
        rows = torch.randperm(len(faces), generator=order)[:batch].to(faces.labels.device)
        images = augment(faces.images[rows], Augmentation(), views)
        images = images.contiguous(memory_format=torch.channels_last)
        terms = defense.loss(model, images, faces.labels[rows], draws)
        optimizer.zero_grad(set_to_none=True)
        terms.total.backward()
        optimizer.step()

    return step


def atat(
    steps: int, *, random_start: bool = True, adversarial_pass: str = "joint", inner: str = "batch"
) -> AntiAdversarial:
    """Return the defense that is timed."""
    return AntiAdversarial(
        weight=WEIGHT, epsilon=EPSILON, steps=steps, step_size=EPSILON / steps,
        random_start=random_start, adversarial_pass=adversarial_pass,
        inner_statistics=inner,
    )  # fmt: skip


class ResNet18(nn.Module):
    """ResNet-18 of torchvision, with the attribute ``head`` that the joint pass needs."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.body = models.resnet18(weights=None)
        self.head = nn.Linear(512, classes)
        self.body.fc = nn.Identity()  # type: ignore[assignment]

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.body(images * 2 - 1))


def measure(variants: dict[str, Step], repeats: int) -> dict[str, list[float]]:
    """Measure the seconds of each variant, alternating, after two steps that are not counted.

    On a CPU this is process time, which depends less on other work on the machine.
    """
    seconds: dict[str, list[float]] = {name: [] for name in variants}
    clock = time.perf_counter if torch.cuda.is_available() else time.process_time
    for turn in range(repeats + 2):
        for name, step in variants.items():
            start = clock()
            step()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            if turn >= 2:
                seconds[name].append(clock() - start)
    return seconds


def main() -> None:
    """Print a Markdown table with one row for each variant."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=10, help="steps timed (default: 10)")
    parser.add_argument("--resnet18", action="store_true", help="ResNet-18, 224 x 224, batch 128")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.resnet18:
        if not torch.cuda.is_available():
            parser.error("--resnet18 needs a GPU, and torch finds none")
        classes, batch, device = 100, 128, torch.device("cuda")
        images = torch.rand(512, 3, 224, 224, generator=generator("images"))
        faces = Faces(images=images, labels=torch.arange(512) % classes).to(device)
        new: Callable[[], nn.Module] = lambda: ResNet18(classes).to(device).train()  # noqa: E731
    else:
        split = load_split(Data(name="orl_faces", num_private=24, num_train=7, size=64), 0)
        classes, batch, faces = split.num_classes, 56, split.train
        new = lambda: build_target(  # noqa: E731
            "small_resnet", num_classes=classes, channels=1, seed=0
        ).train()
    variants = {
        "reference code, K = 3": reference_step(new(), faces, batch, 3, classes),
        "two passes, K = 3": loop_step(new(), faces, batch, atat(3, adversarial_pass="shared")),
        "joint pass, K = 3": loop_step(new(), faces, batch, atat(3)),
        "joint pass, running statistics inside, K = 3": loop_step(
            new(), faces, batch, atat(3, inner="running")
        ),
        "single step, two passes": loop_step(
            new(), faces, batch, atat(1, random_start=False, adversarial_pass="shared")
        ),
        "single step, joint pass": loop_step(new(), faces, batch, atat(1, random_start=False)),
    }
    with true_float32():
        seconds = measure(variants, options.repeats)
    base = statistics.median(seconds["reference code, K = 3"])
    print("| variant | median ms a step | least | share of the reference code |")
    print("|---|---|---|---|")
    for name, values in seconds.items():
        median = statistics.median(values)
        print(f"| {name} | {1e3 * median:.1f} | {1e3 * min(values):.1f} | {median / base:.2f} |")


if __name__ == "__main__":
    main()
