"""StyleGAN2 prior: a generator whose images are framed like those of the target model.

Plug & Play Attacks optimise one w of FFHQ's generator, truncated with psi 0.5, and crop the middle
800 of 1024 pixels before they resize to the target model's input (Struppek et al. 2022).
"""

import re
import shlex
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from atat_ray.priors.base import Prior, PriorOptions
from atat_ray.priors.staged import StagedPrior, State
from atat_ray.priors.stylegan2.files import read_generator
from atat_ray.priors.stylegan2.foreign_files import describe_head
from atat_ray.priors.stylegan2.framing import Settings, frame, scale
from atat_ray.priors.stylegan2.networks import Generator
from atat_ray.priors.stylegan2.random_generator import FFHQ, NARROW, make_generator
from atat_ray.utils.hashing import file_hash
from atat_ray.utils.option_fields import STRICT, location_option

PLACEHOLDER = 64 * "0"


class StyleGan2Prior(StagedPrior):
    """A StyleGAN2 generator with Gaussian latents; state k is the input of its block k.

    State 0 is (w,): (N, 1, style_dim), or (N, num_styles, style_dim) if the cutoff makes layers
    differ. State k is (w, features, image): the features (N, C_k, 2^(k+1), 2^(k+1)) of block k - 1,
    and the unbounded partial image of that resolution, to which skip connections add. Without the
    partial image, as in the reference code of IF-GMI, a later stage would give another image.
    """

    name: ClassVar[str] = "stylegan2"

    def __init__(self, generator: Generator, settings: Settings, *, sha256: str = "") -> None:
        """Wrap a generator.

        Args:
            generator: StyleGAN2 generator; its parameters stop requiring gradients.
            settings: truncation, noise and framing.
            sha256: hash of the generator's file.

        Raises:
            ValueError: the settings do not fit the generator.
        """
        super().__init__()
        shape = generator.shape
        if settings.crop is not None and settings.crop > shape.resolution:
            raise ValueError(
                f"crop must be at most {shape.resolution}, the side of the generator's images, "
                f"got {settings.crop}"
            )
        if settings.gray and shape.image_channels != 3:
            raise ValueError(f"gray needs 3 colours, the generator has {shape.image_channels}")
        self.generator = generator.requires_grad_(False)
        self.settings = settings
        self.sha256 = sha256
        self.latent_dim = shape.latent_dim
        self.num_stages = len(shape.channels)
        self.rows_at_once = settings.batch

    @classmethod
    def restore(cls, saved: dict[str, Any], file: Path | None) -> Self:
        """Read the generator that ``saved`` names by its hash from its file.

        Raises:
            ValueError: the file is not given, missing, of another SHA-256, or no generator.
        """
        if file is None:
            raise ValueError(f"a {cls.name} prior is read from its weights file; give its path")
        settings = dict(saved)
        sha256 = settings.pop("sha256")
        check_file(file, sha256)
        return cls(read_generator(file), Settings(**settings), sha256=sha256)

    def saved(self) -> dict[str, Any]:
        """Return the file's hash and the settings; the weights are not copied."""
        settings = {name: getattr(self.settings, name) for name in Settings.__slots__}
        return {"sha256": self.sha256, **settings}

    def weights(self) -> list[Tensor]:
        """List the weights of the synthesis network; as in PPDG, the mapping is not tuned."""
        return list(self.generator.synthesis.parameters())

    def begin(self, latents: Tensor) -> State:
        """Map z (N, latent_dim) to (w,), truncated."""
        mapping, num_styles = self.generator.mapping, self.generator.shape.num_styles
        cutoff = num_styles if self.settings.cutoff is None else self.settings.cutoff
        return (mapping.truncate(mapping(latents), self.settings.psi, cutoff, num_styles),)

    def advance(self, state: State, stage: int) -> State:
        """Run block ``stage``: state of ``stage`` to state of ``stage + 1``."""
        self.check_stage(stage, self.num_stages - 1)
        return self.in_batches(lambda *part: self.run_block(part, stage), state)

    def finish(self, state: State, stage: int) -> Tensor:
        """Run the blocks from ``stage`` on: images (N, C, size, size), not clamped."""
        self.check_stage(stage, self.num_stages)
        return self.run_remaining(state, stage, lambda images: frame(images, self.settings))

    def whole(self, state: State) -> Tensor:
        """Run all blocks: images (N, colours, R, R) of the generator, not framed or clamped."""
        return self.run_remaining(state, 0, scale)

    def run_remaining(
        self, state: State, stage: int, convert: Callable[[Tensor], Tensor]
    ) -> Tensor:
        """Run the blocks from ``stage`` on and convert the images, a batch at a time."""

        def remaining_blocks(*part: Tensor) -> State:
            for block in range(stage, self.num_stages):
                part = self.run_block(part, block)
            return (convert(part[2]),)

        return self.in_batches(remaining_blocks, state)[0]

    def check_stage(self, stage: int, last: int) -> None:
        """Refuse a stage outside 0..last."""
        if not 0 <= stage <= last:
            raise ValueError(f"stage must be in 0..{last}, got {stage}")

    def run_block(self, state: State, block: int) -> State:
        """Run one block on all rows of a state at once."""
        styles, features, image = state if block else (*state, None, None)
        features, image = self.generator.synthesis.advance(
            block, features, image, styles, noise=self.settings.noise
        )
        return styles, features, image

    def in_batches(self, function: Callable[..., State], state: State) -> State:
        """Apply a function to ``settings.batch`` rows of a state at a time.

        If gradients are needed, the intermediate results of each batch are dropped and recomputed
        in the backward pass (gradient checkpointing), so that memory holds those of one batch.
        """
        parts = list(zip(*(tensor.split(self.settings.batch) for tensor in state), strict=True))
        needs_gradients = torch.is_grad_enabled() and any(
            tensor.requires_grad for tensor in (*state, *self.parameters())
        )
        if len(parts) == 1 or not needs_gradients:
            results = [function(*part) for part in parts]
        else:
            results = [
                checkpoint(function, *part, use_reentrant=False, preserve_rng_state=False)
                for part in parts
            ]
        return tuple(torch.cat(tensors) for tensors in zip(*results, strict=True))


def convert_command(source: Path, target: Path) -> str:
    """Return the command that converts a generator, to be pasted into a shell."""
    return shlex.join(["atat", "prior", "convert", str(source), str(target)])


def check_file(path: Path, sha256: str) -> None:
    """Refuse a missing file, one of another kind or hash, and the placeholder in place of a hash.

    Raises:
        ValueError: the message says what to do.
    """
    if path.suffix != ".safetensors":
        raise ValueError(
            f"{path} must end in .safetensors; "
            f"`{convert_command(path, path.with_suffix('.safetensors'))}` makes one"
        )
    if not path.is_file():
        raise ValueError(
            f"there is no file {path}; `{convert_command(Path('ffhq.pkl'), path)}` makes it and "
            "prints the sha256 to write beside the path (docs/priors.md)"
        )
    what = describe_head(path)
    if what:
        raise ValueError(f"{path}: this is {what}")
    found = file_hash(path)
    if sha256 == PLACEHOLDER:
        raise ValueError(f"the sha256 of {path} is still the placeholder of zeros; write {found}")
    if found != sha256:
        raise ValueError(
            f"{path} has sha256 {found}, not {sha256}; it is another generator: put the right file "
            "there, or correct path or sha256 in the protocol"
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class StyleGan2Options(PriorOptions):
    """Options of the StyleGAN2 prior, which is read from a file and not fitted.

    Attributes:
        path: path of the .safetensors file that ``atat prior convert`` wrote; it enters no hash.
        sha256: hash of that file, 64 hexadecimal digits; it identifies the generator. The shipped
            protocols have a placeholder of zeros, which every run refuses.
        psi: truncation; 1 means none. PPA uses 0.5.
        cutoff: number of layers, from the first, whose w is truncated; null means all. With fewer
            than all, each layer has its own w, which an attack optimises separately (W+). PPA's
            code scores its samples with 8 and optimises one w, truncated, in all layers.
        noise: whether the generator's constant noise is added.
        crop: side of the central square that is kept, in the generator's pixels. PPA uses 800 of
            1024 for faces, and all for dogs.
        batch: images in memory at a time.
    """

    path: str = location_option()
    sha256: str
    psi: float = 0.5
    cutoff: int | None = None
    noise: bool = True
    crop: int | None = None
    batch: int = 8

    kind: ClassVar[type[Prior]] = StyleGan2Prior
    needs_public: ClassVar[bool] = False
    offers: ClassVar[tuple[str, ...]] = ("stages", "weights")
    __pydantic_config__ = STRICT

    def __post_init__(self) -> None:
        if not re.fullmatch("[0-9a-f]{64}", self.sha256):
            raise ValueError(
                f"sha256 must be 64 digits 0-9a-f, got {self.sha256!r}; `atat prior convert` "
                "prints it"
            )
        self.settings()

    def file(self) -> Path:
        """Return the path of the generator's file."""
        return Path(self.path).expanduser()

    def check(self) -> None:
        """Refuse a file that is missing or a hash that is still the placeholder.

        Raises:
            ValueError: says what to do.
        """
        check_file(self.file(), self.sha256)

    def stand_in(self, folder: Path, *, narrow: bool) -> tuple[Self, str]:
        """Replace a missing file by a generator of FFHQ's shape with random weights."""
        if self.file().is_file():
            return self, ""
        note = f"there is no file {self.path}: a generator of FFHQ's shape with random weights"
        if narrow:
            note += ", with an eighth of its channels after the first kind of unit"
        path = folder / f"{'narrow' if narrow else 'ffhq'}.safetensors"
        stored_hash = path.with_suffix(".sha256")
        if not path.exists():
            stored_hash.write_text(make_generator(path, NARROW if narrow else FFHQ))
        return replace(self, path=str(path), sha256=stored_hash.read_text()), note

    def settings(self, **framing: Any) -> Settings:
        """Return the settings of the prior; ``framing`` adds the size and colours of the images."""
        names = ("psi", "cutoff", "noise", "crop", "batch")
        return Settings(**{name: getattr(self, name) for name in names}, **framing)

    def fit(self, public_images: Tensor, generator: torch.Generator) -> StyleGan2Prior:
        """Read the prior; only size and colours of the public images (N, C, H, W) are used.

        Raises:
            ValueError: the file has another hash, or generates other images than the public ones.
        """
        channels, height, width = public_images.shape[1:]
        if height != width:
            raise ValueError(f"StyleGAN2 makes square images, the public ones are {height}x{width}")
        settings = self.settings(size=height, gray=channels == 1)
        saved = {name: getattr(settings, name) for name in Settings.__slots__}
        prior = StyleGan2Prior.restore({"sha256": self.sha256, **saved}, self.file())
        found = 1 if settings.gray else prior.generator.shape.image_channels
        if found != channels:
            raise ValueError(
                f"{self.path} generates {found} colours, the public images have {channels}"
            )
        return prior
