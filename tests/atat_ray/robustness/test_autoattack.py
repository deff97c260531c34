import sys

import pytest
import torch
from torch import nn

from atat_ray.data import Faces
from atat_ray.robustness import ATTACK_SETS, Robustness, robust_accuracies
from atat_ray.robustness import autoattack as robustness_module
from atat_ray.robustness.attack_sets import least_classes
from atat_ray.robustness.autoattack import robust_mask, robust_masks
from atat_ray.utils.seeding import generator

CLASSES = 6


@pytest.fixture(scope="module")
def faces():
    images = torch.rand(24, 1, 6, 6, generator=generator("faces"))
    return Faces(images=images, labels=images.flatten(1)[:, :CLASSES].argmax(1))


@pytest.fixture(scope="module")
def model(faces):
    """A small network that has learned its images, so that attacks fool it on some of them."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Flatten(), nn.Linear(36, 48), nn.BatchNorm1d(48), nn.Tanh(), nn.Linear(48, CLASSES)
    )
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    for _ in range(60):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(faces.images), faces.labels).backward()
        optimizer.step()
    return model.eval()


class Columns(nn.Module):
    """The first logits alone."""

    def __init__(self, number):
        super().__init__()
        self.number = number

    def forward(self, logits):
        return logits[:, : self.number]


def by_hand(model, faces, epsilon, attacks, seed, classes=CLASSES):
    """Call pyautoattack as its README does, with the settings of the attack set."""
    from pyautoattack import AutoAttack

    settings = ATTACK_SETS[attacks]
    runner = AutoAttack(
        model, norm="Linf", eps=epsilon, version="custom", attacks=list(settings.attacks),
        device=torch.device("cpu"), seed=seed,
    )  # fmt: skip
    runner.verbose = False
    runner.apgd.n_iter = runner.apgd_targeted.n_iter = settings.iterations
    runner.apgd.n_restarts = runner.fab.n_restarts = 1
    runner.apgd_targeted.n_target_classes = runner.fab.n_target_classes = classes - 1
    perturbed, _ = runner.run_standard_evaluation(faces.images, faces.labels, batch_size=24)
    with torch.no_grad():
        return model(perturbed).argmax(1) == faces.labels


@pytest.mark.parametrize(
    ("attacks", "epsilon"),
    [(name, 0.1) for name in sorted(ATTACK_SETS)]
    + [(name, epsilon) for name in ("apgd-10", "standard") for epsilon in (0.08, 0.12)],
)
def test_robust_images_are_those_of_pyautoattack_by_hand(model, faces, epsilon, attacks):
    trace = sys.gettrace()
    with torch.random.fork_rng(devices=[]):
        expected = by_hand(model, faces, epsilon, attacks, seed=3)
    sys.settrace(trace)
    found = robust_mask(
        model, faces.images, faces.labels, epsilon=epsilon, attacks=attacks,
        num_classes=CLASSES, seed=3,
    )  # fmt: skip
    assert torch.equal(found, expected)


@pytest.mark.parametrize("attacks", sorted(ATTACK_SETS))
def test_a_set_attacks_as_few_classes_as_it_needs(model, faces, attacks):
    classes = least_classes(attacks)
    assert classes == (2 if attacks in ("apgd-ce", "fab-t", "square") else 4)
    rows = faces.labels < classes
    few = Faces(images=faces.images[rows], labels=faces.labels[rows])
    first = nn.Sequential(model, Columns(classes)).eval()
    trace = sys.gettrace()
    with torch.random.fork_rng(devices=[]):
        expected = by_hand(first, few, 0.1, attacks, seed=3, classes=classes)
    sys.settrace(trace)
    found = robust_mask(
        first, few.images, few.labels, epsilon=0.1, attacks=attacks, num_classes=classes, seed=3
    )
    assert torch.equal(found, expected)


def test_the_sets_differ_from_a_constant_and_shrink_with_epsilon(model, faces):
    robustness = Robustness(attacks="apgd-10", epsilons=(0.05, 0.09, 0.13))
    found = robust_accuracies([robust_masks(model, faces, robustness, num_classes=CLASSES, seed=3)])
    assert found[0.05] > found[0.09] > found[0.13]


def test_global_state_is_left_as_it_was(model, faces):
    def trace(frame, event, argument):
        return None

    before = sys.gettrace()
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    sys.settrace(trace)
    try:
        options = {"epsilon": 0.05, "attacks": "apgd-10", "num_classes": CLASSES, "seed": 1}
        robust_mask(model.train(), faces.images, faces.labels, **options)
        kept = sys.gettrace()
    finally:
        sys.settrace(before)
        training = model.training
        model.eval()
    assert kept is trace
    assert training
    assert torch.equal(torch.rand(2), expected)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"images": 255.0}, r"images must be in \[0, 1\], got \[0\.\d+, 25\d"),
        ({"num_classes": 3}, "'apgd-10' has DLR losses, which need 4 classes or more, got 3; sets"),
        ({"epsilon": 8}, "for 8/255 write"),
    ],
)
def test_images_that_autoattack_would_silently_change_are_refused(model, faces, change, message):
    options = {"epsilon": 0.01, "attacks": "apgd-10", "num_classes": CLASSES, "seed": 1, **change}
    images = faces.images * options.pop("images", 1.0)
    with pytest.raises(ValueError, match=message):
        robust_mask(model, images, faces.labels, **options)


def test_settings_are_checked():
    with pytest.raises(ValueError, match=r"unknown attack set 'apgd'.*apgd-10, .*standard"):
        Robustness(attacks="apgd", epsilons=(0.1,))
    with pytest.raises(ValueError, match="at most 1, got 2"):
        Robustness(attacks="standard", epsilons=(0.1, 2.0))


class Killed(Exception):
    """What a lost process looks like from inside."""


@pytest.mark.parametrize("chunk", [24, 10])
def test_an_interrupted_measurement_runs_only_the_rest(model, faces, tmp_path, monkeypatch, chunk):
    settings = Robustness(attacks="apgd-10", epsilons=(0.05, 0.08), chunk=chunk)
    options = {"num_classes": CLASSES, "seed": 3}
    expected = robust_accuracies([robust_masks(model, faces, settings, **options)])
    true_attack, calls = robustness_module.run_attack, []

    def measure(kill_at):
        def counting(*words, **more):
            if len(calls) == kill_at:
                raise Killed
            calls.append((more["epsilon"], words[3]))
            return true_attack(*words, **more)

        monkeypatch.setattr(robustness_module, "run_attack", counting)
        keep = (tmp_path / "parts", "hash")
        return robust_accuracies([robust_masks(model, faces, settings, **options, keep=keep)])

    with pytest.raises(Killed):
        measure(3)
    assert measure(None) == expected
    runs = len(calls)
    assert len(set(calls)) == 4  # two attacks at two epsilons
    assert runs == 4 * (1 if chunk == 24 else 3)
    assert measure(None) == expected
    assert len(calls) == runs
    keep = (tmp_path / "parts", "of another model")
    other = robust_accuracies([robust_masks(model, faces, settings, **options, keep=keep)])
    assert other == expected
    assert len(calls) == 2 * runs


def test_chunks_attacked_separately_equal_the_whole(model, faces):
    settings = Robustness(attacks="apgd-10", epsilons=(0.05, 0.08), chunk=10)
    options = {"num_classes": CLASSES, "seed": 3}
    whole = robust_masks(model, faces, settings, **options)
    parts = [robust_masks(model, faces, settings, **options, part=part) for part in range(3)]
    for epsilon, mask in whole.items():
        assert torch.equal(torch.cat([part[epsilon] for part in parts]), mask)
    assert robust_accuracies(parts) == robust_accuracies([whole])


@pytest.mark.slow
def test_the_parts_of_the_ensemble_are_each_weaker_than_all_of_it(model, faces):
    options = {"epsilon": 0.1, "num_classes": CLASSES, "seed": 3}
    found = {
        name: robust_mask(model, faces.images, faces.labels, attacks=name, **options)
        for name in ("apgd-ce", "apgd-t", "fab-t", "square", "standard")
    }
    for name in ("apgd-ce", "apgd-t", "fab-t", "square"):
        assert (found["standard"] <= found[name]).all(), name
    assert found["standard"].equal(torch.stack(list(found.values())).all(dim=0))


class Noisy(nn.Module):
    """A network that draws noise and counts its calls."""

    def __init__(self, model):
        super().__init__()
        self.model, self.calls = model, 0
        self.generator = generator("noise")

    def forward(self, images):
        self.calls += 1
        return self.model(images + 0.3 * torch.randn(images.shape, generator=self.generator))


def test_networks_that_draw_noise_are_attacked_on_average_gradients(model, faces):
    calls, share = [], []
    for eot in (1, 20):
        noisy = Noisy(model)
        found = robust_mask(
            noisy, faces.images, faces.labels, epsilon=0.1, attacks="rand", num_classes=CLASSES,
            seed=3, eot=eot,
        )  # fmt: skip
        calls.append(noisy.calls)
        share.append(float(found.float().mean()))
    assert calls[1] > 10 * calls[0]
    assert share[1] <= share[0]
    with pytest.raises(ValueError, match="fab-t, square of 'standard' do not; use .* set rand"):
        Robustness(attacks="standard", epsilons=(0.1,), eot=20)
