import pytest
import torch
from scipy.stats import chisquare
from small import draws
from torch import nn
from torch.nn.functional import cross_entropy

from atat_ray.data import Faces
from atat_ray.defenses import DEFENSES
from atat_ray.defenses.anti_adversarial import AntiAdversarial
from atat_ray.defenses.decoy_noise import DecoyNoise
from atat_ray.defenses.decoys import draw_decoys
from atat_ray.models import build_target
from atat_ray.robustness.pgd import pgd
from atat_ray.utils.seeding import generator

ATAT = {"weight": 2.0, "epsilon": 0.02, "steps": 3, "step_size": 0.008, "random_start": True}


@pytest.fixture
def model():
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(16, 12), nn.Tanh(), nn.Linear(12, 5))


@pytest.fixture
def batch():
    return torch.rand(8, 1, 4, 4, generator=generator("images")), torch.arange(8) % 5


def test_decoys_are_uniform_over_the_wrong_classes():
    labels = torch.arange(6).repeat(6000)
    decoys = draw_decoys(labels, 6, draws("decoys"))
    assert (decoys != labels).all()
    for label in range(6):
        counts = decoys[labels == label].bincount(minlength=6)
        others = [int(counts[c]) for c in range(6) if c != label]
        assert chisquare(others).pvalue > 1e-3


@pytest.mark.parametrize("weight", [0.5, 2.0])
def test_anti_adversarial_loss_is_the_formula(model, batch, weight):
    images, labels = batch
    terms = AntiAdversarial(**{**ATAT, "weight": weight}).loss(model, images, labels, draws())

    again = draws()
    decoys = (labels + again.integers(1, 5, labels)) % 5
    delta = pgd(
        model, images, decoys, epsilon=0.02, steps=3, step_size=0.008, targeted=True,
        random_start=True, draws=again,
    ) - images  # fmt: skip
    clean = -model(images).log_softmax(1)[range(8), labels].mean()
    wrong = -model(images + delta).log_softmax(1)[range(8), decoys].mean()
    assert torch.allclose(terms.total, clean + weight * wrong)
    assert torch.allclose(terms.curves["clean_loss"], clean)
    assert torch.allclose(terms.curves["decoy_loss"], wrong)


def test_placebo_has_the_same_decoys_and_weight_and_plain_noise(model, batch):
    images, labels = batch
    terms = DecoyNoise(weight=2.0, epsilon=0.02).loss(model, images, labels, draws())

    again = draws()
    decoys = (labels + again.integers(1, 5, labels)) % 5
    noise = again.uniform(-0.02, 0.02, images, 1, 4, 4)
    expected = cross_entropy(model(images), labels) + 2 * cross_entropy(
        model((images + noise).clamp(0, 1)), decoys
    )
    assert torch.allclose(terms.total, expected)


@pytest.mark.parametrize("defense", [AntiAdversarial(**{**ATAT, "weight": 0.0}),
                                     DecoyNoise(weight=0.0, epsilon=0.02)])  # fmt: skip
def test_weight_zero_computes_no_perturbation(model, batch, defense, monkeypatch):
    images, labels = batch

    def fail(*words, **options):
        raise AssertionError("a perturbation was computed")

    monkeypatch.setattr("atat_ray.defenses.anti_adversarial.pgd", fail)
    monkeypatch.setattr("atat_ray.defenses.decoy_noise.project", fail)
    terms = defense.loss(model, images, labels, draws())
    assert torch.equal(terms.total, cross_entropy(model(images), labels))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"weight": -1.0}, r"weight \(lambda\) must be 0 or above, got -1"),
        ({"epsilon": 8.0}, r"for 8/255 write 0\.0313725"),
        ({"step_size": 0.0}, "step_size is an L-infinity radius"),
        ({"steps": 0}, "steps must be 1 or more, got 0; for no PGD use decoy_noise"),
    ],
)
def test_wrong_options_are_refused_with_what_is_allowed(options, message):
    with pytest.raises(ValueError, match=message):
        AntiAdversarial(**{**ATAT, **options})


def test_every_defense_is_found_by_its_name_and_describes_itself():
    for name, kind in DEFENSES.items():
        assert DEFENSES.find(name) is kind
        assert kind.summary
        assert kind.source
    assert DEFENSES.name_of(type(DecoyNoise(weight=1.0, epsilon=0.1))) == "decoy_noise"
    with pytest.raises(ValueError, match=r"'anti_adverserial' \(did you mean 'anti_adversarial'"):
        DEFENSES.find("anti_adverserial")


def test_tl_dmi_without_public_epochs_freezes_the_initial_weights():
    """As its paper does with ImageNet's weights; no image of a public person is needed."""
    plain = build_target("small_resnet", num_classes=4, channels=1, seed=5)
    before = {name: value.clone() for name, value in plain.state_dict().items()}
    nobody = Faces(images=torch.zeros(0, 1, 32, 32), labels=torch.zeros(0, dtype=torch.long))
    model = DEFENSES["tl_dmi"](frozen=1, public_epochs=0).prepare(plain, public=nobody, seed=1)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not all(parameter.requires_grad for parameter in model.parameters())
