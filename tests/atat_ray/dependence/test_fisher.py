import pytest
import torch
from torch import nn

from atat_ray.dependence.fisher import (
    dfil,
    eta,
    exact_trace,
    hutchinson_trace,
    jacobian,
    spectral_norm,
)
from atat_ray.utils.seeding import generator


def matrix(rows):
    return torch.tensor(rows, dtype=torch.float64)


def linear(weights):
    """The release of rows, v -> W v + 1, and a batch of one point; its Jacobian is W."""
    return (lambda rows: rows @ weights.T + 1), torch.zeros(1, weights.shape[1]).double()


def of_norm(weights, noise):
    release, point = linear(weights)
    found = spectral_norm(release, point, generator=generator("start"), tolerance=1e-12)
    return eta(found.value, noise).item()


FIRST = matrix([[1, 2, 0], [0, 1, 1]])
SECOND = matrix([[1, -1], [2, 0], [0, 1]])
RANK_TWO = SECOND @ FIRST
FULL_RANK = matrix([[3, 1], [2, 2], [2, 0]])
KEPT = RANK_TWO * matrix([1, 1, 0])


@pytest.mark.parametrize(
    ("weights", "noise", "largest", "trace_form"),
    [
        (RANK_TWO, 0.5, 9.510388889647, 33.333333333333),
        (KEPT, 0.5, 9.508270432752, 92 / 3),
        (FULL_RANK, 0.1, 44.966147775068, 1100),
        (matrix([[2, 0], [1, 1]]), 0.1, 22.882456112707, 300),
    ],
    ids=["rank two", "third pixel deleted", "full rank", "hidden layer"],
)
def test_linear_networks_have_the_loss_of_their_weights(weights, noise, largest, trace_form):
    """Values by eigenvalues of I, W^T W / sigma^2, with 12 decimals."""
    assert of_norm(weights, noise) == pytest.approx(largest, abs=1e-10)
    release, point = linear(weights)
    trace = exact_trace(jacobian(release, point)).value
    assert dfil(trace, weights.shape[1], noise).item() == pytest.approx(trace_form, rel=1e-12)


def test_the_forms_are_ordered_and_each_is_below_the_mean_square_error_of_least_squares():
    noise = 0.1
    information = FULL_RANK.T @ FULL_RANK / noise**2
    release, point = linear(FULL_RANK)
    trace = exact_trace(jacobian(release, point)).value
    reached = information.inverse().trace().item() / 2
    assert reached == pytest.approx(0.003055555556, abs=1e-11)
    floor = 1 / dfil(trace, 2, noise).item()
    assert floor == pytest.approx(9.090909e-4, abs=1e-9)
    assert 1 / of_norm(FULL_RANK, noise) ** 2 < floor < reached


def ridge(rows, labels):
    """The parameters of a ridge regression of weight 1/2, trained by its closed form."""
    return torch.linalg.solve(rows.T @ rows + 0.5 * torch.eye(2).double(), rows.T @ labels)


ROWS = matrix([[1, 2], [0, 1], [2, -1], [1, 1]])
LABELS = matrix([1, -1, 1, -1])


def trained(example, rows=ROWS, mask=(1, 1)):
    """The release of mechanism (a): one training example, and a label if given, to parameters."""

    def release(secrets):
        def train(secret):
            given = [secret[:2] if row == example else rows[row] for row in range(4)]
            labels = LABELS
            if len(secret) == 3:
                labels = torch.stack([secret[2] if i == example else LABELS[i] for i in range(4)])
            return ridge(torch.stack(given) * matrix(mask), labels)

        return torch.func.vmap(train)(secrets)

    return release


def test_of_a_ridge_regression_the_loss_is_that_of_the_derivative_of_its_training():
    """Mechanism (a): the Jacobian of trained parameters in a training example, by implicit
    differentiation, -(r A + (A x) theta^T), A the inverse of the Hessian and r the residual.
    """
    theta = ridge(ROWS, LABELS)
    inverse = (ROWS.T @ ROWS + 0.5 * torch.eye(2).double()).inverse()
    for number, expected in ((0, 2.230504783234), (1, 1.257067716496)):
        x, y = ROWS[number], LABELS[number]
        implicit = -((x @ theta - y) * inverse + torch.outer(inverse @ x, theta))
        found = jacobian(trained(number), x[None])
        assert torch.allclose(found[0], implicit, atol=1e-12)
        norm = spectral_norm(trained(number), x[None], generator=generator(0), tolerance=1e-12)
        assert eta(norm.value, 0.1).item() == pytest.approx(expected, abs=1e-11)
    first = trained(0)
    both = torch.cat([ROWS[0], LABELS[:1]])[None]
    norm = spectral_norm(first, both, generator=generator(0), tolerance=1e-12)
    assert eta(norm.value, 0.1).item() == pytest.approx(3.333340930525, abs=1e-11)
    trace = exact_trace(jacobian(first, ROWS[:1])).value
    assert dfil(trace, 2, 0.1).item() == pytest.approx(2.986298155367, abs=1e-11)


def network(seed=0):
    """A small convolutional network in float64, of smooth and of piecewise linear layers."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        layers = nn.Sequential(
            nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(4, 6, 3), nn.Tanh(), nn.Flatten(), nn.Linear(24, 5),
        )  # fmt: skip
        images = torch.rand(3, 1, 8, 8)
    return layers.double().eval().requires_grad_(False), images.double()


def test_of_a_network_every_form_is_that_of_its_dense_jacobian():
    """torch.func.jacrev of each image alone is the second way; images of a batch are apart."""
    release, images = network()
    dense = torch.stack(
        [torch.func.jacrev(lambda x: release(x[None])[0])(one).flatten(1) for one in images]
    )
    assert torch.allclose(jacobian(release, images), dense, atol=1e-12)
    found = spectral_norm(release, images, generator=generator("start"), tolerance=1e-6)
    _, values, vectors = torch.linalg.svd(dense)
    assert torch.allclose(found.value, values[:, 0], rtol=1e-6)
    assert (found.value <= values[:, 0] * (1 + 1e-12)).all()
    assert (found.residual <= 1e-6).all()
    agreement = (found.vector.flatten(1) * vectors[:, 0]).sum(1).abs()
    assert torch.allclose(agreement, torch.ones(3).double(), atol=1e-6)
    products = dense.mT @ dense
    traces = products.diagonal(dim1=1, dim2=2).sum(1)
    assert torch.allclose(exact_trace(dense).value, traces, rtol=1e-12)


def test_power_iteration_says_when_it_did_not_settle():
    release, images = network()
    few = spectral_norm(release, images, generator=generator(1), tolerance=1e-9, max_steps=2)
    assert (few.residual > 1e-9).all()
    assert (few.value < torch.linalg.matrix_norm(jacobian(release, images), ord=2)).all()
    close = spectral_norm(release, images, generator=generator(1), tolerance=1e-3)
    squares = torch.linalg.svdvals(jacobian(release, images)) ** 2
    distance = (squares - close.value[:, None] ** 2).abs().amin(1)
    assert (distance <= 1e-3 * close.value**2).all()


def test_hutchinson_is_unbiased_with_the_standard_error_that_it_states():
    """Var = 2 sum_(i != j) (J J^T)_ij^2 a probe, for Rademacher signs."""
    release, images = network()
    dense = jacobian(release, images)
    gram = dense @ dense.mT
    off = gram.square().sum((1, 2)) - gram.diagonal(dim1=1, dim2=2).square().sum(1)
    exact, error = exact_trace(dense).value, (2 * off / 400).sqrt()
    found = hutchinson_trace(release, images, probes=400, generator=generator("probes"))
    assert ((found.value - exact).abs() < 4 * error).all()
    assert torch.allclose(found.standard_error, error, rtol=0.2)


def test_a_constant_release_loses_nothing():
    found = spectral_norm(lambda rows: 0 * rows[:, :2], torch.ones(2, 3), generator=generator(0))
    assert found.value.tolist() == found.residual.tolist() == [0, 0]


def test_noise_probes_and_tolerance_out_of_range_are_refused():
    release, point = linear(FIRST)
    for noise in (0.0, -1.0, float("inf"), float("nan")):
        with pytest.raises(ValueError, match="noise must be above 0"):
            eta(torch.ones(1), noise)
        with pytest.raises(ValueError, match="noise must be above 0"):
            dfil(torch.ones(1), 2, noise)
    with pytest.raises(ValueError, match="probes must be 2 or more for a standard error, got 1"):
        hutchinson_trace(release, point, probes=1, generator=generator(0))
    with pytest.raises(ValueError, match="tolerance must be above 0"):
        spectral_norm(release, point, generator=generator(0), tolerance=0)
