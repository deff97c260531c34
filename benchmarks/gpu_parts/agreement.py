"""Right? The same work on the device and on the CPU, with the same draws."""

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor

from atat_ray.defenses.registry import DEFENSES
from atat_ray.dependence.hsic import cka, coco, hsic, nocco
from atat_ray.dependence.kernels import gaussian_kernel
from atat_ray.inversion.optimization import adam, take_step
from atat_ray.inversion.ppa import Ppa
from atat_ray.models.linear_discriminant import ShrinkageLda
from atat_ray.utils.precision import true_float32
from atat_ray.utils.seeding import BatchDraws, generator
from gpu_parts.scenes import make_faces, make_loop, make_prior, make_target, make_warped
from gpu_parts.session import Bench, relative_difference
from gpu_parts.sizes import Network

CPU = torch.device("cpu")
SMALL = Network(architecture="small_resnet", side=32, batch=8, channels=1)
CLASSES = 4
CLOSE = 1e-4  # relative difference of sums in float32, in another order
STEP = 1e-2  # of gradients behind many layers, and of steps along signs
# Options of each defense; random starts are off, because a GPU draws other numbers than a CPU.
OPTIONS: dict[str, dict[str, Any]] = {
    "none": {},
    "anti_adversarial": {
        "weight": 2.0, "epsilon": 0.01, "steps": 3, "step_size": 0.004, "random_start": False,
    },
    "decoy_noise": {"weight": 2.0, "epsilon": 0.01},
    "label_smoothing": {"smoothing": 0.1},
    "early_stopping": {"share": 0.5},
    "adversarial": {"epsilon": 0.01, "steps": 3, "step_size": 0.004, "random_start": False},
    "mid": {"weight": 0.03},
    "bido": {"image_weight": 0.05, "label_weight": 0.5},
    "tl_dmi": {"frozen": 1, "public_epochs": 0},
    "neg_ls": {"smoothing": -0.05},
    "rolss": {"skips": (1.0, 1.0, 1.0, 0.0)},
    "ssf": {"factor": 0.2},
    "trap_mid": {"weight": 0.2},
    "sca": {"threshold": 0.1, "iterations": 3},
    "sparse_standard": {"threshold": 0.1},
    "pixel_lasso": {"weight": 0.01},
}  # fmt: skip


def agreement_part(bench: Bench) -> None:
    """Compare every kind of computation of a unit with the CPU."""

    def compare(what: str, function: Callable[[torch.device], Tensor], tolerance: float) -> None:
        bench.compare(what, lambda: (function(bench.device), function(CPU)), tolerance=tolerance)

    for name in DEFENSES:
        compare(f"loss of {name}", lambda d, n=name: defended_once(n, d)[0], CLOSE)
        compare(f"gradient of {name}", lambda d, n=name: defended_once(n, d)[1], STEP)
    compare("weights after a step of AT-AT", trained, CLOSE)
    for measure in (hsic, cka, nocco, coco):
        compare(measure.__name__, lambda d, m=measure: dependence(m, d), CLOSE)
    compare("kernel of BiDO", lambda d: kernels(d)[0], CLOSE)
    compare("logits of the LDA", discriminant, CLOSE)
    compare("images of the warped prior", warped_images, CLOSE)
    for side in bench.sizes.generators:
        compare(f"StyleGAN2 of {side} pixels", lambda d, s=side: generated(bench, s, d), STEP)
        compare(
            f"StyleGAN2 of {side} pixels, gradient at w",
            lambda d, s=side: generator_gradient(bench, s, d),
            STEP,
        )
        if bench.on_gpu:
            bench.measure(
                f"StyleGAN2 of {side} pixels in float16", lambda s=side: in_half(bench, s)
            )
    compare("latents after a step of PPA", searched, CLOSE)


def defended(name: str, device: torch.device) -> tuple[Tensor, Tensor]:
    """Compute the loss and the gradient of all parameters for one batch under a defense."""
    faces = make_faces(SMALL, device, classes=CLASSES)
    defense = DEFENSES[name](**OPTIONS[name])
    model = make_target(SMALL, device, classes=CLASSES)
    model = defense.prepare(model, public=faces, seed=0).to(device)
    loop = make_loop(model, faces, defense, steps=2)
    with true_float32():
        loop.session.start(None)
        images, labels = faces.batch(torch.arange(len(faces)))
        loss = loop.loss(loop.session.visible(images), labels).total
        parameters = [p for p in model.parameters() if p.requires_grad]
        gradients = torch.autograd.grad(loss, parameters, materialize_grads=True)
    return loss.detach(), torch.cat([gradient.flatten() for gradient in gradients])


defended_once = cache(defended)


def trained(device: torch.device) -> Tensor:
    """Return all weights after one step of AT-AT."""
    faces = make_faces(SMALL, device, classes=CLASSES)
    model = make_target(SMALL, device, classes=CLASSES)
    loop = make_loop(model, faces, DEFENSES["anti_adversarial"](**OPTIONS["anti_adversarial"]))
    with true_float32():
        loop.step(torch.arange(len(faces)))
    return torch.cat([p.detach().flatten() for p in model.parameters()])


def kernels(device: torch.device) -> list[Tensor]:
    """Compute the Gaussian kernels of images and of random features."""
    images = make_faces(SMALL, device, classes=CLASSES).images[:]
    features = torch.rand(len(images), 16, generator=generator("features")).to(device)
    return [gaussian_kernel(images), gaussian_kernel(features)]


def dependence(measure: Callable[[Tensor, Tensor], Tensor], device: torch.device) -> Tensor:
    """Measure the dependence of images and a function of them."""
    images = make_faces(SMALL, device, classes=CLASSES).images[:]
    return measure(gaussian_kernel(images), gaussian_kernel(images.mean((1, 3)).square()))


def discriminant(device: torch.device) -> Tensor:
    """Fit the LDA and return its logits."""
    faces = make_faces(SMALL, device, classes=CLASSES, count=8 * CLASSES)
    lda = ShrinkageLda(num_classes=CLASSES, channels=1).to(device)
    return lda.fit(faces)(faces.images[:])


def warped_images(device: torch.device) -> Tensor:
    """Generate images of the warped prior."""
    prior = make_warped(device, size=SMALL.side)
    return prior.synthesize(prior.sample_latents(4, generator("latents")))


def generated(bench: Bench, side: int, device: torch.device) -> Tensor:
    """Generate two images of StyleGAN2."""
    crop = bench.sizes.crop if side == max(bench.sizes.generators) else None
    prior = make_prior(bench.sizes.generators[side], device, size=32, crop=crop)
    with torch.no_grad(), true_float32():
        return prior.synthesize(prior.sample_latents(2, generator("latents")))


def in_half(bench: Bench, side: int) -> dict[str, Any]:
    """Compare images of StyleGAN2 whose convolutions run in float16 with those in float32."""
    prior = make_prior(bench.sizes.generators[side], bench.device, size=32, crop=None)
    latents = prior.sample_latents(2, generator("latents"))
    with torch.no_grad():
        with true_float32():
            exact = prior.synthesize(latents)
        with torch.autocast("cuda", torch.float16):
            found = prior.synthesize(latents)
    return {"relative difference": relative_difference(found, exact)}


def generator_gradient(bench: Bench, side: int, device: torch.device) -> Tensor:
    """Compute the gradient of one image's sum of squares at w."""
    prior = make_prior(bench.sizes.generators[side], device, size=32, crop=None)
    with true_float32():
        (styles,) = prior.begin(prior.sample_latents(1, generator("latents")))
        styles = styles.detach().requires_grad_()
        loss = prior.finish((styles,), 0).square().sum()
        return torch.autograd.grad(loss, styles)[0]


def searched(device: torch.device) -> Tensor:
    """Return the latents after one step of PPA on the warped prior."""
    prior, ppa = make_warped(device, size=SMALL.side), Ppa.from_preset("quick", candidates=4)
    target = make_target(SMALL, device, classes=CLASSES).eval()
    state = (prior.sample_latents(4, generator("latents")),)
    optimizer, draws = adam(state, [ppa.learning_rate], ppa), BatchDraws(generator("crops"))
    classes = torch.arange(4, device=device)
    with true_float32():
        take_step(
            target, lambda state: prior.synthesize(state[0]), state, classes, ppa, draws, optimizer
        )
    return state[0]
