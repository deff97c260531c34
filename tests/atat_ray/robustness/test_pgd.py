import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small import draws
from torch import nn

from atat_ray.models.batch_norm_modes import frozen_statistics
from atat_ray.robustness.epsilon import check_epsilon
from atat_ray.robustness.pgd import pgd, project
from atat_ray.utils.precision import assert_true_float32, true_float32
from atat_ray.utils.seeding import generator


@pytest.fixture
def images():
    return torch.rand(5, 1, 4, 4, generator=generator("images"))


@pytest.fixture
def linear():
    """Two classes, logits linear in the image: the sign of the gradient is the same everywhere."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 2))
    with torch.no_grad():
        model[1].weight.copy_(torch.randn(2, 16, generator=generator("weights")))
    return model


@pytest.mark.parametrize("targeted", [True, False])
@pytest.mark.parametrize(("steps", "step_size"), [(1, 0.01), (3, 0.004), (10, 0.02)])
def test_pgd_on_a_linear_model_is_its_closed_form(linear, images, targeted, steps, step_size):
    epsilon, labels = 0.03, torch.tensor([0, 1, 0, 1, 1])
    weight = linear[1].weight.detach()
    towards = torch.stack([weight[y] - weight[1 - y] for y in labels]).sign().view_as(images)
    move = min(steps * step_size, epsilon) * (towards if targeted else -towards)
    found = pgd(
        linear, images, labels, epsilon=epsilon, steps=steps, step_size=step_size,
        targeted=targeted, random_start=False, draws=draws(),
    )  # fmt: skip
    assert torch.allclose(found, (images + move).clamp(0, 1), atol=1e-6)


@given(
    seed=st.integers(0, 2**32), epsilon=st.floats(1e-4, 1.0), start=st.booleans(),
    targeted=st.booleans(),
)  # fmt: skip
@settings(max_examples=30, deadline=None)
def test_pgd_stays_in_the_ball_and_in_the_unit_range(seed, epsilon, start, targeted):
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 3))
    images = torch.rand(4, 1, 4, 4, generator=generator(seed))
    found = pgd(
        model, images, torch.tensor([0, 1, 2, 0]), epsilon=epsilon, steps=3, step_size=epsilon,
        targeted=targeted, random_start=start, draws=draws(seed),
    )  # fmt: skip
    assert found.min() >= 0
    assert found.max() <= 1
    assert float((found - images).abs().max()) <= epsilon + 1e-6
    assert not found.requires_grad


def test_projection_is_the_nearest_point_of_ball_and_range():
    center = torch.tensor([0.0, 0.5, 1.0])
    moved = torch.tensor([-0.5, 0.9, 1.5])
    assert torch.equal(project(moved, center, 0.25), torch.tensor([0.0, 0.75, 1.0]))


def test_targeted_pgd_raises_the_probability_of_the_label_and_untargeted_lowers_it(images):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 8), nn.Tanh(), nn.Linear(8, 4))
    labels = torch.tensor([0, 1, 2, 3, 0])

    def probability(of):
        return model(of).softmax(1).gather(1, labels[:, None]).squeeze(1)

    options = {"epsilon": 0.1, "steps": 5, "step_size": 0.04, "random_start": True}
    near = pgd(model, images, labels, targeted=True, draws=draws(), **options)
    far = pgd(model, images, labels, targeted=False, draws=draws(), **options)
    assert (probability(near) > probability(images)).all()
    assert (probability(far) < probability(images)).all()


def test_pgd_updates_no_running_statistics_and_keeps_the_mode(images):
    model = nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(12, 2))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    pgd(
        model, images, torch.zeros(5, dtype=torch.long), epsilon=0.1, steps=2, step_size=0.1,
        targeted=True, random_start=False, draws=draws(),
    )  # fmt: skip
    assert model.training
    assert model[1].momentum == 0.1
    moved = [n for n, v in model.state_dict().items() if not torch.equal(v, before[n])]
    assert moved == ["1.num_batches_tracked"]  # a counter that torch's momentum ignores
    with frozen_statistics(model), pytest.raises(RuntimeError):
        raise RuntimeError
    assert model[1].momentum == 0.1


@pytest.mark.parametrize("epsilon", [0.0, -0.1, 8.0, float("nan"), float("inf")])
def test_an_epsilon_that_is_no_pixel_radius_is_refused(epsilon):
    with pytest.raises(ValueError, match=r"pixel units.*above 0 and at most 1"):
        check_epsilon(epsilon)


def test_an_epsilon_in_gray_levels_is_answered_with_its_value_in_pixel_units():
    with pytest.raises(ValueError, match=r"for 8/255 write 0\.0313725"):
        check_epsilon(8)


def test_precision_that_would_round_a_perturbation_is_refused(images):
    with pytest.raises(ValueError, match="float32"):
        assert_true_float32(images.half())
    with torch.autocast("cpu"):
        with pytest.raises(ValueError, match="autocast"):
            assert_true_float32(images)
        with true_float32():
            assert_true_float32(images)
