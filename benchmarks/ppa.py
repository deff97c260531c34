"""Measure candidate-steps per second of PPA's inner loop against a plain implementation.

    .venv/bin/python benchmarks/ppa.py

Both search the same prior and attack the same target model on one thread. The plain implementation,
as in earlier code, processes the candidates of one class at a time: it resizes the images as those
of a generator, draws one random crop for the whole batch by torchvision, and calls
``loss.backward()``. The implementation of this package processes the candidates of all classes at
once, crops each separately, and computes the gradient of the latents only. Steps of the
implementations alternate; the table has the median of ten steps.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torchvision import transforms

from atat_ray.data import Data, load_split
from atat_ray.inversion.losses import poincare_loss
from atat_ray.inversion.optimization import adam, take_step
from atat_ray.inversion.ppa import Ppa
from atat_ray.models import build_target
from atat_ray.priors import Prior
from atat_ray.priors.warped import WarpedOptions
from atat_ray.utils.seeding import BatchDraws, generator


def plain(target: nn.Module, prior: Prior, latents: Tensor, ppa: Ppa) -> Callable[[], None]:
    """Return the plain step of every candidate; latents are (C, candidates, D)."""
    size = image_side(prior)
    chain = transforms.Compose(
        [
            transforms.Resize((size, size), antialias=True),
            transforms.RandomResizedCrop(
                (size, size), scale=ppa.crop_area, ratio=(1.0, 1.0), antialias=True
            ),
        ]
    )
    parts = [part.clone().requires_grad_() for part in latents]
    optimizers = [torch.optim.Adam([p], lr=ppa.learning_rate, betas=ppa.betas) for p in parts]

    def step() -> None:
        for number, (part, optimizer) in enumerate(zip(parts, optimizers, strict=True)):
            images = chain(prior.synthesize(part))
            classes = torch.full((len(part),), number)
            loss = poincare_loss(target(images), classes).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    return step


def image_side(prior: Prior) -> int:
    """Return the side of a prior's images in pixels."""
    with torch.no_grad():
        return prior.synthesize(torch.zeros(1, prior.latent_dim)).shape[-1]


def batched(target: nn.Module, prior: Prior, latents: Tensor, ppa: Ppa) -> Callable[[], None]:
    """Return the step of this package for every candidate; latents are (C, candidates, D)."""
    state = (latents.flatten(0, 1).clone(),)
    classes = torch.arange(len(latents)).repeat_interleave(latents.shape[1])
    optimizer, draws = adam(state, [ppa.learning_rate], ppa), BatchDraws(generator("crops"))
    return lambda: take_step(
        target, lambda state: prior.synthesize(state[0]), state, classes, ppa, draws, optimizer
    )


def main() -> None:
    """Print a Markdown table with one row for each implementation."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=10, help="steps timed (default: 10)")
    parser.add_argument(
        "--candidates",
        type=int,
        default=8,
        help="candidates of a class, one batch of the plain implementation",
    )
    options = parser.parse_args()
    torch.set_num_threads(1)
    split = load_split(Data(name="orl_faces", num_private=24, num_train=7, size=64), 0)
    prior = WarpedOptions().fit(split.public.images[:], generator("prior"))
    ppa = Ppa.from_preset("quick")
    count = split.num_classes * options.candidates
    latents = prior.sample_latents(count, generator("latents"))
    latents = latents.view(split.num_classes, options.candidates, -1)

    def target(frozen: bool, layout: torch.memory_format) -> nn.Module:
        model = build_target("small_resnet", num_classes=split.num_classes, channels=1, seed=0)
        return model.eval().requires_grad_(not frozen).to(memory_format=layout)  # type: ignore[call-overload]

    contiguous, last = torch.contiguous_format, torch.channels_last
    implementations = {
        "plain": plain(target(False, contiguous), prior, latents, ppa),
        "plain, weights frozen": plain(target(True, contiguous), prior, latents, ppa),
        "batched": batched(target(False, last), prior, latents, ppa),
    }
    seconds: dict[str, list[float]] = {name: [] for name in implementations}
    for turn in range(options.repeats + 2):
        for name, step in implementations.items():
            start = time.process_time()  # less affected by other processes
            step()
            if turn >= 2:
                seconds[name].append(time.process_time() - start)
    base = statistics.median(seconds["plain"])
    print("| implementation | candidate-steps per second | speed relative to plain |")
    print("|---|---|---|")
    for name, values in seconds.items():
        median = statistics.median(values)
        print(f"| {name} | {count / median:.0f} | {base / median:.2f} |")


if __name__ == "__main__":
    main()
