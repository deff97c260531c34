"""A network that draws noise in evaluation: results do not depend on earlier computations."""

from dataclasses import replace

import pytest
import torch

from atat_ray.data import load_split
from atat_ray.models import bottleneck
from atat_ray.models.bottleneck import Bottleneck, reseed
from atat_ray.robustness import Robustness
from atat_ray.robustness import autoattack as robustness
from atat_ray.robustness.autoattack import robust_masks
from atat_ray.training.checkpoint import Checkpoint
from atat_ray.unit import invert_stage as stage
from atat_ray.unit import train_stage as target
from atat_ray.unit.jobs import run_serially
from atat_ray.unit.train_stage import load_target, train_here, train_stage


class Killed(Exception):
    """Simulates a killed process."""


@pytest.fixture
def spec(tiny_protocol, content, monkeypatch):
    """A unit of MID whose noise, always drawn, is as large as its codes."""
    monkeypatch.setattr(bottleneck, "OFFSET", 0.0)
    arms = content["arms"] | {"noisy": {"defense": "mid", "weight": 0.03, "noise": "always"}}
    standard = content["inversions"]["standard"]
    standard["ppa"] |= {"batch_classes": 2}
    protocol = tiny_protocol(arms=arms, inversions={"standard": standard})
    return protocol.unit_spec("split-0-01", "split-0", "noisy")


def test_reseeding_by_names_restarts_the_noise():
    model = Bottleneck(8, 4, 3, seed=1, always=True).eval()
    features = torch.ones(2, 8)

    def seen(*names):
        reseed(model, *names)
        return model(features)

    assert torch.equal(seen("a", 1), seen("a", 1))
    assert not torch.equal(seen("a", 1), seen("a", 2))


def test_parts_are_the_same_in_any_process_and_order(spec, tmp_path):
    def apart(jobs):
        """Run each job without the results that the other parts share in a process."""
        done = []
        for job in reversed(jobs):
            stage.part_cache.cache_clear()
            done.insert(0, job())
        return done

    found = []
    for name, run_jobs in (("here", run_serially), ("apart", apart)):
        train_stage(spec, tmp_path / name)
        found.append(
            stage.invert_stage(spec, "standard", tmp_path / "assets", tmp_path / name, run_jobs)
        )
    for name in ("latents", "confidence"):
        assert torch.equal(found[0][name], found[1][name]), name


def test_an_interrupted_measurement_gives_the_same_result(spec, tmp_path, monkeypatch):
    spec = replace(spec, training=replace(spec.training, epochs=12))
    train_stage(spec, tmp_path)
    split = load_split(spec.block.data, 0)
    settings = Robustness(attacks="apgd-10", epsilons=(0.001, 0.002), chunk=10)
    true_attack = robustness.run_attack

    def measure(keep, attack=true_attack):
        monkeypatch.setattr(robustness, "run_attack", attack)
        found = robust_masks(
            load_target(spec, split, tmp_path), split.test, settings, num_classes=6, seed=3,
            keep=(tmp_path / keep, "hash"),
        )  # fmt: skip
        return torch.stack(list(found.values()))

    def cut(*given, **options):
        if options["epsilon"] == 0.002:
            raise Killed
        return true_attack(*given, **options)

    whole = measure("whole")
    with pytest.raises(Killed):
        measure("cut", cut)
    assert torch.equal(measure("cut"), whole)
    assert 0 < float(whole.float().mean()) < 1


def test_accuracies_of_epochs_are_the_same_after_an_interrupted_training(
    spec, tmp_path, monkeypatch
):
    spec = replace(spec, training=replace(spec.training, epochs=4))
    monkeypatch.setattr(target, "Checkpoint", lambda *given: Checkpoint(*given, seconds=0))

    def told(folder, kill_after=None):
        found = {}

        def tell(epochs, accuracy):
            found[epochs] = accuracy
            if epochs == kill_after:
                raise Killed

        train_here(spec, tmp_path / folder, on_epoch=tell)
        return found

    whole = told("whole")
    with pytest.raises(Killed):
        told("cut", kill_after=3)
    again = told("cut")
    assert again == {epochs: whole[epochs] for epochs in again}
    assert min(again) == 3
