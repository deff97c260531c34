from dataclasses import dataclass, replace

import pytest
import torch
from small import draws, small

from atat_ray.data import Faces
from atat_ray.data.augmentation import Augmentation, augment
from atat_ray.defenses import DEFENSES, Defense
from atat_ray.defenses.anti_adversarial import AntiAdversarial
from atat_ray.training import Training, accuracy, train
from atat_ray.training.loop import Loop, warmup_share
from atat_ray.utils.precision import forward_precision
from atat_ray.utils.seeding import BatchDraws, generator

TRAINING = Training(epochs=3, batch_size=8, learning_rate=0.003, weight_decay=0.01)
PLAIN = DEFENSES["none"]()
NOTHING = Augmentation(rotation=0, scale=(1, 1), shift=0, flip=False, brightness=0, contrast=0)
# The full path (decoys, PGD, second term) is taken, and its contribution is exactly 0 in float32.
UNDERFLOW = 1e-300


def atat(weight):
    return AntiAdversarial(weight=weight, epsilon=0.02, steps=2, step_size=0.01, random_start=True)


def trained(faces, defense, seed=1, **options):
    model = small()
    curves = train(model, faces, defense, TRAINING, seed=seed, **options)
    return model, curves


def parameters(model):
    return dict(model.named_parameters())


def test_the_full_path_with_weight_zero_gives_the_parameters_of_plain_training(faces):
    plain, full = (
        parameters(trained(faces, PLAIN)[0]),
        parameters(trained(faces, atat(UNDERFLOW))[0]),
    )
    assert all(torch.equal(plain[name], full[name]) for name in plain)


def test_weight_zero_gives_the_state_of_plain_training_statistics_included(faces):
    plain, zero = trained(faces, PLAIN)[0].state_dict(), trained(faces, atat(0.0))[0].state_dict()
    assert all(torch.equal(plain[name], zero[name]) for name in plain)


def test_the_defense_changes_what_is_learned(faces):
    plain, treated = parameters(trained(faces, PLAIN)[0]), parameters(trained(faces, atat(2.0))[0])
    assert not torch.equal(plain["head.weight"], treated["head.weight"])


def test_training_is_a_function_of_the_seed(faces):
    one, again, other = (parameters(trained(faces, atat(2.0), seed)[0]) for seed in (1, 1, 2))
    assert all(torch.equal(one[name], again[name]) for name in one)
    assert not torch.equal(one["head.weight"], other["head.weight"])


def test_arms_see_the_same_images_in_the_same_order(faces):
    seen = {"plain": [], "atat": []}

    @dataclass
    class Spy(Defense):
        name: str
        inner: object

        def loss(self, model, images, labels, draws):
            seen[self.name].append((images.clone(), labels.clone()))
            return self.inner.loss(model, images, labels, draws)

    trained(faces, Spy("plain", PLAIN))
    trained(faces, Spy("atat", atat(2.0)))
    assert len(seen["plain"]) == 6
    for (images, labels), (other_images, other_labels) in zip(*seen.values(), strict=True):
        assert torch.equal(images, other_images)
        assert torch.equal(labels, other_labels)


def test_curves_have_one_row_for_each_epoch_and_on_epoch_sees_each(faces):
    told = []
    _, curves = trained(faces, atat(2.0), on_epoch=lambda epoch, row: told.append((epoch, row)))
    assert told == list(enumerate(curves))
    assert len(curves) == 3
    assert set(curves[0]) == {"loss", "clean_loss", "decoy_loss", "decoy_hit_rate"}
    for row in curves:
        assert row["loss"] == pytest.approx(row["clean_loss"] + 2 * row["decoy_loss"], rel=1e-5)


def test_plain_training_fits_what_can_be_fitted():
    base = torch.rand(4, 1, 32, 32, generator=generator("base"))
    faces = Faces(images=base.repeat(8, 1, 1, 1), labels=torch.arange(4).repeat(8))
    model = small()
    training = Training(
        epochs=25, batch_size=16, learning_rate=0.003, weight_decay=0.0, augmentation=NOTHING
    )
    curves = train(model, faces, PLAIN, training, seed=1)
    assert curves[-1]["loss"] < 0.2 < curves[0]["loss"]
    assert accuracy(model, faces) == 1.0
    assert model.training


def test_accuracy_is_the_share_counted_by_hand_for_any_batch_size(faces):
    model = small()
    model.eval()
    by_hand = sum(
        int(model(image[None]).argmax()) == int(label)
        for image, label in zip(faces.images, faces.labels, strict=True)
    )
    assert accuracy(model, faces) == by_hand / 20
    assert accuracy(model, faces, batch_size=7) == by_hand / 20


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epochs": 0}, "epochs must be 1 or more"),
        ({"batch_size": 1}, "batch_size 2 or more"),
        ({"learning_rate": 0.0}, "learning_rate must be above 0"),
        ({"weight_decay": -1.0}, "weight_decay 0 or above"),
        ({"warmup": 1.0}, r"in \(0, 1\), got 1"),
    ],
)
def test_wrong_settings_are_refused(options, message):
    good = {"epochs": 1, "batch_size": 2, "learning_rate": 0.1, "weight_decay": 0.0}
    with pytest.raises(ValueError, match=message):
        Training(**{**good, **options})


@pytest.mark.parametrize(("epochs", "warmup"), [(5, 0.1), (1, 0.5)])
def test_a_warmup_of_one_step_has_the_rates_of_one_a_little_longer(faces, epochs, warmup):
    def rates(share):
        training = replace(TRAINING, epochs=epochs, warmup=share)
        loop = Loop(small(), faces, PLAIN, training, seed=1)
        for _ in range(2 * epochs):
            yield loop.schedule.get_last_lr()[0]
            loop.optimizer.step()
            loop.schedule.step()

    found = list(rates(warmup))
    assert found == pytest.approx(list(rates(warmup + 1e-9)))
    assert found[0] == pytest.approx(TRAINING.learning_rate / 25)


@pytest.mark.parametrize("warmup", [0.1, 0.15, 1 / 3, 0.2])
def test_any_other_warmup_is_left_as_it_is(warmup):
    others = [steps for steps in range(1, 2000) if warmup * steps != 1]
    assert {warmup_share(warmup, steps) for steps in others} == {warmup}


def test_a_batch_that_does_not_fit_is_refused(faces):
    model = small()
    large = Training(epochs=1, batch_size=21, learning_rate=0.1, weight_decay=0.0)
    with pytest.raises(ValueError, match="there are 20 training images; use at most 20"):
        train(model, faces, PLAIN, large, seed=1)
    with pytest.raises(ValueError, match="multiple of the number of workers, got 8 images for 3"):
        train(model, faces, PLAIN, TRAINING, seed=1, world_size=3)


def test_augmentation_keeps_range_and_shape_and_is_drawn_for_each_image(faces):
    same = faces.images[:1].repeat(6, 1, 1, 1)
    varied = augment(same, Augmentation(), BatchDraws(generator(1)))
    assert varied.shape == same.shape
    assert varied.min() >= 0
    assert varied.max() <= 1
    assert len({tuple(image.flatten().tolist()) for image in varied}) == 6


def test_an_augmentation_of_nothing_changes_nothing(faces):
    assert torch.allclose(
        augment(faces.images, NOTHING, BatchDraws(generator(1))), faces.images, atol=1e-5
    )


def test_bfloat16_rounds_forward_passes_and_nothing_else(faces):
    model, seen = small(), []
    model.head.register_forward_hook(lambda module, inputs, output: seen.append(output.dtype))
    still = replace(TRAINING, learning_rate=1e-9)  # AdamW would make much of small differences
    curves = train(model, faces, PLAIN, replace(still, precision="bfloat16"), seed=1)
    exact = train(small(), faces, PLAIN, still, seed=1)
    assert set(seen) == {torch.bfloat16}
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    assert curves != exact
    assert curves[0]["loss"] == pytest.approx(exact[0]["loss"], rel=0.01)


def test_a_defense_is_trained_in_true_float32_alone(faces):
    half = replace(TRAINING, precision="bfloat16")
    for defense in (atat(1.0), DEFENSES["mid"](weight=0.1)):
        with pytest.raises(ValueError, match="precision bfloat16 is for training without a def"):
            train(small(), faces, defense, half, seed=1)
    with (
        pytest.raises(ValueError, match="autocast would round the perturbation away"),
        forward_precision("bfloat16", torch.device("cpu")),
    ):
        atat(1.0).loss(small(), faces.images, faces.labels, draws())
    with pytest.raises(ValueError, match="unknown precision 'float16'"):
        replace(TRAINING, precision="float16")
