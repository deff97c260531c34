import pytest
import torch
from small import TRAINING, small

from atat_ray.defenses.anti_adversarial import AntiAdversarial
from atat_ray.training import train
from atat_ray.training.checkpoint import Checkpoint

DEFENSE = AntiAdversarial(weight=2.0, epsilon=0.02, steps=2, step_size=0.01, random_start=True)


class Killed(Exception):
    """What a lost process looks like from inside."""


def trained(faces, checkpoint=None, kill_after=None):
    model = small()

    def on_epoch(epoch, curves):
        if epoch == kill_after:
            raise Killed

    curves = train(
        model, faces, DEFENSE, TRAINING, seed=1, checkpoint=checkpoint, on_epoch=on_epoch
    )
    return model.state_dict(), curves


@pytest.mark.parametrize("kill_after", [0, 1, 3])
def test_an_interrupted_training_resumes_bit_for_bit(faces, tmp_path, kill_after):
    """The state is saved after on_epoch, so that the epoch of the kill runs again."""
    state, curves = trained(faces)

    def checkpoint():
        return Checkpoint(tmp_path / "train.pt", "spec", seconds=0)

    with pytest.raises(Killed):
        trained(faces, checkpoint(), kill_after)
    kept = checkpoint().load()
    assert (kept is None) == (kill_after == 0)
    assert kept is None or len(kept["curves"]) == kill_after
    resumed_state, resumed = trained(faces, checkpoint())
    assert resumed == curves
    assert all(torch.equal(resumed_state[name], state[name]) for name in state)
    assert not (tmp_path / "train.pt").exists()


def test_a_state_of_another_specification_is_ignored(faces, tmp_path):
    with pytest.raises(Killed):
        trained(faces, Checkpoint(tmp_path / "train.pt", "one", seconds=0), kill_after=2)
    _, curves = trained(faces, Checkpoint(tmp_path / "train.pt", "other", seconds=0))
    assert curves == trained(faces)[1]


def test_short_trainings_write_nothing_and_one_worker_writes(faces, tmp_path):
    trained(faces, Checkpoint(tmp_path / "train.pt", "spec"))
    trained(faces, Checkpoint(tmp_path / "train.pt", "spec", seconds=0, writes=False))
    assert list(tmp_path.iterdir()) == []
