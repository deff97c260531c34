import torch

from atat_ray.priors.face_mixing import band_mask, mix_faces, spot_mask
from atat_ray.utils.seeding import BatchDraws, generator


def test_masks_are_shares_and_the_spots_of_a_pair_are_mirror_images():
    like = torch.zeros(50, 1, 32, 32)
    bands, spots = (mask(like, BatchDraws(generator(0))) for mask in (band_mask, spot_mask))
    for mask in (bands, spots):
        assert mask.min() >= 0
        assert mask.max() <= 1
    torch.testing.assert_close(spots, spots.flip(-1))
    assert (bands.diff(dim=-2) >= 0).all()


def test_faces_are_composed_of_the_gallery_only():
    """A gallery of uniform gray gives uniform faces, up to the change of brightness."""
    faces = mix_faces(torch.full((5, 3, 16, 16), 0.5), 40, generator(0))
    assert faces.shape == (40, 3, 16, 16)
    assert faces.std(dim=(1, 2, 3)).max() < 1e-6
    assert (faces.mean(dim=(1, 2, 3)) - 0.5).abs().max() <= 0.075


def test_mixed_faces_keep_the_contrast_of_the_gallery(public_images):
    faces = mix_faces(public_images, 500, generator(0))
    ratio = float(faces.std(dim=0).mean() / public_images.std(dim=0).mean())
    assert 0.85 < ratio < 1.1
    assert torch.equal(faces, mix_faces(public_images, 500, generator(0)))
