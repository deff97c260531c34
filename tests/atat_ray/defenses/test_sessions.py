"""Defenses with state besides the network: their losses, written a second time."""

from copy import deepcopy

import pytest
import torch
from scipy.optimize import nnls
from small import TRAINING, begun, draws, nll, small
from torch import nn

from atat_ray.data import Faces
from atat_ray.defenses import DEFENSES, sca
from atat_ray.defenses.pixel_lasso import PixelLasso, Selection
from atat_ray.defenses.trap_mid import blend, vary
from atat_ray.models import build_target
from atat_ray.models.image_layers import delete
from atat_ray.models.sparse_coding import SparseCoding
from atat_ray.training import train
from atat_ray.training.interface import Course
from atat_ray.utils.seeding import generator

NONE = torch.zeros(32, 32).bool()  # of the pixels


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


def test_sparse_codes_are_the_minimum_of_their_objective():
    """By non-negative least squares on the dense dictionary, by another algorithm altogether."""
    layer = SparseCoding(
        channels=1, atoms=3, kernel=4, stride=2, threshold=0.3, tau=6.0, iterations=3000,
        generator=generator("dictionary"),
    ).double().eval()  # fmt: skip
    image = torch.rand(1, 1, 8, 8, generator=generator("image")).double()
    codes = layer(image).flatten()
    inputs = (image - image.mean()) / image.var(correction=0).sqrt()
    inputs = nn.functional.pad(inputs, (1, 1, 1, 1)).flatten()
    columns = []
    for atom in range(3):
        for y in range(4):
            for x in range(4):
                column = torch.zeros(10, 10, dtype=torch.float64)
                column[2 * y : 2 * y + 4, 2 * x : 2 * x + 4] = layer.dictionary[atom, 0]
                columns.append(column.flatten())
    dense = torch.stack(columns, dim=1)

    def objective(a):
        return 0.5 * float((inputs - dense @ a).square().sum()) + 0.3 * float(a.sum())

    # |x - D a|^2 / 2 + t sum a = |L' a - L^-1 (D' x - t)|^2 / 2 + const with L L' = D' D
    gram = dense.T @ dense + 1e-9 * torch.eye(48)
    lower = torch.linalg.cholesky(gram)
    right = torch.linalg.solve_triangular(
        lower, (dense.T @ inputs - 0.3)[:, None], upper=False
    ).squeeze(1)
    best = torch.from_numpy(nnls(lower.T.numpy(), right.numpy())[0])
    assert codes.min() >= 0
    assert 0 < int((codes > 0).sum()) < 48
    assert objective(codes) == pytest.approx(objective(best), rel=1e-6)


def test_the_dictionary_learns_to_show_the_images():
    layer = SparseCoding(
        channels=1, atoms=4, kernel=4, stride=2, threshold=0.2, tau=5.0, iterations=30,
        generator=generator("dictionary"),
    ).train()  # fmt: skip
    images = nn.functional.interpolate(torch.rand(6, 1, 4, 4, generator=generator(1)), size=16)

    def error():
        layer(images)
        inputs, codes = layer.last
        shown = nn.functional.conv_transpose2d(codes, layer.dictionary, stride=2)
        return float((inputs - shown).square().mean())

    before = error()
    for _ in range(20):
        layer(images)
        layer.learn(*layer.change(), 0.1)
    assert error() < 0.8 * before
    assert torch.allclose(layer.dictionary.flatten(1).norm(dim=1), torch.ones(4))


def test_the_dictionary_learns_from_shares_of_a_batch_what_it_learns_from_all_of_it(
    batch, faces, monkeypatch
):
    """Codes of one share have more energy than those of the other: only sums can be averaged."""
    images, labels = batch
    defense = DEFENSES["sca"](threshold=0.3, dictionary_rate=1.0)

    def learned(rows, average):
        monkeypatch.setattr(sca, "mean_over_workers", average)
        model = small(defense).train()
        session = begun(defense, model, faces)
        session.loss(model, images[rows], labels[rows], draws())
        session.after_step()
        return model.front.dictionary

    whole = learned(slice(None), lambda values, draws: None)
    shares = []
    for rank in range(2):
        learned(slice(rank, None, 2), lambda values, draws: shares.append(deepcopy(values)))

    def average(values, draws):
        for value, *each in zip(values, *shares, strict=True):
            value.copy_(torch.stack(each).mean(0))

    assert torch.allclose(learned(slice(0, None, 2), average), whole, atol=1e-5)


def test_sparse_codes_have_the_channels_of_the_images_and_a_stride_that_fits():
    colour = Faces(images=torch.rand(8, 3, 32, 32), labels=torch.arange(8) % 4)

    def trained(**options):
        defense = DEFENSES["sca"](threshold=0.25, iterations=2, **options)
        model = build_target("small_resnet", num_classes=4, channels=3, seed=5)
        model = defense.prepare(model, public=None, seed=3)
        train(model, colour, defense, TRAINING, seed=1)
        return model.front.dictionary.shape

    assert trained() == (6, 3, 4, 4)
    with pytest.raises(ValueError, match="must divide the size of the images, got 3 and 32"):
        trained(stride=3)
    with pytest.raises(ValueError, match="sides are multiples of 4, got 2 x 2; choose another"):
        trained(stride=16, kernel=16)


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
