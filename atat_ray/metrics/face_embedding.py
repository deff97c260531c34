"""FaceNet features, where the user has installed the package; the paper's delta_face."""

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

SIDE = 160
MISSING = (
    "delta_face needs facenet-pytorch, which is not a dependency because it pins an old torch; run "
    "`pip install --no-deps facenet-pytorch==2.6.0`, or use delta_eval"
)


class FaceEmbedder(nn.Module):
    """Images in [0, 1] to 512 unit-norm features of InceptionResnetV1."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        """(N, 1 or 3, H, W) in [0, 1] -> (N, 512)."""
        images = interpolate(images, size=(SIDE, SIDE), mode="bilinear", antialias=True)
        colour = images.clamp(0, 1).expand(-1, 3, -1, -1)
        return nn.functional.normalize(self.network(colour * 2 - 1), dim=1)


def load_face_embedder(weights: str = "vggface2") -> FaceEmbedder:
    """Load FaceNet; its weights are a download.

    Raises:
        ImportError: facenet-pytorch is not installed; the message says how to.
    """
    try:
        from facenet_pytorch import InceptionResnetV1  # type: ignore[import-not-found]
    except ImportError as error:
        raise ImportError(MISSING) from error
    return FaceEmbedder(InceptionResnetV1(pretrained=weights).eval())


def delta(distances: Tensor) -> dict[str, float]:
    """Average distances to the nearest training image, under both conventions: (N,) -> two means.

    The paper's tables have the squared one under the name of L2.
    """
    return {
        "delta_unsquared": float(distances.mean()),
        "delta_squared": float(distances.square().mean()),
    }
