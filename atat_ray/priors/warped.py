"""The warped prior: a texture sampled along a flow field, both linear in the latent.

It is an active appearance model (Cootes, Edwards & Taylor 1998) whose shapes come from dense
registration instead of landmarks. Registration aligns eyes and mouths before faces are averaged, so
that samples are sharp without a network.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from atat_ray.priors.base import Prior, PriorOptions
from atat_ray.priors.face_alignment import blur, register
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
from atat_ray.priors.staged import StagedPrior, State

NUM_KNOTS = 17


class WarpedPrior(StagedPrior):
    """Images ``texture(x + flow(x))``, with texture and flow linear in the latent.

    The first coordinates of a latent determine the texture, the last ones the flow. State 0 is
    (latents,). State 1 is (latents, knots) with the knots (N, 2, k, k) of the flow; the last
    coordinates have no effect from here on. State 2 is (latents, texture, knots) with the texture
    (N, C, H, W); the latents have no effect.
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
        """Return latents (N, D) as the state of stage 0."""
        return (latents,)

    def advance(self, state: State, stage: int) -> State:
        """Compute the flow from a state of stage 0, or the texture from a state of stage 1."""
        latents, *rest = state
        num_texture = len(self.texture_basis)
        if stage == 0:
            knots = self.flow_mean.flatten() + latents[:, num_texture:] @ self.flow_basis.flatten(1)
            return latents, knots.unflatten(1, self.flow_mean.shape)
        if stage == 1:
            basis = self.texture_basis.flatten(1)
            texture = self.texture_mean.flatten() + latents[:, :num_texture] @ basis
            return latents, texture.unflatten(1, self.texture_mean.shape), *rest
        raise ValueError(f"stage must be in 0..1, got {stage}")

    def finish(self, state: State, stage: int) -> Tensor:
        """Map a state of ``stage`` to images (N, C, H, W), not clamped, differentiably."""
        if not 0 <= stage <= self.num_stages:
            raise ValueError(f"stage must be in 0..{self.num_stages}, got {stage}")
        for number in range(stage, self.num_stages):
            state = self.advance(state, number)
        _, texture, knots = state
        return warp(texture, expand_knots(knots, self.rows, self.columns))


@dataclass(frozen=True, kw_only=True, slots=True)
class WarpedOptions(PriorOptions):
    """Options of the warped prior.

    Attributes:
        texture_components: number of principal components of the texture.
        shape_components: number of principal components of the flow; D is the sum of the two.
        num_faces: procedural textures to which the texture components are fitted.
        registration_steps: steps of Adam in each of the five rounds of registration.
        keep_share: share of the public images that are used: those with the smallest error after
            their registration is undone.
        sharpening: how much of the detail that a blur of one pixel removes is added again. It
            compensates for the loss by interpolation and by omitted components.
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
        """Fit the prior to public images (N, C, H, W) in [0, 1]."""
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
    """Warp images (N, C, H, W) to the template and keep those that the inverse flow restores.

    A flow that folds or leaves the image loses parts of the face, which raises the error of the
    restored image. The difference from the template would be a wrong criterion: it would drop faces
    with glasses or beards.

    Returns:
        Aligned images (M, C, H, W), and the inverse flows (M, H, W, 2).
    """
    aligned = warp(images, flow, mode="bicubic")
    inverse = invert_flow(flow)
    error = (warp(aligned, inverse) - images).square().mean(dim=(1, 2, 3))
    kept = error <= error.quantile(keep_share)
    return aligned[kept], inverse[kept]
