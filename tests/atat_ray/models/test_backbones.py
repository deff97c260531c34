"""torchvision's architectures: what defenses ask of them, at sizes that a CPU can hold."""

import re
from dataclasses import replace

import pytest
import torch
from small import draws
from torch import nn
from torch.nn.functional import cross_entropy
from torchvision.models import densenet121, resnet18

from atat_ray.data import Faces
from atat_ray.defenses import DEFENSES
from atat_ray.defenses.anti_adversarial import AntiAdversarial
from atat_ray.evaluation import Evaluation, EvaluationModels
from atat_ray.models import ARCHITECTURES, build_target
from atat_ray.models.auxiliary_head import auxiliary_loss
from atat_ray.models.backbones import FAMILIES, find_weights
from atat_ray.models.layer_access import outputs_of
from atat_ray.training import Training, train
from atat_ray.training.no_defense import NoDefense
from atat_ray.utils.precision import true_float32
from atat_ray.utils.seeding import generator

ATAT = AntiAdversarial(weight=0.08, epsilon=0.00025, steps=2, step_size=0.0001, random_start=True)
ONE = Training(epochs=1, batch_size=4, learning_rate=0.001, weight_decay=0.0)
OPTIONS = {
    "anti_adversarial": {
        "weight": 1.0, "epsilon": 0.01, "steps": 1, "step_size": 0.01, "random_start": True,
        "adversarial_pass": "split",
    },
    "decoy_noise": {"weight": 1.0, "epsilon": 0.01},
    "label_smoothing": {"smoothing": 0.1},
    "early_stopping": {"share": 0.5},
    "adversarial": {"epsilon": 0.01, "steps": 1, "step_size": 0.01, "random_start": True},
    "mid": {"weight": 0.03},
    "bido": {"image_weight": 0.05, "label_weight": 0.5},
    "tl_dmi": {"frozen": 2, "public_epochs": 1, "public_batch_size": 4},
    "neg_ls": {"smoothing": -0.05},
    "rolss": {"skips": (1.0, 1.0, 1.0, 0.0)},
    "ssf": {"factor": 0.2},
    "trap_mid": {"weight": 0.2},
    "sparse_standard": {"threshold": 0.2, "iterations": 3},
    "sca": {"threshold": 0.1, "iterations": 3},
    "pixel_lasso": {"weight": 0.0},
}  # fmt: skip


def make(name="resnet18", channels=3, **options):
    return build_target(name, num_classes=4, channels=channels, seed=1, **options)


@pytest.fixture
def faces():
    images = torch.rand(8, 3, 32, 32, generator=generator("colour"))
    return Faces(images=images, labels=torch.arange(8) % 4)


@pytest.fixture
def hub(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    (tmp_path / "hub" / "checkpoints").mkdir(parents=True)
    return tmp_path / "hub" / "checkpoints"


def test_a_backbone_is_torchvisions_network_on_normalised_images_with_another_head(faces):
    model = make().eval()
    theirs = resnet18(weights=None, num_classes=4).eval()
    parts = [*model.stem, *model.blocks]
    mine = {n: p for n, p in zip(["conv1", "bn1", "relu", "maxpool", "layer1", "layer2", "layer3",
                                  "layer4"], parts, strict=True)}  # fmt: skip
    for name, part in {**mine, "fc": model.head}.items():
        getattr(theirs, name).load_state_dict(part.state_dict())
    with torch.no_grad():
        expected = theirs((faces.images - 0.5) / 0.5)
        assert torch.allclose(model(faces.images), expected, atol=1e-5)
        assert torch.allclose(model.head(model.features(faces.images)), expected, atol=1e-5)


def test_weights_are_a_function_of_the_seed_and_the_global_generator_stays():
    before = torch.get_rng_state()
    one, same = make().state_dict(), make().state_dict()
    other = build_target("resnet18", num_classes=4, channels=3, seed=2).state_dict()
    assert torch.equal(before, torch.get_rng_state())
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not torch.equal(one["head.weight"], other["head.weight"])


def test_gray_images_are_seen_as_three_equal_channels():
    gray, colour = make(channels=1).eval(), make(channels=3).eval()
    images = torch.rand(3, 1, 32, 32, generator=generator("gray"))
    with torch.no_grad():
        expected = colour.features(images.expand(-1, 3, -1, -1))
        assert torch.allclose(gray.features(images), expected, atol=1e-4)


@pytest.mark.parametrize("name", ["resnet18", "densenet121"])
def test_stages_are_four_and_come_in_order(name, faces):
    model = make(name).eval()
    with torch.no_grad(), outputs_of(model.stages()) as found:
        model(faces.images)
    sides = [maps.shape[-1] for maps in found]
    assert sides == [8, 4, 2, 1]
    for number in range(5):
        inside = {id(p) for part in model.frozen_part(number) for p in part.parameters()}
        assert id(next(model.stem.parameters())) in inside
        assert (id(next(model.blocks[3].parameters())) in inside) == (number == 4)


@pytest.mark.parametrize("defense", sorted(OPTIONS))
def test_every_defense_trains_a_residual_network(defense, faces):
    options = DEFENSES[defense](**OPTIONS[defense])
    model = options.prepare(make(), public=faces, seed=0)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    curves = train(model, faces, options, ONE, seed=0)
    assert torch.tensor(curves[0]["loss"]).isfinite()
    changed = [n for n, v in model.named_parameters() if not torch.equal(v, before[n])]
    assert any("head" in name for name in changed)
    fresh = options.prepare(make(), public=None, seed=0)
    fresh.load_state_dict(model.state_dict())


@pytest.mark.parametrize("defense", ["rolss", "ssf"])
def test_a_network_without_skips_is_refused_by_defenses_that_remove_them(defense):
    with pytest.raises(ValueError, match=f"{defense} needs a network with skips, got DenseNet"):
        DEFENSES[defense](**OPTIONS[defense]).prepare(make("densenet121"), public=None, seed=0)


def test_the_reference_preset_of_ssf_is_torchvisions_network_with_other_skips(faces):
    """In stage 3 the last fifth of the blocks, rounded up, loses its skips; stage 4 has 0.2."""
    ssf = DEFENSES["ssf"]
    model = ssf(**ssf.presets["reference"]).prepare(make(), public=None, seed=0).double().eval()
    plain = make().double().eval()
    maps = plain.stem(faces.images.double() * 2 - 1)
    skips = [[1, 1], [1, 1], [1, 0], [0.2, 0.2]]
    for stage, factors in zip(plain.blocks, skips, strict=True):
        for block, factor in zip(stage, factors, strict=True):
            hidden = block.bn1(block.conv1(maps)).relu()
            skip = maps if block.downsample is None else block.downsample(maps)
            maps = (block.bn2(block.conv2(hidden)) + factor * skip).relu()
    expected = plain.head(maps.mean(dim=(2, 3)))
    assert torch.allclose(model(faces.images.double()), expected, rtol=1e-10)
    assert not torch.allclose(plain(faces.images.double()), expected, rtol=1e-2)


@pytest.mark.parametrize("name", ["rolss", "ssf"])
@pytest.mark.parametrize(("blocks", "lost"), [(2, 1), (6, 2), (23, 5), (36, 8)])
def test_the_reference_presets_remove_a_fifth_of_the_skips_of_stage_3(name, blocks, lost):
    """The counts of ResNet-18, -34 and -50, -101, and -152."""

    class Block:
        factor = None

        def scale_skip(self, factor):
            self.factor = factor

    stages = [[Block()], [Block()], [Block() for _ in range(blocks)], [Block()]]
    model = nn.Module()
    model.skips = lambda: stages
    DEFENSES[name](**DEFENSES[name].presets["reference"]).prepare(model, public=None, seed=0)
    assert [block.factor for block in stages[2]] == [1.0] * (blocks - lost) + [0.0] * lost


def test_a_skip_is_scaled_or_removed_with_its_parameters(faces):
    plain, weak, none = make().eval(), make().eval(), make().eval()
    for block in weak.skips()[3]:
        block.scale_skip(0.5)
    for block in none.skips()[3]:
        block.scale_skip(0.0)
    maps = torch.rand(2, 256, 2, 2, generator=generator("maps"))
    with torch.no_grad():
        first = plain.blocks[3][0]
        inner = first.bn2(first.conv2(first.relu(first.bn1(first.conv1(maps)))))
        skip = first.downsample(maps)
        assert torch.allclose(weak.blocks[3][0](maps), (inner + 0.5 * skip).relu(), atol=1e-5)
        assert torch.allclose(none.blocks[3][0](maps), inner.relu(), atol=1e-5)
    assert len(list(none.parameters())) == len(list(plain.parameters())) - 3


def test_missing_imagenet_weights_are_one_line_with_file_address_and_place(hub):
    with pytest.raises(ValueError, match=r"resnet152-f82ba261\.pth .*https://\S+\.pth") as error:
        make("resnet152", weights="imagenet")
    assert str(hub) in str(error.value)
    assert "\n" not in str(error.value)
    for name in FAMILIES:
        with pytest.raises(ValueError, match=r"download https://"):
            find_weights(name)


def test_imagenet_weights_are_taken_and_the_head_is_not(hub):
    theirs = resnet18(weights=None)
    torch.save(theirs.state_dict(), hub / "resnet18-f37072fd.pth")
    model = build_target("resnet18", num_classes=1000, channels=3, seed=1, weights="imagenet")
    assert torch.equal(model.stem[0].weight, theirs.conv1.weight)
    assert torch.equal(model.blocks[3][1].conv2.weight, theirs.layer4[1].conv2.weight)
    assert not torch.equal(model.head.weight, theirs.fc.weight)
    path = hub / "resnet18-f37072fd.pth"
    for damage in (b"half", b"", path.read_bytes()[:-5000]):
        path.write_bytes(damage)
        with pytest.raises(
            ValueError, match=r"cannot read .*resnet18-f37072fd\.pth.* download the"
        ):
            make(weights="imagenet")
    torch.save({"conv1.weight": torch.ones(1)}, path)
    with pytest.raises(
        ValueError, match=r"cannot read .*resnet18-f37072fd\.pth.* download the file"
    ):
        make(weights="imagenet")


def test_the_names_with_dots_in_densenet_weights_are_converted(hub):
    theirs = densenet121(weights=None)
    old = {
        re.sub(r"(denselayer\d+\.(?:norm|conv))([12])", r"\1.\2", name): value
        for name, value in theirs.state_dict().items()
    }
    assert "features.denseblock1.denselayer1.norm.1.weight" in old
    torch.save(old, hub / "densenet121-a639ec97.pth")
    model = make("densenet121", weights="imagenet")
    assert torch.equal(model.tail[0].weight, theirs.features.norm5.weight)
    block = model.blocks[0].denselayer1
    assert torch.equal(block.conv1.weight, theirs.features.denseblock1.denselayer1.conv1.weight)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("resnet18", {"weights": "vggface"}, "unknown weights 'vggface'"),
        ("small_resnet", {"weights": "imagenet"}, "no ImageNet weights of small_resnet"),
        ("resnet18", {"auxiliary": True}, "resnet18 has no auxiliary head"),
        ("resnet-152", {}, "did you mean 'resnet152'"),
    ],
)
def test_a_network_that_cannot_be_built_is_refused(name, options, message):
    with pytest.raises(ValueError, match=message):
        make(name, **options)


class Tiny(nn.Module):
    """A network with an auxiliary head, as small as one can be."""

    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm2d(3)
        self.head, self.auxiliary = nn.Linear(3, 4), nn.Linear(3, 4)
        self.use_auxiliary = False

    def forward(self, images):
        features = self.norm(images).square().mean((2, 3))
        return (self.auxiliary if self.use_auxiliary else self.head)(features)


def test_the_auxiliary_loss_is_that_of_its_head_and_updates_no_statistics(faces):
    torch.manual_seed(0)
    model = Tiny()
    loss = auxiliary_loss(model, faces.images, faces.labels)
    features = (faces.images - faces.images.mean((0, 2, 3), keepdim=True)) / (
        faces.images.var((0, 2, 3), correction=0, keepdim=True) + 1e-5
    ).sqrt()
    logits = model.auxiliary(features.square().mean((2, 3)))
    assert torch.allclose(loss, cross_entropy(logits, faces.labels))
    assert torch.equal(model.norm.running_mean, torch.zeros(3))
    with pytest.raises(ValueError, match="which ResNet does not have; use inception_v3"):
        auxiliary_loss(make(), faces.images, faces.labels)


@pytest.mark.parametrize("defense", [NoDefense(), ATAT])
def test_the_auxiliary_loss_is_added_with_its_weight_under_any_defense(faces, defense):
    torch.manual_seed(0)
    training = replace(ONE, batch_size=8, auxiliary_weight=0.4)
    state = Tiny().state_dict()
    seen = []
    for weight in (0.0, 0.4):
        model = Tiny()
        model.load_state_dict(state)
        (row,) = train(model, faces, defense, replace(training, auxiliary_weight=weight), seed=0)
        seen.append((row, model))
    (plain, one), (more, other) = seen
    assert more["loss"] == pytest.approx(plain["loss"] + 0.4 * more["auxiliary"], rel=1e-5)
    assert torch.equal(one.auxiliary.weight, state["auxiliary.weight"])
    assert not torch.equal(other.auxiliary.weight, state["auxiliary.weight"])


def test_evaluation_models_may_have_any_architecture(faces):
    evaluation = Evaluation(ensemble=2, training=ONE, architecture="resnet18")
    models = EvaluationModels(evaluation, num_classes=4, channels=3, size=32).eval()
    with torch.no_grad():
        assert models(faces.images).shape == (8, 4)
        assert models.features(faces.images).shape == (8, 1024)
    with pytest.raises(ValueError, match="did you mean 'inception_v3'"):
        Evaluation(ensemble=1, training=ONE, architecture="inception-v3")
    with pytest.raises(ValueError, match="small_vgg has neither ImageNet weights"):
        Evaluation(ensemble=1, training=replace(ONE, weights="imagenet"))


def one_atat_step(name, *, batch, size, device="cpu", auxiliary=0.4):
    """Take an AT-AT step of AdamW; return the model, its state before, and its curves.

    A second step follows: where there is one alone, the schedule is at its end, which is near 0.
    """
    inception = name == "inception_v3"
    model = make(name, auxiliary=inception).to(device)
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    images = torch.rand(batch, 3, size, size, generator=generator(name))
    faces = Faces(images=images, labels=torch.arange(batch) % 4).to(torch.device(device))
    training = replace(ONE, epochs=2, batch_size=batch, auxiliary_weight=auxiliary * inception)
    curves, _ = train(model, faces, ATAT, training, seed=0)
    return model, before, curves


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(ARCHITECTURES))
def test_every_architecture_takes_one_atat_step_at_its_input_size(name):
    size = {"inception_v3": 304, "small_resnet": 64}.get(name, 224)
    model, before, curves = one_atat_step(name, batch=2, size=size)
    assert all(torch.tensor(value).isfinite() for value in curves.values())
    same = [n for n, p in model.named_parameters() if torch.equal(p, before[n])]
    assert same == []
    assert all(p.isfinite().all() for p in model.parameters())


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_resnet_152_takes_one_atat_step_of_128_images_on_a_gpu():
    model, before, curves = one_atat_step("resnet152", batch=128, size=224, device="cuda")
    assert torch.tensor(curves["loss"]).isfinite()
    assert all(not torch.equal(p, before[n]) for n, p in model.named_parameters())


def test_atat_perturbs_images_of_a_backbone_by_less_than_a_gray_level_in_true_float32(faces):
    model = make()
    with true_float32():
        terms = ATAT.loss(model, faces.images, faces.labels, draws())
    assert terms.total.isfinite()
