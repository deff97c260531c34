"""The loss of every defense, written a second time."""

from math import pi

import pytest
import torch
from small import begun, draws, nll, small
from torch import nn

from atat_ray.defenses import DEFENSES
from atat_ray.defenses.anti_adversarial import AntiAdversarial
from atat_ray.defenses.decoys import draw_reference_decoys
from atat_ray.defenses.neg_ls import NegLs
from atat_ray.robustness.pgd import pgd

ATAT = {"weight": 2.0, "epsilon": 0.02, "steps": 2, "step_size": 0.01, "random_start": True}


def gaussian(rows, sigma):
    """A Gaussian kernel matrix by a double loop, in float64."""
    flat = rows.flatten(1).double()
    return torch.stack(
        [
            torch.stack([(-(a - b).square().sum() / (2 * sigma**2)).exp() for b in flat])
            for a in flat
        ]
    )


@pytest.mark.parametrize("adversarial_pass", ["shared", "frozen", "joint"])
@pytest.mark.parametrize("statistics", ["batch", "running", "moving"])
def test_atat_with_its_options(batch, adversarial_pass, statistics):
    images, labels = batch
    options = {**ATAT, "smoothing": 0.3, "inner_statistics": statistics}
    model, other = small().train(), small().train()
    terms = AntiAdversarial(**options, adversarial_pass=adversarial_pass).loss(
        model, images, labels, draws()
    )
    again = draws()
    logits = None if adversarial_pass == "joint" else other(images)
    decoys = (labels + again.integers(1, 4, labels)) % 4
    moved = (images + again.uniform(-0.02, 0.02, images, 1, 32, 32)).clamp(0, 1)
    moved = torch.minimum(torch.maximum(moved, images - 0.02), images + 0.02)
    momenta = {m: m.momentum for m in other.modules() if isinstance(m, nn.BatchNorm2d)}
    for layer in momenta:
        layer.momentum = 0.0 if statistics == "batch" else layer.momentum
    other.train(statistics != "running")
    for _ in range(2):
        moved = moved.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(nll(other(moved), decoys).sum(), moved)
        moved = moved.detach() - 0.01 * gradient.sign()
        moved = torch.minimum(torch.maximum(moved, images - 0.02), images + 0.02).clamp(0, 1)
    other.train()
    for layer, momentum in momenta.items():
        layer.momentum = 0.0 if adversarial_pass == "frozen" else momentum
    if logits is None:
        both = other(torch.cat([images, moved]))
        logits, wrong = both[:8], both[8:]
    else:
        wrong = other(moved)
    smooth = 0.7 * nll(wrong, decoys) + 0.3 * -wrong.log_softmax(1).mean(1)
    expected = nll(logits, labels).mean() + 2 * smooth.mean()
    assert torch.allclose(terms.total, expected, rtol=1e-4)
    for name, value in model.state_dict().items():
        if "running" in name:
            assert torch.allclose(value, other.state_dict()[name], rtol=1e-4, atol=1e-5), name


def test_split_statistics_leave_the_clean_ones_alone(batch):
    images, labels = batch
    defense = AntiAdversarial(**ATAT, adversarial_pass="split")
    model, plain = small(defense).train(), small().train()
    defense.loss(model, images, labels, draws())
    plain(images)
    found = {k.replace("clean.", ""): v for k, v in model.state_dict().items() if "clean." in k}
    for name, value in plain.state_dict().items():
        if "running" in name:
            assert torch.equal(found[name], value), name
    perturbed = model.state_dict()["norm.perturbed.running_mean"]
    assert not torch.equal(perturbed, torch.zeros_like(perturbed))
    with pytest.raises(ValueError, match="needs a model that the defense prepared"):
        defense.loss(small(), images, labels, draws())
    with pytest.raises(ValueError, match="needs batch normalisation"):
        defense.prepare(nn.Linear(2, 2), public=None, seed=0)


def test_a_low_pass_perturbation_is_constant_in_its_cells_and_reaches_the_decoy(batch):
    images, labels = batch
    images, model = images * 0.8 + 0.1, small().eval()
    options = {"epsilon": 0.05, "step_size": 0.02, "targeted": True, "random_start": True}
    moved = pgd(model, images, labels, steps=4, draws=draws(), grid=4, **options)
    delta = (moved - images).view(8, 1, 4, 8, 4, 8)
    assert float((delta - delta.mean(dim=(3, 5), keepdim=True)).abs().max()) < 1e-6
    assert 0 < float(delta.abs().max()) <= 0.05 + 1e-6
    assert (nll(model(moved), labels) < nll(model(images), labels)).all()


def test_reference_decoys_prefer_the_next_class():
    labels = torch.zeros(20000, dtype=torch.long)
    shares = draw_reference_decoys(labels, 5, draws()).bincount(minlength=5) / 20000
    assert shares[0] == 0
    assert torch.allclose(shares[1:], torch.tensor([0.4, 0.2, 0.2, 0.2]), atol=0.02)


def test_adam_takes_nearly_the_same_step_on_the_mean_of_a_loss_as_on_its_sum(batch):
    """The reference code sums over the images."""
    images, labels = batch
    steps = []
    for factor in (1, len(images)):
        model = small().train()
        before = [parameter.detach().clone() for parameter in model.parameters()]
        optimizer = torch.optim.AdamW(model.parameters(), lr=0.001, weight_decay=0.0)
        loss = DEFENSES["none"]().loss(model, images, labels, draws()).total
        (factor * loss).backward()
        optimizer.step()
        pairs = zip(model.parameters(), before, strict=True)
        steps.append(torch.cat([(new - old).detach().flatten() for new, old in pairs]))
    mean, total = steps
    assert float((mean - total).norm() / total.norm()) < 1e-3
    assert 0 < float(((mean - total).abs() > 1e-6).float().mean()) < 1e-3


def test_label_smoothing(batch):
    images, labels = batch
    model = small().eval()
    terms = DEFENSES["label_smoothing"](smoothing=0.2).loss(model, images, labels, draws())
    target = torch.full((8, 4), 0.05).scatter_add(1, labels[:, None], torch.full((8, 1), 0.8))
    expected = -(target * model(images).log_softmax(1)).sum(1).mean()
    assert torch.allclose(terms.total, expected)


@pytest.mark.parametrize("clean_weight", [0.0, 0.5])
def test_adversarial_training_ascends(batch, clean_weight):
    images, labels = batch
    options = {"epsilon": 0.02, "steps": 2, "step_size": 0.01, "random_start": True}
    model = small().eval()
    defense = DEFENSES["adversarial"](**options, clean_weight=clean_weight)
    terms = defense.loss(model, images, labels, draws())
    moved = pgd(model, images, labels, targeted=False, draws=draws(), **options)
    expected = nll(model(moved), labels).mean() + clean_weight * nll(model(images), labels).mean()
    assert torch.allclose(terms.total, expected)
    assert nll(model(moved), labels).mean() > nll(model(images), labels).mean()


def test_mid_is_cross_entropy_and_divergence_from_a_standard_normal(batch):
    images, labels = batch
    defense = DEFENSES["mid"](weight=0.1)
    model = small(defense).train()
    features = []
    model.head.register_forward_hook(lambda module, inputs, output: features.append(inputs[0]))
    terms = defense.loss(model, images, labels, draws())
    encoded = features[0] @ model.head.encode.weight.T + model.head.encode.bias
    mean, sigma = encoded[:, :64], nn.functional.softplus(encoded[:, 64:] - 5)
    u = draws().uniform(0, 1, images, 2, 64)
    noise = (-2 * (1 - u[:, 0]).log()).sqrt() * (2 * pi * u[:, 1]).cos()
    logits = (mean + sigma * noise) @ model.head.decode.weight.T + model.head.decode.bias
    normal = torch.distributions.Normal
    divergence = torch.distributions.kl_divergence(normal(mean, sigma), normal(0.0, 1.0))
    expected = nll(logits, labels).mean() + 0.1 * divergence.sum(1).mean()
    assert torch.allclose(terms.total, expected, rtol=1e-4)
    drawn = model.head.noise(torch.zeros(4000, 64))
    assert abs(float(drawn.mean())) < 0.01
    assert abs(float(drawn.std()) - 1) < 0.01


@pytest.mark.parametrize("noise", ["training", "always"])
def test_mid_draws_noise_in_evaluation_only_with_always(batch, noise):
    model = small(DEFENSES["mid"](weight=0.1, noise=noise)).eval()
    assert torch.equal(model(batch[0]), model(batch[0])) == (noise == "training")


@pytest.mark.parametrize("bandwidth", ["median", "fixed"])
@pytest.mark.parametrize("measure", ["nocco", "coco", "coco_frobenius"])
def test_bido_is_cross_entropy_and_the_dependence_of_each_stage(batch, bandwidth, measure):
    images, labels = batch
    model = small().eval()
    options = {"bandwidth": bandwidth, "measure": measure}
    defense = DEFENSES["bido"](image_weight=0.3, label_weight=0.7, **options)
    terms = defense.loss(model, images, labels, draws())
    h = torch.eye(8, dtype=torch.float64) - 1 / 8

    def normalised(kernel):
        if measure != "nocco":
            return h @ kernel @ h
        return kernel @ h @ torch.linalg.inv(kernel @ h + 8e-5 * torch.eye(8))

    def between(one, other):
        if measure == "nocco":
            return (one @ other).trace()
        singular = torch.linalg.svdvals(one @ other)
        norm = singular.max() if measure == "coco" else singular.square().sum().sqrt()
        return norm.sqrt() / 8

    def kernel(rows):
        distances = [
            float((a - b).norm()) for i, a in enumerate(rows) for b in rows[:i]
        ]  # fmt: skip
        median = sorted(distances)[(len(distances) - 1) // 2]
        sigma = median if bandwidth == "median" else 5 * rows[0].numel() ** 0.5
        return normalised(gaussian(rows, sigma))

    one_hot = torch.eye(4, dtype=torch.float64)[labels]
    of_labels = normalised(one_hot @ one_hot.T)
    of_images = kernel(images * 2 - 1)  # of which the fixed bandwidth is that of earlier code
    maps = model.norm(model.stem(images * 2 - 1)).relu()
    total = nll(model(images), labels).mean().double()
    for block in model.blocks:
        maps = block(maps)
        of_stage = kernel(maps.detach())
        total = total + 0.3 * between(of_stage, of_images) - 0.7 * between(of_stage, of_labels)
    assert terms.total.item() == pytest.approx(total.item(), rel=2e-2)


def test_bido_refuses_a_batch_too_small_and_a_network_without_stages(batch):
    images, labels = batch
    defense = DEFENSES["bido"](image_weight=0.3, label_weight=0.7)
    with pytest.raises(ValueError, match=r"needs 4 images or more, got 3; raise batch_size"):
        defense.loss(small(), images[:3], labels[:3], draws())
    with pytest.raises(ValueError, match=r"bido needs a network with named stages, got Linear"):
        defense.loss(nn.Linear(2, 2), images, labels, draws())


@pytest.mark.parametrize("epochs", [8, 100, 37])
def test_neg_ls_follows_its_schedule_for_any_number_of_epochs(epochs):
    found = [NegLs(smoothing=-0.4).alpha(e, epochs) for e in range(epochs)]
    for epoch, alpha in enumerate(found):
        done = (epoch + 1 - epochs / 2) / (epochs / 4)
        expected = 0.0 if epoch < epochs / 2 else -0.4 * min(1.0, done)
        assert alpha == pytest.approx(expected)
    assert found[-1] == -0.4
    assert sorted(found, reverse=True) == found


@pytest.mark.parametrize("first_epoch", [0, 1])
def test_the_reference_schedule_of_neg_ls_jumps_at_three_quarters(first_epoch):
    """Without smoothing before epoch 50, then a (e + 1 - 50) / (E - 50), and a from epoch 75 on."""
    defense = NegLs(smoothing=-0.05, jump=True, first_epoch=first_epoch)
    for epoch in range(100):
        e = epoch + first_epoch
        expected = 0.0 if e < 50 else -0.05 * (e + 1 - 50) / (100 - 50) if e < 75 else -0.05
        assert defense.alpha(epoch, 100) == pytest.approx(expected)


def test_the_reference_preset_of_neg_ls_counts_epochs_from_1():
    defense = NegLs(**NegLs.presets["reference"])
    assert defense.alpha(48, 100) == 0
    assert defense.alpha(49, 100) == pytest.approx(-0.05 / 50)
    assert defense.alpha(73, 100) == pytest.approx(-0.05 * 25 / 50)
    assert defense.alpha(74, 100) == -0.05
    with pytest.raises(ValueError, match="first_epoch must be 0 or 1, got 2"):
        NegLs(smoothing=-0.05, first_epoch=2)


def test_neg_ls_loss(batch, faces):
    images, labels = batch
    model = small().eval()
    session = begun(NegLs(smoothing=-0.2), model, faces)
    for step in range(8):
        alpha = [0.0, 0.0, -0.2, -0.2][step // 2]
        log_p = model(images).log_softmax(1)
        expected = ((1 - alpha) * nll(model(images), labels) - alpha * log_p.mean(1)).mean()
        assert torch.allclose(session.loss(model, images, labels, draws()).total, expected)
        session.after_step()


@pytest.mark.parametrize(
    ("name", "options", "scales"),
    [
        ("rolss", {"skips": (1, 1, 1, 0)}, (1, 1, 1, 0)),
        ("rolss", {"skips": (1, 0.5, 1, 1)}, (1, 0.5, 1, 1)),
        ("rolss", {"skips": (1, 1, 1, 0), "hidden_share": 0.2}, (1, 1, 0, 0)),
        ("ssf", {"factor": 0.2}, (1, 1, 1, 0.2)),
        ("ssf", {"factor": 0.2, "hidden_share": 0.2}, (1, 1, 0, 0.2)),
    ],
)
def test_skips_are_scaled_stage_by_stage(batch, name, options, scales):
    images, labels = batch
    defense = DEFENSES[name](**options)
    model, plain = small(defense).eval(), small().eval()
    maps = plain.norm(plain.stem(images * 2 - 1)).relu()
    for block, scale in zip(plain.blocks, scales, strict=True):
        hidden = block.norm1(block.conv1(maps)).relu()
        maps = (block.norm2(block.conv2(hidden)) + scale * block.skip(maps)).relu()
    expected = nll(plain.head(maps.mean(dim=(2, 3))), labels).mean()
    assert torch.allclose(defense.loss(model, images, labels, draws()).total, expected, rtol=1e-5)
    assert not torch.allclose(expected, nll(plain(images), labels).mean(), rtol=1e-5)


def test_skip_removal_refuses_networks_without_skips_and_factors_without_effect():
    with pytest.raises(ValueError, match=r"rolss needs a network with skips, got Linear"):
        DEFENSES["rolss"](skips=(1, 0)).prepare(nn.Linear(2, 2), public=None, seed=0)
    with pytest.raises(ValueError, match=r"one factor for each of the 4 stages, got 2"):
        small(DEFENSES["rolss"](skips=(1, 0)))
    with pytest.raises(ValueError, match="change nothing"):
        DEFENSES["rolss"](skips=(1, 1, 1, 1))
