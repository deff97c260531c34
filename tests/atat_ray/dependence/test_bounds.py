import math

import pytest
import torch

from atat_ray.dependence.bounds import log_hcr, row_space, search_hcr, unit_steps
from atat_ray.dependence.fisher import jacobian
from atat_ray.utils.seeding import generator


def matrix(rows):
    return torch.tensor(rows, dtype=torch.float64)


def linear(weights):
    """The release of rows, v -> W v + 1, and a batch of one point; its Jacobian is W."""
    weights = matrix(weights)
    return (lambda rows: rows @ weights.T + 1), torch.full((1, weights.shape[1]), 0.3).double()


def bound(weights, step, noise):
    """The HCR bound of a step, as numbers."""
    step = matrix(step)
    return log_hcr(step, matrix(weights) @ step, noise).exp().tolist()


DIAGONAL = [[3, 0], [0, 0.5]]
TALL = [[2, 1, 0], [0, 1, -1], [1, 0, 3], [0, 2, 1]]
RANK_TWO = [[1, 1, -1], [2, 4, 0], [0, 1, 1]]
KEPT = [[1, 1, 0], [2, 4, 0], [0, 1, 0]]  # the same with its third pixel deleted
FULL_RANK = [[3, 1], [2, 2], [2, 0]]


@pytest.mark.parametrize(
    ("weights", "step", "noise", "expected"),
    [
        (DIAGONAL, [0.5, 0], 2, [0.575414509940591, 0]),
        (DIAGONAL, [1, 0], 2, [0.343244883871676, 0]),
        (DIAGONAL, [0, 0.5], 2, [0, 3.984385212239]),
        (DIAGONAL, [0, 2], 2, [0, 3.752765201388]),
        (TALL, [1, 0, 0], 1.5, [0.348624382494, 0, 0]),
        (TALL, [1, -1, 0.5], 1.5, [0.073651840663, 0.073651840663, 0.0368259203315]),
    ],
)
def test_the_bound_of_a_step_is_that_of_the_formula(weights, step, noise, expected):
    assert bound(weights, step, noise) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(
    ("alpha", "share"),
    [(1e-3, 0.99999975), (0.5, 0.938191300347), (1, 0.762873978367), (2, 0.273183896771)],
)
def test_a_finite_step_loses_alpha_over_the_root_of_expm1(alpha, share):
    noise = 0.7
    found = bound([[1.0]], [alpha * noise], noise)
    assert found == pytest.approx([share * noise], abs=1e-11)


def test_the_bound_is_that_of_the_chi_square_divergence_between_two_releases():
    """delta_k^2 / s_k^2 is E (p_delta / p_0 - 1)^2 under p_0, by Monte Carlo."""
    step, noise, draws = matrix([0.5, 0]), 2.0, 400_000
    change = matrix(DIAGONAL) @ step
    released = noise * torch.randn(draws, 2, generator=generator("release")).double()
    log_ratio = (released.square().sum(1) - (released - change).square().sum(1)) / (2 * noise**2)
    terms = log_ratio.expm1().square()
    chi_square = (step[0] / log_hcr(step, change, noise).exp()[0]).square().item()
    assert chi_square == pytest.approx(0.755054656960, abs=1e-11)
    assert abs(terms.mean().item() - chi_square) < 4 * terms.std().item() / draws**0.5


def test_logarithms_keep_what_exp_loses():
    """At small alpha exp - 1 has no digits left; above alpha^2 = 709 it overflows."""
    step = matrix([1.0])
    for alpha in (1e-200, 1e-9, 1e-4):
        assert log_hcr(step, alpha * step, 1.0).item() == pytest.approx(-math.log(alpha), abs=1e-8)
    for square in (699.9, 700.1, 1e4):
        found = log_hcr(step, math.sqrt(square) * step, 1.0)
        assert found.item() == pytest.approx(-square / 2, rel=1e-12)
    assert log_hcr(step, 1e200 * step, 1.0).exp().item() == 0
    assert log_hcr(step.float(), matrix([1e-3]).float(), 1.0).dtype == torch.float64


def test_a_coordinate_that_changes_without_a_change_of_the_release_has_an_infinite_bound():
    """And one that does not change has the bound 0, not NaN."""
    release, point = linear(KEPT)
    step = matrix([[0, 0, 0.5]])
    found = log_hcr(step, release(point + step) - release(point), 1e-9).exp()
    assert found.tolist() == [[0, 0, math.inf]]


@pytest.mark.parametrize(
    ("weights", "noise", "expected"),
    [
        (DIAGONAL, 2, [2 / 3, 4]),
        (TALL, 1.5, [0.782256151265, 0.658068684337, 0.494742230335]),
        (RANK_TWO, 0.5, [math.inf] * 3),
        (KEPT, 0.5, [0.707106781187, 0.372677996250, math.inf]),
        (FULL_RANK, 0.1, [0.037267799625, 0.068718427094]),
        ([[2, 0], [1, 1]], 0.1, [0.05, 0.111803398875]),
    ],
    ids=["diagonal", "tall", "rank two", "pixel deleted", "network", "hidden layer"],
)
def test_the_supremum_of_a_linear_release_is_cramer_rao(weights, noise, expected):
    release, point = linear(weights)
    found = row_space(jacobian(release, point))
    assert found.cramer_rao(noise)[0].tolist() == pytest.approx(expected, abs=1e-11)
    assert found.rank.item() == torch.linalg.matrix_rank(matrix(weights)).item()


def test_least_squares_reaches_cramer_rao():
    weights, noise, draws = matrix(TALL), 1.5, 200_000
    released = noise * torch.randn(draws, 4, generator=generator("errors")).double()
    estimates = released @ torch.linalg.pinv(weights).T
    expected = row_space(weights[None]).cramer_rao(noise)[0]
    assert ((estimates.std(0) / expected - 1).abs() < 4 / (2 * draws) ** 0.5).all()


def test_the_row_space_value_is_the_largest_of_directions_in_the_row_space():
    """A second way: |d_k| / |J d| over d = J^T w, largest at w = (J J^T)^+ J e_k."""
    weights, noise = matrix(RANK_TWO), 0.5
    found = row_space(weights[None])
    best = found.row_space_deviation(noise)[0]
    assert best.isfinite().all()
    assert torch.allclose(best, noise * torch.linalg.pinv(weights.T @ weights).diagonal().sqrt())
    directions = weights.T @ torch.randn(3, 20_000, generator=generator("d")).double()
    reached = noise * (directions.abs() / (weights @ directions).norm(dim=0)).amax(1)
    assert (reached <= best * (1 + 1e-9)).all()
    assert (reached > 0.999 * best).all()
    along = noise * found.singular[0].abs() / (weights @ found.singular[0]).norm()
    assert along.tolist() == pytest.approx([0.114602940, 0.066066792, 0.295272667], abs=1e-8)
    assert (along < best).all()


def searched(weights, directions, noise, reach=1e9):
    release, point = linear(weights)
    found = search_hcr(release, point, iter(directions), noises=(noise,), reach=reach)
    return found[0, 0].tolist()


def test_a_search_reaches_the_closed_form_of_each_kind_of_direction():
    """Single steps, the last singular direction and the Cramer-Rao directions, in that order."""
    close = {"rel": 3e-7}  # the loss of the smallest step, alpha 1e-3
    point = linear(TALL)[1]
    found = row_space(matrix([TALL]))
    units = list(unit_steps(point, torch.arange(3)))
    expected = [0.670820393250, 0.612372435696, 0.452267016867]
    assert searched(TALL, units, 1.5) == pytest.approx(expected, **close)
    expected = [0.734274982324, 0.410913376284, 0.223128169741]
    assert searched(TALL, [found.singular], 1.5) == pytest.approx(expected, **close)
    every = [found.row_space_directions(k) for k in range(3)]
    expected = [0.782256151265, 0.658068684337, 0.494742230335]
    assert searched(TALL, [*units, found.singular, *every], 1.5) == pytest.approx(expected, **close)


def test_a_search_finds_a_deleted_pixel_infinite_at_every_noise_and_no_other():
    release, point = linear(KEPT)
    units = unit_steps(point, torch.arange(3))
    noises = (1e-6, 1.0, 1e6)
    found = search_hcr(release, point, units, noises=noises, reach=0.5)[:, 0]
    assert found[:, 2].tolist() == [math.inf] * 3
    assert (found[:, :2].isfinite() & (found[:, :2] > 0)).all()


def test_no_coordinate_moves_further_than_the_reach_and_unit_steps_stay_in_the_range():
    seen = []

    def release(rows):
        seen.append(rows.detach())
        return 1e-3 * rows

    point = matrix([[0.0, 0.4, 0.9, 1.0]])
    steps = unit_steps(point, torch.arange(4))
    search_hcr(release, point, steps, noises=(0.1, 1e9), reach=0.5)
    moved = torch.cat(seen[1:])
    assert (moved - point).abs().max().item() == 0.5
    assert moved.min() >= 0
    assert moved.max() <= 1


def test_larger_steps_find_more_where_a_release_flattens():
    """For v -> tanh(10 v) at 0 the bound of a small step, noise / 10, is not the largest."""

    def release(rows):
        return torch.tanh(10 * rows)

    point = torch.zeros(1, 1).double()
    steps = unit_steps(point, torch.arange(1))
    found = search_hcr(release, point, steps, noises=(5.0,), reach=0.5).item()
    assert found == pytest.approx(0.5 / math.sqrt(math.expm1((math.tanh(5) / 5) ** 2)))
    assert found > 4 * 5.0 / 10


def ridge_release(mask):
    """Mechanism (a): the first training example of a ridge regression to its parameters."""
    rows, labels = matrix([[1, 2], [0, 1], [2, -1], [1, 1]]), matrix([1, -1, 1, -1])

    def train(secret):
        seen = torch.cat([secret[None], rows[1:]]) * matrix(mask)
        return torch.linalg.solve(seen.T @ seen + 0.5 * torch.eye(2).double(), seen.T @ labels)

    return torch.func.vmap(train), rows[:1]


def test_pixels_of_a_training_image_have_the_bounds_of_the_trained_parameters():
    release, point = ridge_release([1, 1])
    found = row_space(jacobian(release, point))
    expected = [0.82469823, 0.72348708]
    assert found.cramer_rao(0.1)[0].tolist() == pytest.approx(expected, abs=1e-8)
    units = unit_steps(point, torch.arange(2))
    every = [found.row_space_directions(k) for k in range(2)]
    # A step that moves single pixels is that of an attacker who knows the others.
    alone = search_hcr(release, point, units, noises=(1e-4,), reach=9)[0, 0]
    assert (1e3 * alone).tolist() == pytest.approx([0.62047122, 0.54432385], rel=1e-4)
    best = search_hcr(release, point, iter(every), noises=(1e-4,), reach=9)[0, 0]
    assert (1e3 * best).tolist() == pytest.approx(expected, rel=1e-4)


def test_a_pixel_that_is_deleted_before_training_is_in_no_parameter():
    release, point = ridge_release([1, 0])
    assert release(point)[0].tolist() == pytest.approx([0.30769231, 0], abs=1e-8)
    step = matrix([[0, 5]])
    assert torch.equal(release(point + step), release(point))
    found = row_space(jacobian(release, point)).cramer_rao(0.1)[0]
    assert found.tolist() == pytest.approx([1.69, math.inf], abs=1e-8)


def test_what_is_not_finite_or_not_double_is_refused():
    release, point = linear(TALL)
    with pytest.raises(ValueError, match="must be finite, got NaN"):
        log_hcr(torch.ones(2), torch.tensor([math.nan]), 1.0)
    with pytest.raises(ValueError, match="noise must be above 0 and finite, got 0"):
        log_hcr(torch.ones(2), torch.ones(2), 0.0)
    with pytest.raises(ValueError, match="points must be float64, got torch.float32"):
        search_hcr(release, point.float(), iter([]), noises=(1.0,), reach=1.0)
