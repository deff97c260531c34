"""Sizes of networks and batches: those of a GPU, or tiny ones that a CPU runs in seconds."""

from dataclasses import dataclass

from atat_ray.priors.stylegan2.networks import Shape
from atat_ray.priors.stylegan2.random_generator import FFHQ


@dataclass(frozen=True, kw_only=True, slots=True)
class Network:
    """A target model with the images that it gets.

    Attributes:
        architecture: key of ARCHITECTURES.
        side: of the images in pixels.
        batch: images of a step.
        channels: of the images.
    """

    architecture: str
    side: int
    batch: int
    channels: int = 3

    def __str__(self) -> str:
        return f"{self.architecture}, {self.batch} images of {self.side} pixels"


@dataclass(frozen=True, kw_only=True, slots=True)
class Sizes:
    """Sizes of everything that is checked and measured.

    Attributes:
        signs: networks whose gradient signs are compared with float64.
        trained: networks whose training steps are timed.
        compiled: the network whose training step is compiled.
        compiler: backend of torch.compile.
        evaluation: the evaluation model.
        generators: StyleGAN2 generators by their side in pixels.
        attacked: the target model of PPA and APGD.
        batches: candidates of one step of PPA.
        candidates: of one class of PPA at the paper's scale.
        crop: side of the central square of the generator's images.
        matrix: side of the square matrices of the peak measurement.
        store: images in the store.
        steps: timed steps of a measurement.
        epochs: of the embedded unit.
        people: of the embedded unit.
        timed: seconds in which the steps of embedded units are counted.
        processes: numbers of embedded units at once.
        classes: of the large target models.
        threads: of the CPU where there is no GPU.
    """

    signs: tuple[Network, ...]
    trained: tuple[Network, ...]
    compiled: Network
    compiler: str
    evaluation: Network
    generators: dict[int, Shape]
    attacked: Network
    batches: tuple[int, ...]
    candidates: int
    crop: int
    matrix: int
    store: int
    steps: int
    epochs: int
    people: int
    timed: float
    processes: tuple[int, ...]
    classes: int
    threads: int = 1


SMALL = Network(architecture="small_resnet", side=64, batch=56, channels=1)
FULL = Sizes(
    signs=(
        SMALL,
        Network(architecture="resnet18", side=224, batch=4),
        Network(architecture="resnet152", side=224, batch=4),
        Network(architecture="densenet121", side=224, batch=4),
        Network(architecture="inception_v3", side=299, batch=4),
        Network(architecture="vit_b_16", side=224, batch=4),
    ),
    trained=(
        Network(architecture="resnet18", side=224, batch=128),
        Network(architecture="resnet152", side=224, batch=128),
    ),
    compiled=Network(architecture="resnet18", side=224, batch=128),
    compiler="inductor",
    evaluation=Network(architecture="inception_v3", side=299, batch=128),
    generators={
        256: Shape(
            latent_dim=512,
            style_dim=512,
            num_layers=8,
            channels=(512, 512, 512, 512, 256, 128, 64),
        ),
        1024: FFHQ,
    },
    attacked=Network(architecture="resnet152", side=224, batch=128),
    batches=(1, 4, 8, 16, 32),
    candidates=200,
    crop=800,
    matrix=8192,
    store=4096,
    steps=5,
    epochs=40,
    people=24,
    timed=3.0,
    processes=(1, 2, 4, 8),
    classes=530,
)
TOY = Network(architecture="small_resnet", side=32, batch=8, channels=3)
TINY = Sizes(
    signs=(TOY,),
    trained=(TOY,),
    compiled=TOY,
    compiler="aot_eager",
    evaluation=TOY,
    generators={
        32: Shape(latent_dim=8, style_dim=8, num_layers=2, channels=(8, 8, 8, 8)),
    },
    attacked=TOY,
    batches=(1, 2),
    candidates=4,
    crop=24,
    matrix=256,
    store=64,
    steps=2,
    epochs=1,
    people=8,
    timed=0.3,
    processes=(1, 2),
    classes=4,
)
