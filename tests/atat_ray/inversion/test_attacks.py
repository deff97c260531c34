"""IF-GMI and PPDG, and the properties that all attacks share."""

import math
from copy import deepcopy
from dataclasses import replace

import pytest
import torch
from torch import nn

from atat_ray.inversion import ATTACKS, invert
from atat_ray.inversion import cost_estimate as estimating
from atat_ray.inversion.cost_estimate import estimate, saved_bytes
from atat_ray.inversion.if_gmi import IfGmi, l1_norm, project_l1
from atat_ray.inversion.interface import Scope
from atat_ray.inversion.losses import LOSSES, cross_entropy_loss, logit_loss, max_margin_loss
from atat_ray.inversion.optimization import clamp_first, minimize
from atat_ray.inversion.ppa import Ppa
from atat_ray.inversion.ppdg import Ppdg, image_distance
from atat_ray.priors.pca import RotatedPCAPrior
from atat_ray.priors.warped import WarpedPrior
from atat_ray.utils.seeding import generator

SMALL = {
    "samples": 20, "candidates": 4, "keep": 2, "learning_rate": 0.1, "betas": (0.1, 0.1),
    "crop_area": (0.9, 1.0), "latent_limit": 2.0, "views": 3, "view_area": (0.5, 0.9),
}  # fmt: skip
PPA = Ppa(**SMALL, steps=4)
IF_GMI = IfGmi(
    **SMALL, steps=(4, 3, 3), radii=(4.0, 0.5, 0.5), feature_radii=(0.1, 0.1), feature_rate=0.02
)
PPDG = Ppdg(
    **SMALL, steps=4, rounds=2, pseudo_private=2, pivot_steps=4, pivot_rate=0.1, pivot_limit=1.0,
    tuning_steps=4, tuning_rate=0.02,
)  # fmt: skip
EACH = {"ppa": PPA, "if_gmi": IF_GMI, "ppdg": PPDG}


@pytest.fixture
def prior():
    draws = generator("attacked prior")
    return WarpedPrior(
        texture_mean=torch.full((1, 16, 16), 0.5),
        texture_basis=0.1 * torch.randn(5, 1, 16, 16, generator=draws),
        flow_mean=0.02 * torch.randn(2, 5, 5, generator=draws),
        flow_basis=0.05 * torch.randn(3, 2, 5, 5, generator=draws),
    )


@pytest.fixture
def target():
    torch.manual_seed(1)
    return nn.Sequential(nn.Flatten(), nn.Linear(256, 3)).eval()


@pytest.fixture
def scope():
    return Scope(num_classes=3, part=range(3), seed=4, device=torch.device("cpu"))


def test_losses_are_their_formulas():
    logits = torch.tensor([[2.0, -1.0, 0.5], [0.1, 0.2, 3.0]])
    targets = torch.tensor([0, 1])
    assert logit_loss(logits, targets).tolist() == pytest.approx([-2.0, -0.2])
    assert max_margin_loss(logits, targets).tolist() == pytest.approx([0.5 - 2.0, 3.0 - 0.2])
    of_probabilities = max_margin_loss(logits.log_softmax(1), targets)
    assert torch.allclose(of_probabilities, max_margin_loss(logits, targets), atol=1e-6)
    for row, target in enumerate([0, 1]):
        weights = [math.exp(float(x)) for x in logits[row]]
        expected = -math.log(weights[target] / sum(weights))
        assert float(cross_entropy_loss(logits, targets)[row]) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("loss", sorted(LOSSES))
def test_every_loss_falls_when_it_is_minimised(prior, target, loss):
    def reached(steps):
        found = invert(target, prior, 3, replace(PPA, loss=loss, steps=steps, keep=4), seed=4)
        return LOSSES[loss](target(found.images), found.classes).mean()

    assert reached(30) < reached(0)


@pytest.mark.parametrize("name", sorted(ATTACKS))
@pytest.mark.parametrize("preset", ["quick", "paper"])
def test_presets_are_valid(name, preset):
    attack = ATTACKS[name].from_preset(preset)
    assert attack.steps_per_class() > 0


@pytest.mark.parametrize("name", sorted(EACH))
def test_a_minimal_attack_takes_every_kind_of_step_once_on_one_candidate(prior, target, name):
    attack = EACH[name].minimal()
    assert (attack.samples, attack.candidates, attack.keep, attack.views) == (1, 1, 1, 1)
    assert len(attack.parts(3)) == 3
    assert invert(target, prior, 3, attack, seed=4, part=[1]).classes.tolist() == [1]
    steps = {"ppa": 1, "if_gmi": 3, "ppdg": 2 + 2}[name]  # ppdg: two rounds, pivot and tuning
    assert attack.steps_per_class() == steps


@pytest.mark.parametrize("name", sorted(EACH))
def test_an_attack_returns_its_images_in_order_as_a_function_of_the_seed(prior, target, name):
    before = [tensor.clone() for tensor in prior.weights()]
    found, again = (invert(target, prior, 3, EACH[name], seed=4) for _ in range(2))
    assert found.classes.tolist() == [0, 0, 1, 1, 2, 2]
    assert found.images.min() >= 0
    assert found.images.max() <= 1
    assert torch.equal(found.images, again.images)
    assert not torch.equal(found.images, invert(target, prior, 3, EACH[name], seed=5).images)
    sure = target(found.images).softmax(1).gather(1, found.classes[:, None]).squeeze(1)
    assert torch.allclose(found.confidence, sure, atol=1e-6)
    assert all(map(torch.equal, prior.weights(), before))
    assert not any(tensor.requires_grad for tensor in prior.weights())


@pytest.mark.parametrize("name", sorted(EACH))
def test_parts_and_batches_give_the_results_of_the_whole_attack(prior, target, name):
    whole = invert(target, prior, 3, EACH[name], seed=4)
    alone = invert(target, prior, 3, EACH[name], seed=4, part=[1])
    batched = invert(target, prior, 3, replace(EACH[name], batch=3), seed=4)
    assert torch.allclose(alone.images, whole.images[2:4], atol=1e-4)
    assert torch.allclose(batched.images, whole.images, atol=1e-4)


def test_learning_rates_fall_at_milestones(prior, target):
    runs = [
        invert(target, prior, 3, replace(PPA, milestones=m), seed=4).latents for m in [(), (2,)]
    ]
    assert not torch.equal(*runs)
    with pytest.raises(ValueError, match="milestones must be steps above 0 in rising order"):
        replace(PPA, milestones=(3, 2))


def test_the_l1_projection_is_the_nearest_point_of_the_ball():
    moves = torch.randn(6, 2, 4, generator=generator("moves"))
    radii = torch.tensor([0.1, 0.5, 1.0, 2.0, 100.0, 3.0])
    found = project_l1(moves, radii)
    assert (l1_norm(found) <= radii * (1 + 1e-5)).all()
    assert torch.equal(found[4], moves[4])
    distance = (found - moves).flatten(1).norm(dim=1)
    for trial in range(50):
        other = torch.randn(6, 2, 4, generator=generator("others", trial))
        other = found + 0.1 * other
        size = (radii / l1_norm(other)).clamp(max=1)[:, None, None]
        assert (distance <= (other * size - moves).flatten(1).norm(dim=1) + 1e-6).all()


def test_stages_stay_in_their_balls_and_images_are_those_of_the_state(
    prior, target, scope, monkeypatch
):
    from atat_ray.inversion import if_gmi

    seen = []

    def watched(target, synthesize, state, *rest, **options):
        end = minimize(target, synthesize, state, *rest, **options)
        seen.append((state, end, synthesize(end)))
        return end

    monkeypatch.setattr(if_gmi, "minimize", watched)
    endings = replace(IF_GMI, keep=4).search_stages(target, prior, scope)
    assert len(seen) == 3
    for stage, ((start, end, images), ending) in enumerate(zip(seen, endings, strict=True)):
        assert torch.equal(images, prior.finish(end, stage))  # no step behind
        order = ending.styles.unsqueeze(1) - end[0].unsqueeze(0)
        rows = order.abs().sum(-1).argmin(1)
        assert torch.equal(ending.styles, end[0][rows])
        moved = [l1_norm(b - a) / l1_norm(a) for a, b in zip(start, end, strict=True)]
        if stage:
            assert (moved[0] <= 0.5 * 1.0001).all()
            assert (moved[1] > 0).all()
            assert (moved[1] <= 0.1 * 1.0001).all()
            assert torch.equal(images[rows].clamp(0, 1), ending.images)
        for tensor, carried in list(zip(start, end, strict=True))[2:]:
            assert torch.equal(tensor, carried)


def test_the_papers_radii_are_those_of_its_code_by_stage():
    """``max_radius_w[i]`` for styles and ``max_radius_mid[i]`` for features, i from 0."""
    attack = IfGmi.from_preset("paper")
    for stage, radius in enumerate([1000, 2000, 3000, 4000]):
        start = (torch.ones(2, 1, 8), torch.ones(2, 4, 3, 3))[: 1 + (stage > 0)]
        state = tuple(tensor + 1e4 for tensor in start)
        attack.ball(stage)(state, start)
        moved = torch.stack([l1_norm(b - a) for a, b in zip(start, state, strict=True)])
        assert torch.allclose(moved, torch.full_like(moved, radius), rtol=1e-4)


def test_the_target_chooses_a_stage_for_each_class_and_the_oracle_keeps_all(prior, target, scope):
    endings = IF_GMI.search_stages(target, prior, scope)
    scores = torch.stack([ending.score for ending in endings]).view(3, 3, 2).mean(2)
    found = invert(target, prior, 3, IF_GMI, seed=4)
    assert found.stage[::2].tolist() == scores.argmax(0).tolist()
    assert found.stage_images.shape == (6, 0, 1, 16, 16)
    every = invert(target, prior, 3, replace(IF_GMI, choice="oracle"), seed=4)
    assert every.stage_images.shape == (6, 3, 1, 16, 16)
    rows = torch.arange(6)
    assert torch.equal(every.images, every.stage_images[rows, every.stage])
    assert torch.equal(every.confidence, every.stage_confidence[rows, every.stage])


def test_ppdg_tunes_a_copy_to_generate_the_images_near_the_centre(prior):
    images = prior.synthesize(2 * prior.sample_latents(2, generator(1)))
    samples = prior.sample_latents(50, generator(2))

    def nearest(attack):
        tuned = deepcopy(prior)
        attack.tune(tuned, images, samples)
        pivots = (samples.mean(0).expand(2, -1).clone(),)
        attack.find_pivots(lambda state: tuned.synthesize(state[0]), pivots, images)
        assert (pivots[0] - samples.mean(0)).abs().max() <= 1.0 + 1e-6
        return image_distance(tuned.synthesize(pivots[0]), images).mean()

    longer = replace(PPDG, pivot_steps=20, tuning_steps=20)
    assert nearest(longer) < 0.9 * nearest(replace(longer, tuning_steps=0))


def test_one_round_of_ppdg_is_ppa(prior, target):
    once = invert(target, prior, 3, replace(PPDG, rounds=1), seed=4)
    assert torch.equal(once.images, invert(target, prior, 3, PPA, seed=4).images)


def test_the_distance_of_an_image_to_itself_is_zero_and_edges_count():
    images = torch.rand(2, 1, 32, 32, generator=generator(1))
    assert image_distance(images, images).tolist() == [0, 0]
    ramp = 0.1 * (torch.arange(8) % 2 * 2 - 1)
    small = images[..., :8, :8]
    assert image_distance(small + 0.1, small).tolist() == pytest.approx([0.1, 0.1])
    assert image_distance(small + ramp, small).tolist() == pytest.approx([0.3, 0.3])


def test_a_prior_without_what_an_attack_needs_is_refused(target):
    linear = RotatedPCAPrior(mean=torch.zeros(1, 16, 16), basis=torch.zeros(5, 1, 16, 16))
    with pytest.raises(ValueError, match="if_gmi needs a prior with stages, got rotated_pca"):
        invert(target, linear, 3, IF_GMI, seed=4)
    with pytest.raises(ValueError, match="ppdg needs a prior with weights to tune"):
        invert(target, linear, 3, PPDG, seed=4)
    with pytest.raises(ValueError, match="space: styles needs a prior with stages"):
        invert(target, linear, 3, replace(PPA, space="styles"), seed=4)


def test_more_stages_than_the_prior_has_are_refused(prior, target):
    four = replace(
        IF_GMI, steps=(1, 1, 1, 1), radii=(1.0,) * 4, feature_radii=(1.0,) * 3
    )  # fmt: skip
    with pytest.raises(ValueError, match="steps for 4 stages, the prior warped has 3"):
        invert(target, prior, 3, four, seed=4)


@pytest.mark.parametrize(
    ("attack", "options", "message"),
    [
        (
            PPA,
            {"loss": "hinge"},
            "unknown loss 'hinge'; known: cross_entropy, logit, max_margin, poincare",
        ),
        (PPA, {"space": "pixels"}, "unknown space 'pixels'; known: latents, styles"),
        (PPA, {"batch": 0}, "batch must be 1 or more, got 0"),
        (IF_GMI, {"steps": ()}, "steps must have one number of 0 or more a stage"),
        (IF_GMI, {"radii": (1.0,)}, r"radii must have 3 numbers above 0 for 3 stages, got \[1.0\]"),
        (IF_GMI, {"feature_radii": (1.0, 0.0)}, "feature_radii must have 2 numbers above 0"),
        (IF_GMI, {"feature_rate": 0.0}, "feature_rate must be above 0"),
        (IF_GMI, {"choice": "both"}, "unknown choice 'both'; known: oracle, target"),
        (PPDG, {"rounds": 0}, "rounds must be 1 or more"),
        (PPDG, {"pseudo_private": 3}, "pseudo_private must be in 1..keep, got 3, keep 2"),
        (PPDG, {"tuning_rate": 0.0}, "tuning_rate must be above 0"),
        (PPDG, {"pivot_steps": -1}, "pivot_steps must be 0 or more"),
    ],
)
def test_wrong_options_are_refused(attack, options, message):
    with pytest.raises(ValueError, match=message):
        replace(attack, **options)


def test_clamping_changes_only_the_first_tensor():
    state = (torch.tensor([[3.0]]), torch.tensor([[3.0]]))
    clamp_first(2.0)(state, state)
    assert [float(tensor) for tensor in state] == [2.0, 3.0]
    clamp_first(None)(state, state)


def test_an_estimate_adds_up_what_its_probes_took(prior, target, monkeypatch):
    monkeypatch.setattr(estimating, "fastest_seconds", lambda device, work: work() or 0.5)
    found = estimate(target, prior, 3, replace(PPA, batch_classes=2, steps=5))
    # 4 candidates are probed; 3 classes of 4 candidates; 20 samples and their mirrors, once
    assert found.seconds == pytest.approx(0.5 / 4 * (3 * 4 * 5 + 3 * 4 * 3 + 20 * 2))
    assert "hours of one device" in str(found)
    longer = estimate(target, prior, 3, replace(PPA, batch_classes=1, steps=5))
    assert longer.megabytes == pytest.approx(found.megabytes / 2)


def test_samples_are_scored_again_for_each_class_with_a_tuned_prior():
    assert PPA.num_scored_samples(3) == IF_GMI.num_scored_samples(3) == 20
    assert PPDG.num_scored_samples(3) == 20 + 3 * 20


def test_saved_bytes_are_those_of_the_tensors_that_the_backward_pass_needs():
    x = torch.ones(10, requires_grad=True)
    assert saved_bytes(lambda: x * x) == 40
    assert saved_bytes(lambda: x.exp() + x.exp()) == 80
