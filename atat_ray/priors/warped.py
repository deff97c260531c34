"""Faces as a texture and a shape: the active appearance model of Cootes, Edwards & Taylor (1998)."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from atat_ray.priors.mixing import mix_faces
from atat_ray.priors.pca import fit_pca
from atat_ray.priors.prior import Prior
from atat_ray.priors.registration import register
from atat_ray.priors.warping import (
    expand_knots,
    fit_knots,
    invert_flow,
    mirror_flow,
    spline_matrix,
    warp,
)

NUM_KNOTS = 17


class WarpedPrior(Prior):
    """A linear texture, read through a linear flow: ``texture(x + flow(x))``.

    The first coordinates of a latent move the texture, the others the flow.
    """

    name: ClassVar[str] = "warped"
    texture_mean: Tensor
    texture_basis: Tensor
    flow_mean: Tensor
    flow_basis: Tensor
    rows: Tensor
    columns: Tensor

    def __init__(
        self, *, texture_mean: Tensor, texture_basis: Tensor, flow_mean: Tensor, flow_basis: Tensor
    ) -> None:
        """Take textures (C, H, W) and (T, C, H, W), flow knots (2, k, k) and (S, 2, k, k)."""
        super().__init__()
        self.latent_dim = len(texture_basis) + len(flow_basis)
        self.register_buffer("texture_mean", texture_mean)
        self.register_buffer("texture_basis", texture_basis)
        self.register_buffer("flow_mean", flow_mean)
        self.register_buffer("flow_basis", flow_basis)
        (_, height, width), (_, _, num_knots) = texture_mean.shape, flow_mean.shape
        rows = spline_matrix(height, num_knots, flow_mean.device)
        columns = spline_matrix(width, num_knots, flow_mean.device)
        self.register_buffer("rows", rows, persistent=False)
        self.register_buffer("columns", columns, persistent=False)

    def synthesize(self, latents: Tensor) -> Tensor:
        """Turn latents (N, D) into images (N, C, H, W) in [0, 1], differentiably."""
        num_texture = len(self.texture_basis)
        texture = self.texture_mean.flatten() + latents[:, :num_texture] @ self.texture_basis.flatten(1)
        knots = self.flow_mean.flatten() + latents[:, num_texture:] @ self.flow_basis.flatten(1)
        flow = expand_knots(knots.unflatten(1, self.flow_mean.shape), self.rows, self.columns)
        return warp(texture.unflatten(1, self.texture_mean.shape), flow).clamp(0, 1)


@dataclass(frozen=True, kw_only=True, slots=True)
class WarpedOptions:
    """What a protocol may choose of the warped prior."""

    num_texture: int = 100
    num_shape: int = 30
    num_textures: int = 2000
    registration_steps: int = 60
    keep_share: float = 0.85

    __pydantic_config__ = {"extra": "forbid"}  # noqa: RUF012

    def fit(self, public_images: Tensor, generator: torch.Generator) -> WarpedPrior:
        """Fit the prior to public images (N, C, H, W) in [0, 1] and nothing else."""
        flow, error = register(public_images, self.registration_steps)
        kept = error <= error.quantile(self.keep_share)
        flow, images = flow[kept], public_images[kept]
        aligned = warp(images, flow)
        textures = mix_faces(torch.cat([aligned, aligned.flip(-1)]), self.num_textures, generator)
        texture = fit_pca(textures.flatten(1), self.num_texture)
        inverse = invert_flow(flow)
        knots = fit_knots(torch.cat([inverse, mirror_flow(inverse)]), NUM_KNOTS)
        shape = fit_pca(knots.flatten(1), self.num_shape)
        return WarpedPrior(
            texture_mean=texture.mean.view(images.shape[1:]),
            texture_basis=texture.basis.view(-1, *images.shape[1:]),
            flow_mean=shape.mean.view(knots.shape[1:]),
            flow_basis=shape.basis.view(-1, *knots.shape[1:]),
        )
