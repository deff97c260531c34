"""Every defense in a whole training: it changes the weights, resumes, and composes with DDP."""

from copy import deepcopy
from dataclasses import asdict

import pytest
import torch
import torch.multiprocessing as multiprocessing
from torch import distributed, nn

from atat_ray.data import Faces
from atat_ray.data.augmentation import Augmentation
from atat_ray.defenses import DEFENSES
from atat_ray.defenses.tl_dmi import FrozenBatchNorm2d
from atat_ray.models import build_target
from atat_ray.training import Training, accuracy, train
from atat_ray.training.checkpoint import Checkpoint
from atat_ray.training.loop import Loop
from atat_ray.unit.distributed import mean_over_workers, share_batch_norm
from atat_ray.utils.seeding import generator
from trials.config.load import read_protocol
from trials.config.protocol import Protocol

WORKERS = 2
PGD = {"epsilon": 0.02, "steps": 2, "step_size": 0.01, "random_start": True}
ATAT = {"weight": 2.0, **PGD}
CASES = {
    "atat": ("anti_adversarial", ATAT),
    "atat running, joint, smooth": (
        "anti_adversarial",
        {**ATAT, "inner_statistics": "running", "adversarial_pass": "joint", "smoothing": 0.3},
    ),
    "atat split": ("anti_adversarial", {**ATAT, "adversarial_pass": "split"}),
    "atat frozen, low-pass": (
        "anti_adversarial", {**ATAT, "adversarial_pass": "frozen", "grid": 8}
    ),
    "atat reference": (
        "anti_adversarial", {**ATAT, "inner_statistics": "moving", "decoys": "reference"}
    ),
    "decoy_noise": ("decoy_noise", {"weight": 2.0, "epsilon": 0.02}),
    "label_smoothing": ("label_smoothing", {"smoothing": 0.3}),
    "early_stopping": ("early_stopping", {"share": 0.5}),
    "adversarial": ("adversarial", PGD),
    "adversarial and clean": ("adversarial", {**PGD, "clean_weight": 1.0}),
    "mid": ("mid", {"weight": 0.03}),
    "bido": ("bido", {"image_weight": 0.05, "label_weight": 0.5}),
    "bido hsic": ("bido", {"image_weight": 2.0, "label_weight": 20.0, "measure": "hsic"}),
    "bido coco": ("bido", {"image_weight": 1.0, "label_weight": 5.0, "measure": "coco"}),
    "tl_dmi": ("tl_dmi", {"frozen": 2, "public_epochs": 1, "public_batch_size": 8}),
    "neg_ls": ("neg_ls", {"smoothing": -0.3, "start": 0.0, "full": 0.5}),
    "rolss": ("rolss", {"skips": (1.0, 1.0, 1.0, 0.0)}),
    "ssf": ("ssf", {"factor": 0.2}),
    "trap_mid": ("trap_mid", {"weight": 0.3, "blend": 0.1}),
    "sparse_standard": (
        "sparse_standard",
        {"threshold": 0.3, "atoms": 4, "iterations": 6, "tau": 9.0, "dictionary_rate": 0.01},
    ),
    "sca": ("sca", {"threshold": 0.3, "atoms": (4, 6), "iterations": 6, "tau": 20.0}),
    "pixel_lasso": (
        "pixel_lasso", {"weight": 0.004, "threshold": 0.43, "learning_rate": 0.02, "settle": 0.0}
    ),
    "pixel_lasso adaptive": (
        "pixel_lasso",
        {
            "weight": 0.004, "threshold": 0.43, "learning_rate": 0.02, "settle": 0.0,
            "adaptive": True,
        },
    ),
}  # fmt: skip
TRAINING = Training(epochs=3, batch_size=8, learning_rate=0.003, weight_decay=0.01)
# For DDP: what depends on rounding, such as the sign of a gradient of 0, must not add up.
SLOW = Training(epochs=2, batch_size=8, learning_rate=1e-5, weight_decay=0.01)


def made(case):
    name, options = CASES[case]
    return DEFENSES[name](**options)


def some_faces():
    images = torch.rand(20, 1, 32, 32, generator=generator("faces"))
    return Faces(images=images, labels=torch.arange(20) % 4)


def some_public():
    images = torch.rand(16, 1, 32, 32, generator=generator("public"))
    return Faces(images=images, labels=torch.arange(16) % 4 + 7)


def target(defense):
    model = build_target("small_resnet", num_classes=4, channels=1, seed=5)
    return defense.prepare(model, public=some_public(), seed=9)


def trained(defense, faces=None, training=TRAINING, **options):
    model = target(defense)
    curves = train(model, faces or some_faces(), defense, training, seed=1, **options)
    return model, curves


def logits(model):
    return model.eval()(some_faces().images).detach()


def test_every_defense_is_among_the_cases():
    assert {name for name, _ in CASES.values()} == DEFENSES.keys() - {"none"}


def test_the_shipped_comparison_has_every_defense_at_three_strengths():
    """All but sca, whose 500 iterations in two layers need a GPU, and early stopping, a control."""
    arms = [DEFENSES.name_of(type(arm)) for arm in read_protocol("orl-defenses").arms.values()]
    assert {name: arms.count(name) for name in DEFENSES if arms.count(name) < 3} == {
        "none": 1,
        "sca": 0,
        "early_stopping": 0,
    }


@pytest.fixture(scope="module")
def plain():
    return logits(trained(DEFENSES["none"]())[0])


@pytest.mark.parametrize("case", CASES)
def test_a_defense_changes_what_is_learned_and_is_a_function_of_the_seed(case, plain):
    model, curves = trained(made(case))
    again, same = trained(made(case))
    assert curves == same
    assert torch.equal(logits(model), logits(again))
    assert float((logits(model) - plain).abs().max()) > 1e-3
    assert all(torch.tensor(list(row.values())).isfinite().all() for row in curves)


@pytest.mark.parametrize("case", CASES)
def test_trained_weights_load_into_a_model_that_is_only_prepared(case):
    defense = made(case)
    model, _ = trained(defense)
    loaded = build_target("small_resnet", num_classes=4, channels=1, seed=6)
    loaded = defense.prepare(loaded, public=None, seed=9)
    loaded.load_state_dict(model.state_dict())
    assert torch.equal(logits(model), logits(loaded))


class Killed(Exception):
    """What a lost process looks like from inside."""


@pytest.mark.parametrize(
    "case",
    [
        "neg_ls",
        "trap_mid",
        "sparse_standard",
        "sca",
        "pixel_lasso",
        "mid",
    ],
)
def test_a_defense_with_state_resumes_bit_for_bit(case, tmp_path):
    model, curves = trained(made(case))

    def kill(epoch, row):
        if epoch == 2:
            raise Killed

    def checkpoint():
        return Checkpoint(tmp_path / "train.pt", "spec", seconds=0)

    with pytest.raises(Killed):
        trained(made(case), checkpoint=checkpoint(), on_epoch=kill)
    resumed, again = trained(made(case), checkpoint=checkpoint())
    assert again == curves
    assert torch.equal(logits(model), logits(resumed))


def test_frozen_stages_come_from_public_images_and_do_not_change():
    defense = made("tl_dmi")
    before = target(defense)
    model, _ = trained(defense)
    untouched = build_target("small_resnet", num_classes=4, channels=1, seed=5).state_dict()
    for name, value in model.state_dict().items():
        frozen = name.startswith(("stem", "norm", "blocks.0", "blocks.1"))
        if not name.endswith("num_batches_tracked"):
            assert torch.equal(value, before.state_dict()[name]) == frozen, name
            assert not frozen or not torch.equal(value, untouched[name]), name
    assert isinstance(model.blocks[1].norm2, FrozenBatchNorm2d)
    assert not model.train().blocks[1].norm2.training
    with pytest.raises(ValueError, match="at most the 4 stages of the network, got 5"):
        target(DEFENSES["tl_dmi"](frozen=5))


@pytest.mark.parametrize("case", ["pixel_lasso", "pixel_lasso adaptive"])
def test_the_content_of_deleted_pixels_does_not_change_the_weights(case, monkeypatch):
    """Corrupt them after the choice, under augmentation that moves everything: same weights."""
    import atat_ray.defenses.pixel_lasso as lasso

    defense = made(case)
    model, _ = trained(defense)
    deleted = model.front.deleted
    assert 0.02 < float(deleted.float().mean()) < 0.98
    chosen = (~deleted).float()[None] * 0.5
    monkeypatch.setattr(lasso, "select_pixels", lambda *_: chosen)  # the selection sees them
    faces = some_faces()
    noise = torch.rand(faces.images.shape, generator=generator("noise"))
    corrupt = Faces(images=torch.where(deleted, noise, faces.images), labels=faces.labels)
    other, _ = trained(defense, corrupt)
    for name, value in model.state_dict().items():
        assert torch.equal(value, other.state_dict()[name]), name
    kept = Faces(images=torch.where(deleted, faces.images, noise), labels=faces.labels)
    assert not torch.equal(trained(defense, kept)[0].body.head.weight, model.body.head.weight)
    images = faces.images.clone()
    images[:, :, deleted] = torch.nan
    assert torch.equal(model.eval()(images), model(faces.images))


@pytest.mark.parametrize("cut_after", [1, 5, 7, 9, 13, 17])
def test_an_interrupted_selection_of_pixels_resumes_and_is_not_repeated(
    cut_after, tmp_path, monkeypatch
):
    """Two choices and the training take 6 steps each; of an epoch of 2 at most one is repeated."""
    steps, limit, take = [], 1000, Loop.step

    def step(loop, batch):
        if len(steps) == limit:
            raise Killed
        steps.append(batch)
        return take(loop, batch)

    monkeypatch.setattr(Loop, "step", step)

    def checkpoint():
        return Checkpoint(tmp_path / "train.pt", "spec", seconds=0)

    defense = made("pixel_lasso adaptive")
    model, curves = trained(defense)
    assert len(steps) == 18
    steps, limit = [], cut_after
    with pytest.raises(Killed):
        trained(defense, checkpoint=checkpoint())
    limit = 1000
    resumed, again = trained(defense, checkpoint=checkpoint())
    assert len(steps) == 18 + cut_after % 2
    assert again == curves
    for name, value in model.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name
    assert list(tmp_path.iterdir()) == []


def test_a_lasso_that_deletes_every_pixel_is_refused():
    defense = DEFENSES["pixel_lasso"](weight=100.0, threshold=0.45, learning_rate=0.1, settle=0.0)
    with pytest.raises(ValueError, match="deleted every pixel at weight 100; use a smaller"):
        trained(defense)


@pytest.mark.parametrize("name", [n for n, kind in DEFENSES.items() if kind.presets])
def test_presets_are_read_from_a_protocol_and_written_out_in_full(name, content):
    for preset, options in DEFENSES[name].presets.items():
        content["arms"]["treatment"] = {"defense": name, "preset": preset}
        protocol = Protocol.model_validate(content)
        arm = protocol.arms["treatment"]
        assert arm == DEFENSES[name](**options)
        assert "preset" not in protocol.canonical()["arms"]["treatment"]
        again = Protocol.model_validate(protocol.canonical())
        assert again.arms["treatment"] == arm
    content["arms"]["treatment"]["preset"] = "wrong"
    with pytest.raises(ValueError, match="unknown preset 'wrong'.*reference"):
        Protocol.model_validate(content)


def test_a_protocol_writes_every_option_of_a_defense(content):
    content["arms"]["treatment"] = {"defense": "anti_adversarial", **ATAT}
    protocol = Protocol.model_validate(content)
    written = protocol.canonical()["arms"]["treatment"]
    assert written == {"defense": "anti_adversarial", **asdict(protocol.arms["treatment"])}
    assert set(written) > set(ATAT)


def work(rank, path):
    """Train one worker's share under every defense."""
    torch.set_num_threads(1)
    distributed.init_process_group(
        "gloo", init_method=f"file://{path}/rendezvous", rank=rank, world_size=WORKERS
    )
    results = {}
    for case in CASES:
        defense = made(case)
        model = share_batch_norm(target(defense))
        wrapped = nn.parallel.DistributedDataParallel(model, broadcast_buffers=False)
        curves = train(
            wrapped, some_faces(), defense, SLOW, seed=1, rank=rank, world_size=WORKERS,
            average=mean_over_workers,
        )  # fmt: skip
        results[case] = {"state": deepcopy(model.state_dict()), "curves": curves}
    torch.save(results, path / f"{rank}.pt")
    distributed.destroy_process_group()


@pytest.fixture(scope="module")
def two_workers(tmp_path_factory):
    path = tmp_path_factory.mktemp("workers")
    multiprocessing.spawn(work, (path,), nprocs=WORKERS)
    return [torch.load(path / f"{rank}.pt", weights_only=True) for rank in range(WORKERS)]


@pytest.mark.parametrize("case", CASES)
def test_two_workers_train_what_one_process_trains(case, two_workers):
    one, other = (found[case] for found in two_workers)
    model, curves = trained(made(case), training=SLOW)
    for name, value in one["state"].items():
        assert torch.equal(value, other["state"][name]), name
        expected = model.state_dict()[name].float()
        assert torch.allclose(value.float(), expected, atol=2e-2, rtol=1e-2), name
    for row, expected in zip(one["curves"], curves, strict=True):
        assert row.keys() == expected.keys()
        for name in row.keys() - {"decoy_hit_rate", "trapdoor_hit_rate"}:  # counts jump
            assert row[name] == pytest.approx(expected[name], rel=5e-3, abs=1e-3), name


@pytest.mark.slow
def test_plain_accuracy_is_reached_under_weak_defenses():
    from atat_ray.data import Data, load_split

    split = load_split(Data(name="orl_faces", num_private=24, num_train=7, size=64), 0)
    training = Training(
        epochs=40, batch_size=56, learning_rate=0.0015, weight_decay=0.02,
        augmentation=Augmentation(),
    )  # fmt: skip
    for defense in (DEFENSES["none"](), DEFENSES["label_smoothing"](smoothing=0.1),
                    DEFENSES["ssf"](factor=0.5)):  # fmt: skip
        model = build_target("small_resnet", num_classes=24, channels=1, seed=5)
        model = defense.prepare(model, public=split.public, seed=1)
        train(model, split.train, defense, training, seed=1)
        assert accuracy(model, split.test) > 0.9
