import torch

from atat_ray.priors.face_alignment import (
    NUM_KNOTS,
    blur,
    face_mask,
    normalize_contrast,
    recentre,
    register,
    symmetric_mean,
)
from atat_ray.priors.flow_fields import (
    expand_knots,
    fit_knots,
    identity_grid,
    invert_flow,
    mirror_flow,
    spline_matrix,
    warp,
)
from atat_ray.utils.seeding import generator

CPU = torch.device("cpu")


def smooth_flow(num, side, size, *, seed=0):
    """Flows (num, side, side, 2) of knots of standard deviation ``size``."""
    knots = size * torch.randn(num, 2, 5, 5, generator=generator(seed))
    matrix = spline_matrix(side, 5, CPU)
    return expand_knots(knots, matrix, matrix)


def test_registration_recovers_known_shifts(public_images):
    """One face at 9 places: the flows must differ by the shifts between the places."""
    shifts = torch.cartesian_prod(*2 * [torch.tensor([-0.1, 0.0, 0.1])])
    faces = warp(
        public_images[:1].expand(9, -1, -1, -1), shifts[:, None, None].expand(9, 64, 64, 2)
    )
    flow = register(faces, num_steps=40)[:, 16:48, 16:48].mean(dim=(1, 2))
    found = flow - flow.mean(dim=0)
    torch.testing.assert_close(found, -shifts, atol=0.02, rtol=0)


def test_registered_faces_coincide(public_images):
    """The mean of registered faces keeps several times the detail of the plain mean."""
    mask = face_mask(64, 64, CPU)
    features = normalize_contrast(public_images)

    def contrast(images):
        return float((symmetric_mean(images)[0, 0].square() * mask).mean())

    aligned = warp(features, register(public_images, num_steps=12))
    assert contrast(aligned) > 2 * contrast(features)


def test_contrast_normalization_ignores_light():
    images = torch.rand(4, 1, 64, 64, generator=generator(0))
    dimmed = normalize_contrast(0.7 * images + 0.2)
    torch.testing.assert_close(dimmed, normalize_contrast(images), atol=0.15, rtol=0)
    assert normalize_contrast(torch.full((1, 1, 64, 64), 0.4)).abs().max() < 1e-3


def test_blur_keeps_a_constant_image_and_the_share_of_the_image_it_covers():
    constant = torch.full((1, 1, 20, 30), 0.3)
    torch.testing.assert_close(blur(constant, 2.0), constant)
    dot = torch.zeros(1, 1, 128, 128)
    dot[..., 64, 64] = 1
    wide = blur(dot, 2.0)[0, 0, 64]
    place = torch.arange(128.0)
    variance = (wide * (place - 64) ** 2).sum() / wide.sum()
    assert abs(float(variance.sqrt()) - 4) < 0.01  # 2 pixels at 64 are 4 at 128


def test_recentring_removes_the_symmetric_mean_and_keeps_the_rest():
    similarity = torch.randn(6, 4, generator=generator(0))
    knots = torch.randn(6, 2, NUM_KNOTS, NUM_KNOTS, generator=generator(1))
    before, turns = knots.clone(), similarity[:, 1:3].clone()
    recentre(similarity, knots)
    assert similarity[:, [0, 3]].mean(dim=0).abs().max() < 1e-6
    assert torch.equal(similarity[:, 1:3], turns)
    mean = knots.mean(dim=0).permute(1, 2, 0)
    torch.testing.assert_close(mean, -mirror_flow(mean))
    torch.testing.assert_close(knots.diff(dim=0), before.diff(dim=0))


def test_a_zero_flow_leaves_images_unchanged(public_images):
    images = public_images[:5]
    torch.testing.assert_close(warp(images, torch.zeros(5, 64, 64, 2)), images)


def test_mirrored_flow_does_to_mirrored_images_what_the_flow_does_to_images(public_images):
    images, flow = public_images[:5], smooth_flow(5, 64, 0.05)
    mirrored = warp(images.flip(-1), mirror_flow(flow))
    torch.testing.assert_close(mirrored, warp(images, flow).flip(-1), atol=1e-5, rtol=0)


def test_inverse_flow_undoes_the_flow():
    flow = smooth_flow(5, 64, 0.03)
    inverse = invert_flow(flow)
    there = warp(flow.permute(0, 3, 1, 2), inverse).permute(0, 2, 3, 1)
    middle = slice(8, 56)
    assert (inverse + there)[:, middle, middle].abs().max() < 1e-4


def test_knots_are_recovered_from_their_flow():
    knots = torch.randn(3, 2, 17, 17, generator=generator(0))
    rows, columns = spline_matrix(64, 17, CPU), spline_matrix(40, 17, CPU)
    flow = expand_knots(knots, rows, columns)
    assert flow.shape == (3, 64, 40, 2)
    torch.testing.assert_close(fit_knots(flow, 17), knots, atol=1e-3, rtol=1e-3)


def test_identity_grid_is_in_x_y_order():
    grid = identity_grid(2, 4, CPU)
    torch.testing.assert_close(grid[0, :, 0], torch.tensor([-0.75, -0.25, 0.25, 0.75]))
    torch.testing.assert_close(grid[:, 0, 1], torch.tensor([-0.5, 0.5]))
