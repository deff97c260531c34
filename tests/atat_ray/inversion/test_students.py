"""Distillation of students: the loss by hand, black-box access, and what images are seen."""

from math import log

import pytest
import torch
from torch import nn

from atat_ray.data.augmentation import Augmentation
from atat_ray.data.stored_images import StoredImages
from atat_ray.inversion.students import (
    Distillation,
    MeanLogSoftmax,
    Students,
    agreement,
    num_held_out,
)
from atat_ray.utils.seeding import generator

CPU = torch.device("cpu")
STILL = Augmentation(
    rotation=0.0, scale=(1.0, 1.0), shift=0.0, flip=False, brightness=0.0, contrast=0.0
)
QUICK = Students.presets["quick"]


def students(**options):
    small = {"samples": 40, "steps": 60, "batch_size": 16, "noise": 0.0, "augmentation": STILL}
    return Students(**{**QUICK, **small, **options})


def linear(seed, scale=1.0):
    torch.manual_seed(seed)
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, 3))
    with torch.no_grad():
        network[1].weight.mul_(scale)
        network[1].bias.zero_()
    return network.eval()


def some_images(name, num):
    return torch.rand(num, 1, 8, 8, generator=generator(name))


def distillation(target, options, student=None, public=24, seeds=(5, 0)):
    samples = StoredImages((255 * some_images("samples", options.samples)).to(torch.uint8))
    return Distillation(
        linear(9) if student is None else student,
        target,
        options,
        samples=samples,
        public=some_images("public", public),
        device=CPU,
        seeds=seeds,
    )


def distilled(target, options, **more):
    run = distillation(target, options, **more)
    run.run()
    return run.student


def test_the_soft_loss_is_the_divergence_at_a_temperature_by_hand():
    target, student = (3 * torch.randn(4, 3, generator=generator(n)) for n in "ts")
    found = students(temperature=2.5).loss(target.log_softmax(1), student)
    total = 0.0
    for row in range(4):
        p = [2.718281828459045 ** (float(x) / 2.5) for x in target[row]]
        q = [2.718281828459045 ** (float(x) / 2.5) for x in student[row]]
        p, q = [x / sum(p) for x in p], [x / sum(q) for x in q]
        total += sum(a * log(a / b) for a, b in zip(p, q, strict=True))
    assert float(found) == pytest.approx(2.5**2 * total / 4, rel=1e-4)


def test_the_hard_loss_is_the_cross_entropy_of_the_most_likely_class_by_hand():
    target, student = (3 * torch.randn(4, 3, generator=generator(n)) for n in "ts")
    found = students(labels="hard", temperature=None).loss(target.log_softmax(1), student)
    total = 0.0
    for row in range(4):
        scores = student[row].exp()
        total -= log(float(scores[target[row].argmax()] / scores.sum()))
    assert float(found) == pytest.approx(total / 4, rel=1e-4)


class BlackBox(nn.Module):
    """A target behind an interface: it answers with probabilities that have no gradient."""

    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, images):
        assert not torch.is_grad_enabled()
        rows = self.network(torch.from_numpy(images.numpy().copy())).softmax(1).numpy()
        return torch.from_numpy(rows.copy()).log()


@pytest.mark.parametrize("options", [{}, {"labels": "hard", "temperature": None}])
def test_the_target_is_asked_for_outputs_and_never_for_gradients(options):
    target = linear(1, 8.0)
    before = [tensor.clone() for tensor in target.parameters()]
    through = distilled(BlackBox(target), students(**options))
    direct = distilled(target, students(**options))
    for one, other in zip(through.parameters(), direct.parameters(), strict=True):
        assert torch.allclose(one, other, atol=1e-5)
    assert all(tensor.grad is None for tensor in target.parameters())
    for one, other in zip(before, target.parameters(), strict=True):
        assert torch.equal(one, other)


class LabelsOnly(nn.Module):
    """A target that names its most likely class and hides its confidence."""

    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, images):
        return nn.functional.one_hot(self.network(images).argmax(1), 3).float()


def test_hard_labels_need_no_more_than_the_name_of_a_class():
    target = linear(1, 8.0)
    hard, soft = students(labels="hard", temperature=None), students()

    def same(options):
        pair = distilled(target, options), distilled(LabelsOnly(target), options)
        weights = [network[1].weight for network in pair]
        return torch.allclose(*weights, atol=1e-6)

    assert same(hard)
    assert not same(soft)


@pytest.mark.parametrize("options", [{}, {"labels": "hard", "temperature": None}])
def test_students_agree_with_their_target_on_images_that_they_have_not_seen(options):
    target = linear(1, 8.0)
    unseen = StoredImages((255 * some_images("unseen", 300)).to(torch.uint8))
    options = students(**options, samples=1000, steps=300, learning_rate=0.1, noise=0.1)
    untrained = agreement(target, linear(9), unseen)
    assert untrained < 0.7
    assert agreement(target, distilled(target, options), unseen) > 0.88


def test_a_student_is_a_function_of_its_seeds():
    target, options = linear(1), students(noise=0.1, augmentation=Augmentation())
    first, same, other = (
        distilled(target, options, seeds=(5, number))[1].weight for number in (0, 0, 1)
    )
    assert torch.equal(first, same)
    assert not torch.allclose(first, other, atol=1e-4)


def test_every_image_is_seen_before_any_is_seen_again():
    run = distillation(linear(1), students(steps=8))
    rows = torch.cat(list(run.batches()))
    assert len(rows) == 8 * 16 == 2 * 64
    for epoch in rows.view(2, 64):
        assert sorted(epoch.tolist()) == list(range(64))
    assert rows[:64].tolist() != rows[64:].tolist()


def test_images_are_the_samples_and_the_public_ones_and_nothing_else():
    run = distillation(linear(1), students())
    shown = run.images(torch.arange(64))
    assert torch.allclose(shown[:40], run.samples[:], atol=1e-5)
    assert torch.allclose(shown[40:], run.public[:], atol=1e-5)
    alone = distillation(linear(1), students(), public=0)
    assert torch.allclose(alone.images(torch.arange(40)), run.samples[:], atol=1e-5)
    assert max(int(rows.max()) for rows in alone.batches()) == 39


def test_noise_has_its_standard_deviation_and_images_stay_in_range():
    run = distillation(linear(1), students(noise=0.01))
    clean = torch.full((200, 1, 8, 8), 0.5)
    added = run.noisy(clean) - clean
    assert float(added.std()) == pytest.approx(0.01, rel=0.03)
    assert abs(float(added.mean())) < 5 * 0.01 / 12800**0.5
    wild = distillation(linear(1), students(noise=5.0)).noisy(clean)
    assert (float(wild.min()), float(wild.max())) == (0.0, 1.0)
    assert distillation(linear(1), students(noise=0.0)).noisy(clean) is clean


class Watching(nn.Module):
    """A network that keeps the images that it sees."""

    def __init__(self, network):
        super().__init__()
        self.network, self.seen = network, []

    def forward(self, images):
        self.seen.append(images)
        return self.network(images)


def test_the_student_sees_with_noise_what_the_target_sees_without():
    target, student = Watching(linear(1)), Watching(linear(9))
    run = distillation(target, students(noise=0.1), student)
    run.step(torch.arange(16))
    (asked,), (learnt,) = target.seen, student.seen
    assert torch.allclose(asked, run.samples[:16], atol=1e-5)
    assert float((learnt - asked).std()) == pytest.approx(0.1, rel=0.15)


def test_an_ensemble_has_the_geometric_mean_of_the_probabilities():
    networks = [linear(n, 3.0) for n in (1, 2, 3)]
    images = some_images("any", 5)
    found = MeanLogSoftmax(networks)(images).exp()
    product = torch.ones(5, 3)
    for network in networks:
        product = product * network(images).softmax(1)
    assert torch.allclose(found, product ** (1 / 3), atol=1e-6)


def test_agreement_is_the_share_of_equal_classes():
    images = StoredImages((255 * some_images("any", 30)).to(torch.uint8))
    one, other = linear(1), linear(2)
    equal = sum(int(one(i[None]).argmax()) == int(other(i[None]).argmax()) for i in images[:])
    assert agreement(one, other, images) == pytest.approx(equal / 30)
    assert agreement(one, one, images) == 1


def test_a_diverged_student_is_an_error_that_names_the_option():
    with pytest.raises(ValueError, match="a student diverged.*lower learning_rate of students"):
        distilled(linear(1), students(learning_rate=1e38))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"count": 0}, "count must be 1 or more, got 0"),
        ({"samples": 0}, "samples must be 1 or more, got 0"),
        ({"steps": 0}, "steps must be 1 or more, got 0"),
        ({"batch_size": 1}, "batch_size must be 2 or more, got 1"),
        ({"learning_rate": 0.0}, "learning_rate must be above 0, got 0"),
        ({"weight_decay": -1.0}, "weight_decay must be 0 or above, got -1"),
        ({"noise": float("inf")}, "noise must be 0 or above, got inf"),
        ({"labels": "sotf"}, "unknown labels 'sotf'.*did you mean 'soft'"),
        ({"labels": "hard"}, "labels: hard has no softmax, got temperature 2; set temperature"),
        ({"temperature": None}, "labels: soft needs a temperature above 0, got None"),
        ({"temperature": 0.0}, "labels: soft needs a temperature above 0, got 0.0"),
    ],
)
def test_impossible_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        students(**options)


def test_the_presets_are_valid_and_their_samples_are_checked_on_others():
    for preset in Students.presets.values():
        options = Students(**preset)
        assert num_held_out(options) == 256
        small = options.minimal(4)
        assert (small.samples, small.steps, small.batch_size) == (1, 1, 4)
        assert num_held_out(small) == 1
