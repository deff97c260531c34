"""Random data and generators of a given shape, and the few images of a rehearsal."""

import pytest
import torch

from atat_ray.data import Data, Faces, IdentitySplit, load_split
from atat_ray.data.splits import truncate
from atat_ray.evaluation import Evaluation, EvaluationModels, score
from atat_ray.priors.stylegan2 import StyleGan2Options
from atat_ray.priors.stylegan2.networks import Generator, Shape
from atat_ray.priors.stylegan2.random_generator import FFHQ, NARROW, make_generator
from atat_ray.training import Training
from atat_ray.utils.hashing import specification_hash

SMALL = Shape(latent_dim=6, style_dim=8, num_layers=2, channels=(7, 5, 4))


def test_synthetic_data_have_the_shape_of_the_options_and_little_memory():
    split = load_split(Data(name="made", num_private=1000, train_share=0.9, size=224), 3)
    assert split.num_classes == 1000
    assert (len(split.train), len(split.test), len(split.public)) == (1000, 1000, 0)
    assert split.train.images[:2].shape == (2, 3, 224, 224)
    assert split.train.images.pixels.numel() < 3e6
    assert 0 <= split.train.images[:2].min() < split.train.images[:2].max() <= 1
    made = load_split(Data(name="made", num_private=5, num_train=3, size=32), 0)
    assert (len(made.train), len(made.test)) == (15, 5)


def test_at_most_keeps_one_image_of_every_person_before_a_second_of_any():
    labels = torch.tensor([0, 0, 0, 1, 1, 2])
    faces = Faces(images=torch.arange(6.0).view(6, 1, 1, 1).expand(6, 1, 4, 4), labels=labels)
    split = IdentitySplit(
        train=faces,
        recognised=faces,
        test=faces,
        public=faces,
        people=torch.arange(3),
        names=tuple("abc"),
    )
    kept = truncate(split, 4)
    assert kept.train.labels.tolist() == [0, 1, 2, 0]
    assert kept.train.images[:, 0, 0, 0].tolist() == [0, 3, 5, 1]
    assert (kept.num_classes, len(kept.public)) == (3, 6)


def test_at_most_is_part_of_the_hash():
    settings = {"name": "orl_faces", "num_private": 6, "num_train": 7, "size": 32}
    assert specification_hash(Data(**settings)) != specification_hash(Data(**settings, at_most=4))
    assert len(load_split(Data(**settings, at_most=4), 0).train) == 4
    with pytest.raises(ValueError, match="at_most must be 2 images or more, got 1"):
        Data(**settings, at_most=1)


def test_a_part_of_the_classes_is_scored_as_it_is_among_all_of_them():
    data = Data(name="orl_faces", num_private=6, num_train=7, size=32)
    split = load_split(data, 0)
    training = Training(epochs=1, batch_size=14, learning_rate=0.01, weight_decay=0)
    models = EvaluationModels(
        Evaluation(ensemble=1, training=training), num_classes=6, channels=1, size=32
    ).eval()
    images, classes = torch.rand(12, 1, 32, 32), torch.arange(6).repeat_interleave(2)
    whole = score(images, classes, models, split)
    part = score(images[4:8], classes[4:8], models, split)
    assert part.classes == whole.classes[2:4]
    assert torch.equal(part.picture, whole.picture[:, :, 64:128])


def test_random_generators_have_ffhqs_shape():
    assert (FFHQ.resolution, NARROW.resolution, NARROW.num_styles) == (1024, 1024, 18)
    with torch.device("meta"):
        assert sum(t.numel() for t in Generator(FFHQ).parameters()) == 30_370_060


def test_a_random_generator_is_a_prior_and_a_placeholder_hash_is_refused(tmp_path):
    path = tmp_path / "made.safetensors"
    sha256 = make_generator(path, SMALL)
    StyleGan2Options(path=str(path), sha256=sha256).check()
    placeholder = StyleGan2Options(path=str(path), sha256=64 * "0")
    with pytest.raises(ValueError, match=f"still the placeholder of zeros; write {sha256}"):
        placeholder.check()
    other = StyleGan2Options(path=str(path), sha256=64 * "a")
    with pytest.raises(ValueError, match=f"{path} has sha256 {sha256}, not aaaa.*correct path"):
        other.check()
    with pytest.raises(ValueError, match="placeholder of zeros"):
        placeholder.fit(torch.zeros(0, 3, 16, 16), torch.Generator())
