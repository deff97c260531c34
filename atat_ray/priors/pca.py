"""Principal components, and the rotated PCA prior: eigenfaces in randomly rotated coordinates."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from atat_ray.data.augmentation import resample
from atat_ray.priors.base import Prior, PriorOptions
from atat_ray.priors.face_mixing import mix_faces
from atat_ray.utils.seeding import BatchDraws


@dataclass(frozen=True, kw_only=True, slots=True)
class PrincipalComponents:
    """An affine Gaussian model of vectors.

    Attributes:
        mean: (D,) float32.
        axes: (K, D) orthonormal rows by decreasing variance; the entry of largest magnitude of each
            is positive.
        scales: (K,) standard deviations along the axes.
    """

    mean: Tensor
    axes: Tensor
    scales: Tensor

    @property
    def basis(self) -> Tensor:
        """Return the rows (K, D) that map N(0, 1) latents w to ``mean + w @ basis``."""
        return self.axes * self.scales[:, None]


def fit_pca(samples: Tensor, num_components: int) -> PrincipalComponents:
    """Fit principal components to samples (N, D), by eigenvectors of the smaller Gram matrix.

    The computation is in float64, because a Gram matrix squares the condition number.

    Raises:
        ValueError: there are more components than the samples can span.
    """
    num, dim = samples.shape
    if not 0 < num_components <= min(num - 1, dim):
        raise ValueError(
            f"{num} samples of {dim} numbers span 1..{min(num - 1, dim)} components, "
            f"got num_components={num_components}"
        )
    samples = samples.double()
    mean = samples.mean(dim=0)
    centered = samples - mean
    gram = centered @ centered.T if num <= dim else centered.T @ centered
    vectors = torch.linalg.eigh(gram).eigenvectors[:, -num_components:].flip(-1)
    axes = vectors.T @ centered if num <= dim else vectors.T
    axes = axes / axes.norm(dim=1, keepdim=True)
    peaks = axes.gather(1, axes.abs().argmax(dim=1, keepdim=True))
    axes = axes * peaks.sign()  # the sign that the library returns is arbitrary
    scales = (centered @ axes.T).std(dim=0)
    return PrincipalComponents(mean=mean.float(), axes=axes.float(), scales=scales.float())


def random_rotation(dim: int, generator: torch.Generator) -> Tensor:
    """Draw an orthogonal (dim, dim) matrix, float64, uniform by Haar measure (Mezzadri 2007)."""
    gaussian = torch.randn(dim, dim, generator=generator, dtype=torch.float64)
    q, r = torch.linalg.qr(gaussian)
    return q * r.diagonal().sign()


class RotatedPCAPrior(Prior):
    """Linear prior ``mean + latents @ basis`` with randomly rotated coordinates."""

    name: ClassVar[str] = "rotated_pca"
    mean: Tensor
    basis: Tensor

    def __init__(self, *, mean: Tensor, basis: Tensor) -> None:
        """Take the mean (C, H, W) and the basis (D, C, H, W)."""
        super().__init__()
        self.latent_dim = len(basis)
        self.register_buffer("mean", mean)
        self.register_buffer("basis", basis)

    def render(self, latents: Tensor) -> Tensor:
        """Map latents (N, D) to images (N, C, H, W), not clamped, differentiably."""
        images = self.mean.flatten() + latents @ self.basis.flatten(1)
        return images.unflatten(1, self.mean.shape)


@dataclass(frozen=True, kw_only=True, slots=True)
class RotatedPCAOptions(PriorOptions):
    """Options of the rotated PCA prior, which the attack "strong" of ``orl-rct`` searches.

    Attributes:
        num_components: D, the latent dimension.
        num_faces: procedural faces to which the components are fitted.
    """

    num_components: int = 300
    num_faces: int = 2000

    kind: ClassVar[type[Prior]] = RotatedPCAPrior
    __pydantic_config__ = {"extra": "forbid"}

    def __post_init__(self) -> None:
        if not 0 < self.num_components < self.num_faces:
            raise ValueError(
                "0 < num_components < num_faces must hold, got "
                f"num_components={self.num_components}, num_faces={self.num_faces}"
            )

    def fit(self, public_images: Tensor, generator: torch.Generator) -> RotatedPCAPrior:
        """Fit the prior to public images (N, C, H, W) in [0, 1]."""
        faces = jitter_poses(public_images, self.num_faces, generator)
        faces = mix_faces(faces, self.num_faces, generator)
        components = fit_pca(faces.flatten(1), self.num_components)
        rotation = random_rotation(self.num_components, generator).to(faces)
        shape = public_images.shape[1:]
        return RotatedPCAPrior(
            mean=components.mean.view(shape),
            basis=(rotation @ components.basis).view(-1, *shape),
        )


def jitter_poses(images: Tensor, num: int, generator: torch.Generator) -> Tensor:
    """Draw ``num`` of the images; rotate, scale, shift and mirror each at random."""
    draws = BatchDraws(generator)
    images = images[torch.randint(len(images), (num,), generator=generator).to(images.device)]
    angle = draws.uniform(-0.1, 0.1, images)
    zoom = draws.uniform(0.92, 1.12, images)
    shift = draws.uniform(-0.1, 0.1, images, 2)
    mirror = torch.where(draws.flips(images), -1.0, 1.0)
    cos, sin = zoom * angle.cos(), zoom * angle.sin()
    rows = [cos * mirror, -sin, shift[:, 0], sin * mirror, cos, shift[:, 1]]
    return resample(images, torch.stack(rows, dim=1).view(-1, 2, 3))
