"""Defenses with state besides the network: their losses, written a second time."""

from copy import deepcopy

import pytest
import torch
from small import TRAINING, begun, draws, nll, small

from atat_ray.defenses import DEFENSES
from atat_ray.defenses.pixel_lasso import PixelLasso, Selection
from atat_ray.defenses.trap_mid import blend, vary
from atat_ray.models import build_target
from atat_ray.models.image_layers import delete
from atat_ray.training import Training, train
from atat_ray.training.checkpoint import Checkpoint
from atat_ray.training.interface import Course
from atat_ray.utils.seeding import generator

NONE = torch.zeros(32, 32).bool()  # of the pixels
FOUR = Training(epochs=4, batch_size=8, learning_rate=0.003, weight_decay=0.01)


def same_state(one, other):
    return all(torch.equal(value, other[name]) for name, value in one.items())


def test_trap_mid_loss_and_triggers(batch, faces):
    images, labels = batch
    defense = DEFENSES["trap_mid"](weight=0.3, blend=0.1)
    model = small().eval()
    session = begun(defense, model, faces)
    before = session.triggers.clone()
    assert before.shape == (4, 1, 32, 32)
    terms = session.loss(model, images, labels, draws())
    after = session.triggers
    again = draws()
    classes = again.integers(0, 4, labels)
    step = (after - before).abs()
    assert float(step.max()) <= 0.01 + 1e-6
    assert (step.flatten(1).amax(1) > 0).equal(classes.bincount(minlength=4) > 0)
    vary(images, again)  # the draws of the step of the triggers
    trapped = vary(0.9 * images + 0.1 * after[classes], again)
    expected = 0.7 * nll(model(images), labels) + 0.3 * nll(model(trapped), classes)
    assert torch.allclose(terms.total, expected.mean(), rtol=1e-4)
    with pytest.raises(ValueError, match="no loss outside a training"):
        defense.loss(model, images, labels, draws())


def test_triggers_become_more_effective_and_their_images_stay_in_range(batch, faces):
    images, labels = batch
    model = small().eval()
    with torch.no_grad():
        model.head.weight *= 30  # an untrained network hardly tells images apart
    session = begun(DEFENSES["trap_mid"](weight=0.3, blend=0.3, step_size=0.1), model, faces)

    def works():
        with torch.no_grad():
            return nll(model(blend(images, session.triggers[labels], 0.3)), labels).mean()

    before = works()
    for turn in range(20):
        session.loss(model, images, labels, draws(turn))
    assert works() < before
    assert session.triggers.min() >= 0
    assert session.triggers.max() <= 1
    assert blend(torch.ones(1), torch.zeros(1), 0.25) == 0.75


def test_lasso_penalty_is_the_group_norm(batch, faces):
    images, labels = batch
    penalties = torch.rand(32, 32, generator=generator("penalties"))
    course = Course(faces=faces, training=TRAINING, steps_per_epoch=2, seed=1)
    choice = Selection(PixelLasso(weight=0.2, ridge=0.1), course, penalties, NONE)
    with torch.no_grad():
        choice.weights.copy_(torch.randn(1, 32, 32, generator=generator("weights")))
    choice.deleted[3, 4] = True
    model = small().eval()
    total = choice.loss(model, images, labels, draws()).total
    weights = choice.weights.detach().clone()
    weights[:, 3, 4] = 0
    seen = ((images * 2 - 1) * weights + 1) / 2
    expected = nll(model(seen), labels).mean().double()
    for i in range(32):
        for j in range(32):
            norm = weights[:, i, j].double().norm()
            expected = expected + 0.2 * penalties[i, j] * norm + 0.1 * norm**2
    assert total.item() == pytest.approx(expected.item(), rel=1e-4)
    total.backward()
    assert choice.weights.grad.isfinite().all()
    assert choice.weights.grad[0, 3, 4] == 0


def test_early_stopping_is_plain_training_after_as_many_epochs(faces):
    seen = {}

    def note(epoch, curves):
        seen[epoch] = deepcopy(model.state_dict())

    model, stopped = (
        build_target("small_resnet", num_classes=4, channels=1, seed=0) for _ in range(2)
    )
    train(model, faces, DEFENSES["none"](), FOUR, seed=1, on_epoch=note)
    curves = train(stopped, faces, DEFENSES["early_stopping"](share=0.6), FOUR, seed=1)
    assert len(curves) == 3  # 2.4 epochs, rounded up
    assert same_state(stopped.state_dict(), seen[2])


def test_early_stopping_that_is_resumed_after_its_end_trains_no_further(faces, tmp_path):
    defense = DEFENSES["early_stopping"](share=0.5)
    checkpoint = Checkpoint(tmp_path / "state.pt", "one", seconds=0)
    model = build_target("small_resnet", num_classes=4, channels=1, seed=0)
    checkpoint.remove = lambda: None  # killed after the last epoch, before its file was removed
    curves = train(model, faces, defense, FOUR, seed=1, checkpoint=checkpoint)
    before = deepcopy(model.state_dict())
    again = train(model, faces, defense, FOUR, seed=1, checkpoint=checkpoint)
    assert again == curves
    assert same_state(model.state_dict(), before)


@pytest.mark.parametrize("share", [0.0, 1.0, -1.0, float("nan")])
def test_a_share_outside_of_0_and_1_is_refused(share):
    with pytest.raises(ValueError, match=r"share of the epochs in \(0, 1\), got"):
        DEFENSES["early_stopping"](share=share)


def test_a_deleted_pixel_stays_deleted_and_the_selection_resumes(batch, faces):
    images, labels = batch
    course = Course(faces=faces, training=TRAINING, steps_per_epoch=2, seed=1)
    options = PixelLasso(weight=50.0, threshold=0.46, learning_rate=0.05)
    choice, model = Selection(options, course, torch.ones(32, 32), NONE), small()
    seen = []
    for _ in range(3):
        choice.loss(model, images, labels, draws()).total.backward()
        choice.after_step()
        seen.append(choice.deleted.clone())
        assert (choice.weights[:, choice.deleted] == 0).all()
    assert seen[1].any()
    assert (seen[2] | seen[1]).equal(seen[2])
    assert torch.equal(
        delete(torch.full((1, 1, 2, 2), torch.nan), torch.ones(2, 2).bool()),
        torch.full((1, 1, 2, 2), 0.5),
    )


def test_learning_rates_that_would_step_over_the_threshold_are_refused():
    with pytest.raises(ValueError, match="weights step over the threshold, got 0.05 and 0.02"):
        DEFENSES["pixel_lasso"](weight=0.1, learning_rate=0.05)
