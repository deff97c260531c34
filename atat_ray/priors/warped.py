"""Faces as a texture read through a flow.

An active appearance model (Cootes, Edwards & Taylor 1998) whose shapes come from dense registration
instead of landmarks. Eyes and mouths coincide when faces are averaged, so that samples are sharp
without a network.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from atat_ray.priors.base import Prior, PriorOptions
from atat_ray.priors.face_mixing import mix_faces
from atat_ray.priors.flow_fields import (
    expand_knots,
    fit_knots,
    invert_flow,
    mirror_flow,
    spline_matrix,
    warp,
)
from atat_ray.priors.pca import fit_pca
from atat_ray.priors.registration import blur, register
from atat_ray.priors.staged import StagedPrior, State

NUM_KNOTS = 17


class WarpedPrior(StagedPrior):
    """Images ``texture(x + flow(x))``, texture and flow both linear in the latent.

    The first coordinates of a latent move the texture, the others the flow. State 0 is (latents,).
    State 1 is (latents, knots), the knots (N, 2, k, k) of the flow, of which the last coordinates
    then say nothing more; state 2 is (latents, texture, knots), texture (N, C, H, W), and latents
    say nothing.
    """

    name: ClassVar[str] = "warped"
    num_stages = 2
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

    def weights(self) -> list[Tensor]:
        """List the means and components of texture and flow."""
        return [self.texture_mean, self.texture_basis, self.flow_mean, self.flow_basis]

    def begin(self, latents: Tensor) -> State:
        """Give latents (N, D) as the state of stage 0."""
        return (latents,)

    def advance(self, state: State, stage: int) -> State:
        """Make the flow of a state of stage 0, the texture of one of stage 1."""
        latents, *rest = state
        num_look = len(self.texture_basis)
        if stage == 0:
            knots = self.flow_mean.flatten() + latents[:, num_look:] @ self.flow_basis.flatten(1)
            return latents, knots.unflatten(1, self.flow_mean.shape)
        if stage == 1:
            basis = self.texture_basis.flatten(1)
            texture = self.texture_mean.flatten() + latents[:, :num_look] @ basis
            return latents, texture.unflatten(1, self.texture_mean.shape), *rest
        raise ValueError(f"stage must be in 0..1, got {stage}")

    def finish(self, state: State, stage: int) -> Tensor:
        """Turn a state of ``stage`` into images (N, C, H, W) in [0, 1], differentiably."""
        if not 0 <= stage <= self.num_stages:
            raise ValueError(f"stage must be in 0..{self.num_stages}, got {stage}")
        for number in range(stage, self.num_stages):
            state = self.advance(state, number)
        _, texture, knots = state
        return warp(texture, expand_knots(knots, self.rows, self.columns)).clamp(0, 1)


@dataclass(frozen=True, kw_only=True, slots=True)
class WarpedOptions(PriorOptions):
    """What a protocol may choose of the warped prior.

    Attributes:
        texture_components: principal components of the texture.
        shape_components: principal components of the flow; D is the sum of the two.
        num_faces: procedural textures that the texture components are fitted to.
        registration_steps: steps of Adam in each of the five rounds of registration.
        keep_share: share of the public images used, those whose registration is undone best.
        sharpening: share of the detail that a blur of one pixel removes which is added once more,
            to make up for what interpolation and the components left out take away.
    """

    texture_components: int = 100
    shape_components: int = 30
    num_faces: int = 2000
    registration_steps: int = 30
    keep_share: float = 0.9
    sharpening: float = 1.0

    kind: ClassVar[type[Prior]] = WarpedPrior
    offers: ClassVar[tuple[str, ...]] = ("stages", "weights")
    __pydantic_config__ = {"extra": "forbid"}

    def __post_init__(self) -> None:
        if not 0 < self.texture_components < self.num_faces:
            raise ValueError(
                "0 < texture_components < num_faces must hold, got "
                f"texture_components={self.texture_components}, num_faces={self.num_faces}"
            )
        for name in ("shape_components", "registration_steps"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if not 0 < self.keep_share <= 1:
            raise ValueError(f"keep_share must be in (0, 1], got {self.keep_share}")
        if self.sharpening < 0:
            raise ValueError(f"sharpening must be at least 0, got {self.sharpening}")

    def fit(self, public_images: Tensor, generator: torch.Generator) -> WarpedPrior:
        """Fit the prior to public images (N, C, H, W) in [0, 1] and nothing else."""
        flow = register(public_images, num_steps=self.registration_steps)
        aligned, inverse = align(public_images, flow, keep_share=self.keep_share)
        aligned = aligned + self.sharpening * (aligned - blur(aligned, 1.0))
        gallery = torch.cat([aligned, aligned.flip(-1)])
        textures = mix_faces(gallery, self.num_faces, generator)
        texture = fit_pca(textures.flatten(1), self.texture_components)
        knots = fit_knots(torch.cat([inverse, mirror_flow(inverse)]), NUM_KNOTS)
        shape = fit_pca(knots.flatten(1), self.shape_components)
        return WarpedPrior(
            texture_mean=texture.mean.view(textures.shape[1:]),
            texture_basis=texture.basis.view(-1, *textures.shape[1:]),
            flow_mean=shape.mean.view(knots.shape[1:]),
            flow_basis=shape.basis.view(-1, *knots.shape[1:]),
        )


def align(images: Tensor, flow: Tensor, *, keep_share: float) -> tuple[Tensor, Tensor]:
    """Bring images (N, C, H, W) to the template and keep those that find the way back.

    A flow that folds, or leaves the image, loses parts of the face; undoing it shows that. The
    difference from the template would be the wrong measure: it drops glasses and beards.

    Returns:
        aligned images (M, C, H, W), and the inverse flows (M, H, W, 2) that undo it.
    """
    aligned = warp(images, flow, mode="bicubic")
    inverse = invert_flow(flow)
    lost = (warp(aligned, inverse) - images).square().mean(dim=(1, 2, 3))
    kept = lost <= lost.quantile(keep_share)
    return aligned[kept], inverse[kept]
