"""Datasets of image files: their listings, stores and splits."""

import hashlib
import json
import os
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import trees
from PIL import Image
from torchvision.transforms.v2.functional import center_crop, resize

from atat_ray.data import DATASETS, Data, data_manifest, load_split
from atat_ray.data.decoding import Corrupt, decode
from atat_ray.data.file_digests import cache_folder, digests_of
from atat_ray.data.image_cache import open_store
from atat_ray.data.readers.celeba import CelebA
from atat_ray.data.readers.facescrub import FaceScrub
from atat_ray.data.readers.image_folder import ImageFolder
from atat_ray.data.readers.orl_faces import default_root
from atat_ray.data.readers.stanford_dogs import StanfordDogs
from atat_ray.data.splits import split_identities
from atat_ray.data.stored_images import StoredImages, to_bytes
from atat_ray.unit import run_unit
from atat_ray.unit.block_assets import build_evaluation_models, build_prior
from atat_ray.unit.measure_stage import measure_stage
from atat_ray.unit.train_stage import new_target
from atat_ray.utils.hashing import file_hash
from atat_ray.utils.messages import lines_to
from trials.config.protocol import Protocol

SPLIT = {"name": "image_folder", "num_private": 3, "train_share": 0.75, "size": 32}


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("ATAT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def stores(cache):
    return [path.parent for path in cache.glob("*/images.u8")]


@pytest.fixture
def root(tmp_path):
    return trees.image_folder(tmp_path / "people")


def test_facescrub_has_actors_first_and_names_in_order(tmp_path):
    found = FaceScrub().list_files(trees.facescrub(tmp_path))
    assert not found.problems
    assert found.classes[0] == "actor_faces/Actor 000"
    assert found.classes[264:266] == ["actor_faces/Actor 264", "actress_faces/Actress 000"]
    assert found.names[3] == "actor_faces/Actor 001/Actor 001_1.jpeg"
    assert found.labels == [label for label in range(530) for _ in range(2)]


@pytest.mark.parametrize("folder", ["img_align_celeba", "hdcrop"])
def test_celeba_orders_people_by_frequency_and_keeps_the_order_of_ties(tmp_path, folder):
    found = CelebA().list_files(trees.celeba(tmp_path, folder=folder))
    assert not found.problems
    assert found.classes[:7] == [str(person) for person in range(2500, 2507)]
    assert found.classes[7:10] == ["2000", "2001", "2002"]
    assert found.classes[-1] == "2999"
    assert found.counts() == [3] * 7 + [2] * 993
    assert found.names[0] == f"{folder}/000501.jpg"
    assert found.notes == [
        f"images are taken from {folder}",
        "3 images are not of the 1000 people and are not read: "
        f"{folder}/001001.jpg, {folder}/001002.jpg, {folder}/001003.jpg",
    ]


def test_celeba_prefers_the_hd_crop(tmp_path):
    trees.celeba(tmp_path, folder="img_align_celeba")
    assert (
        CelebA().list_files(trees.celeba(tmp_path, folder="hdcrop")).names[0].startswith("hdcrop/")
    )


def test_dogs_are_cropped_to_their_first_box(tmp_path):
    found = StanfordDogs().list_files(trees.stanford_dogs(tmp_path))
    assert not found.problems
    assert len(found.classes) == 120
    assert set(found.boxes.values()) == {(1, 2, 9, 8)}
    assert set(found.boxes) == set(found.names)


@pytest.mark.parametrize("shape", [(300, 200), (120, 310), (64, 64), (20, 33)])
def test_decoding_is_a_resize_with_antialiasing_and_a_centre_crop(tmp_path, shape):
    generator = np.random.default_rng(0)
    smooth = Image.fromarray(generator.integers(0, 255, (9, 7, 3), dtype=np.uint8)).resize(shape)
    smooth.save(tmp_path / "x.png")
    mine = decode(tmp_path / "x.png", size=64)
    theirs = center_crop(resize(torch.from_numpy(np.asarray(smooth).copy()).permute(2, 0, 1),
                                [64], antialias=True), [64, 64])  # fmt: skip
    assert mine.shape == (3, 64, 64)
    whole = 64 * max(shape) % min(shape) == 0  # theirs rounds the longer side, mine does not
    assert (mine.float() - theirs.float()).abs().mean() < (1 if whole else 4)


def test_a_box_is_clipped_to_the_image_and_no_pixel_outside_is_used(tmp_path):
    pixels = np.zeros((40, 60, 3), np.uint8)
    pixels[10:30, 20:60] = 200
    Image.fromarray(pixels).save(tmp_path / "x.png")
    assert (decode(tmp_path / "x.png", size=16, box=(20, 10, 99, 30)) == 200).all()
    with pytest.raises(Corrupt, match="outside of its 60 x 40"):
        decode(tmp_path / "x.png", size=16, box=(60, 0, 70, 10))


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "1", "CMYK", "I;16"])
def test_every_mode_of_pillow_becomes_three_channels(tmp_path, mode):
    suffix = "tif" if mode in ("CMYK", "I;16") else "png"
    Image.new(mode, (20, 20)).save(tmp_path / f"x.{suffix}")
    assert decode(tmp_path / f"x.{suffix}", size=32).shape == (3, 32, 32)


def test_a_store_has_the_pixels_of_every_file_and_is_written_once(root, cache, monkeypatch):
    listing = ImageFolder().list_files(root)
    images, labels = open_store(listing, size=32)
    assert isinstance(images, StoredImages)
    assert images.shape == (12, 3, 32, 32)
    assert labels.tolist() == [0] * 4 + [1] * 4 + [2] * 4
    for row, name in enumerate(listing.names):
        assert torch.equal(images.pixels[row], decode(root / name, size=32))
    (folder,) = stores(cache)
    assert json.loads((folder / "index.json").read_text())["names"] == listing.names
    monkeypatch.setattr("atat_ray.data.image_cache.decode_all", None)
    again, _ = open_store(ImageFolder().list_files(root), size=32)
    assert torch.equal(again.pixels, images.pixels)


def test_the_key_of_a_store_depends_on_files_labels_and_size(root):
    keys = {
        open_store(ImageFolder().list_files(root), size=size)[0].fingerprint for size in (32, 48)
    }
    (root / "ann" / "0.jpg").write_bytes(trees.picture(3, size=(40, 50)))
    keys.add(open_store(ImageFolder().list_files(root), size=32)[0].fingerprint)
    (root / "cy").rename(root / "cyd")
    keys.add(open_store(ImageFolder().list_files(root), size=32)[0].fingerprint)
    (root / "ann" / "0.jpg").unlink()
    keys.add(open_store(ImageFolder().list_files(root), size=32)[0].fingerprint)
    assert len(keys) == 5


def pgm(shade):
    return b"P5\n40 40\n255\n" + bytes([shade]) * 1600


def test_images_that_swap_their_folders_are_read_under_their_new_labels(tmp_path):
    for shade, name in enumerate("abcd"):
        folder = tmp_path / "faces" / name
        folder.mkdir(parents=True)
        for number in range(5):
            (folder / f"{number}.pgm").write_bytes(pgm(50 * shade))
    listing = ImageFolder().list_files(tmp_path / "faces")
    first, labels = open_store(listing, size=32)
    for old, new in [("a", "x"), ("b", "a"), ("x", "b")]:
        (tmp_path / "faces" / old).rename(tmp_path / "faces" / new)
    second, again = open_store(ImageFolder().list_files(tmp_path / "faces"), size=32)
    assert torch.equal(labels, again)
    assert torch.equal(second.pixels, first.pixels[[*range(5, 10), *range(5), *range(10, 20)]])
    assert first.fingerprint != second.fingerprint


@pytest.mark.parametrize("times", [False, True])
def test_a_file_that_is_written_over_is_read_again_even_with_its_old_times(tmp_path, times):
    path, cache = tmp_path / "a.pgm", tmp_path / "cache"
    path.write_bytes(pgm(1))
    before = digests_of(tmp_path, ["a.pgm"], cache=cache)
    old = path.stat()
    path.write_bytes(pgm(2))
    if times:
        os.utime(path, ns=(old.st_atime_ns, old.st_mtime_ns))
    after = digests_of(tmp_path, ["a.pgm"], cache=cache)
    assert before != after
    assert after == {"a.pgm": hashlib.sha256(pgm(2)).hexdigest()}


def test_only_new_and_changed_files_are_read_again(tmp_path, cache, monkeypatch):
    monkeypatch.setattr("atat_ray.data.file_digests.SETTLED_NS", 0)
    for name in "abc":
        (tmp_path / name).write_text(name)
    before = digests_of(tmp_path, "abc")
    read = []
    monkeypatch.setattr(
        "atat_ray.data.file_digests.hash_all", lambda root, names: read.extend(names) or names
    )
    assert digests_of(tmp_path, "abc") == before
    assert read == []
    (tmp_path / "b").write_text("other")
    (tmp_path / "d").write_text("d")
    assert digests_of(tmp_path, "abcd") == {**before, "b": "b", "d": "d"}
    assert read == ["b", "d"]
    (kept,) = cache.glob("digests/*.json")
    kept.write_text(kept.read_text().replace(before["a"], before["c"]))
    digests_of(tmp_path, "a")
    assert read == ["b", "d", "a"]


def test_digests_of_files_that_were_just_written_are_not_kept(tmp_path, cache):
    (tmp_path / "a").write_text("a")
    digests_of(tmp_path, ["a"])
    assert not list(cache.glob("digests/*.json"))


def test_a_file_that_cannot_be_read_has_the_reason_in_place_of_a_digest(tmp_path):
    assert digests_of(tmp_path, ["a"]) == {"a": "cannot be read: No such file or directory"}


def test_the_manifest_of_a_dataset_names_each_file_and_the_labels(root):
    data = Data(**SPLIT, root=str(root))
    before = data_manifest(data)
    assert len(before) == 13
    (root / "cy").rename(root / "cyd")
    after = data_manifest(data)
    assert sorted(before.keys() - after.keys()) == [f"cy/{n}.jpg" for n in range(4)]
    assert before["labels and boxes"] != after["labels and boxes"]
    orl = data_manifest(Data(name="orl_faces", num_private=4, num_train=7, size=32))
    assert len(orl) == 400
    assert orl["s1/1.pgm"] == file_hash(default_root() / "s1" / "1.pgm")


@pytest.mark.parametrize("harm", ["cut", "index", "flip", "pixels", "label"])
def test_a_damaged_store_is_named_and_written_again(root, cache, harm):
    images, _ = open_store(ImageFolder().list_files(root), size=32)
    before = images.pixels.clone()
    del images
    (folder,) = stores(cache)
    pixels, lines = folder / "images.u8", []
    if harm == "cut":
        pixels.write_bytes(b"123")
    elif harm == "flip":
        pixels.write_bytes(bytes([pixels.read_bytes()[0] ^ 1]) + pixels.read_bytes()[1:])
    elif harm == "pixels":
        pixels.unlink()
    elif harm == "label":
        text = (folder / "index.json").read_text()
        (folder / "index.json").write_text(text.replace("ann/0.jpg", "bob/0.jpg", 1))
    else:
        (folder / "index.json").unlink()
    with lines_to(lines.append):
        again, _ = open_store(ImageFolder().list_files(root), size=32)
    assert torch.equal(again.pixels, before)
    assert [str(folder) in line for line in lines] == ([] if harm == "index" else [True])
    assert stores(cache) == [folder]


def test_corrupt_images_are_listed_and_skipped_only_with_skip_corrupt(root):
    for name in ("ann/1.jpg", "ann/3.jpg", "bob/0.jpg", "bob/1.jpg"):
        (root / name).write_bytes(trees.picture()[:200])
    data = {**SPLIT, "root": str(root)}
    with pytest.raises(ValueError, match=r"4 images .* ann/1\.jpg, ann/3\.jpg, bob/0\.jpg and 1 m"):
        load_split(Data(**data), 0)
    split = load_split(Data(**data, skip_corrupt=True), 0)
    assert len(split.train) + len(split.test) == 8
    (root / "ann/0.jpg").write_bytes(b"")
    with pytest.raises(ValueError, match=r"1 classes would keep fewer than 2 images: ann \(1\)"):
        load_split(Data(**data, skip_corrupt=True), 0)


def test_classes_are_named_by_their_folders(root):
    """In splits, and in errors about the number of images of a class."""
    data = {**SPLIT, "root": str(root)}
    split = load_split(Data(**data), 0)
    assert split.names == tuple(("ann", "bob", "cy")[person] for person in split.people)
    (root / "bob/0.jpg").unlink()
    data |= {"train_share": None, "num_train": 3}
    with pytest.raises(ValueError, match=r"num_train must be in 1\.\.2 .* \(class bob has 3 im"):
        load_split(Data(**data), 0)
    one = torch.tensor([0, 0, 1])
    with pytest.raises(ValueError, match="class bob has one image but needs two"):
        split_identities(
            torch.zeros(3, 1, 4, 4), one, ["ann", "bob"], split=0, num_private=1, num_train=1
        )


def test_a_dataset_with_problems_is_refused_and_the_first_is_named(root):
    for file in (root / "cy").iterdir():
        file.unlink()
    (root / "ann " / "x").mkdir(parents=True)
    with pytest.raises(ValueError, match="2 class folders hold no image.*1 more problem"):
        load_split(Data(**SPLIT, root=str(root)), 0)


def test_too_little_disk_space_is_an_error_before_decoding(root, monkeypatch):
    monkeypatch.setattr(
        "atat_ray.data.image_cache.shutil.disk_usage", lambda path: SimpleNamespace(free=100)
    )
    with pytest.raises(ValueError, match="GiB free; set ATAT_CACHE to another folder"):
        open_store(ImageFolder().list_files(root), size=32)


def test_a_split_is_stratified_seeded_and_may_have_no_public_classes(root):
    trees.image_folder(root, classes=("dee",), each=9)
    data = Data(**{**SPLIT, "num_private": 4}, root=str(root))
    split, again, other = (load_split(data, number) for number in (0, 0, 1))
    sizes = {"ann": 3, "bob": 3, "cy": 3, "dee": 7}
    assert split.train.labels.bincount().tolist() == [
        list(sizes.values())[person] for person in split.people
    ]
    assert split.test.labels.bincount().tolist() == [2 if p == 3 else 1 for p in split.people]
    assert len(split.public) == 0
    assert torch.equal(split.train.images[:], again.train.images[:])
    assert not torch.equal(split.train.images[:], other.train.images[:])
    held_out = load_split(Data(**{**SPLIT, "num_private": 2}, root=str(root)), 0)
    assert len(held_out.train) + len(held_out.test) + len(held_out.public) == 21
    with pytest.raises(ValueError, match=r"num_private must be in 1\.\.4 as there are 4 classes"):
        load_split(Data(**{**SPLIT, "num_private": 5}, root=str(root)), 0)


def test_images_become_floats_only_when_indexed(root):
    split = load_split(Data(**SPLIT, root=str(root)), 0)
    images = split.train.to(torch.device("cpu")).images
    assert images.pixels.dtype == torch.uint8
    assert len(images) == 9
    batch = images[torch.tensor([3, 1])]
    assert batch.dtype == torch.float32
    assert torch.equal(batch * 255, images.pixels[images.rows[[3, 1]]].float())
    assert torch.equal(batch[0], images[3])
    assert torch.equal(torch.cat(list(images.split(4))), images[:])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"root": None}, "image_folder needs root"),
        ({"train_share": None}, "give num_train, .* or train_share"),
        ({"num_train": 2}, "give num_train, .* or train_share"),
        ({"train_share": 1.0}, r"train_share must be in \(0, 1\), got 1"),
        (
            {"name": "orl_faces", "skip_corrupt": True},
            "skip_corrupt is for datasets",
        ),
    ],
)
def test_inconsistent_settings_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        Data(**{**SPLIT, "root": "somewhere", **change})


def test_the_cache_folder_follows_the_environment(monkeypatch, tmp_path):
    assert cache_folder() == tmp_path / "cache"
    monkeypatch.delenv("ATAT_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "atat-ray"


def test_every_dataset_of_image_files_requires_its_folder():
    for name in (name for name, reader in DATASETS.items() if reader.from_files):
        assert Data(**{**SPLIT, "name": name, "root": "somewhere"}).name == name
        with pytest.raises(ValueError, match=f"{name} needs root"):
            Data(**{**SPLIT, "name": name, "root": None})


SMALL = {"epochs": 1, "batch_size": 4, "learning_rate": 0.001, "weight_decay": 0.0}


@pytest.fixture
def stored_protocol(tmp_path, content):
    """The small protocol on six classes of files, four of them private."""
    names = ("ann", "bob", "cy", "dee", "eve", "flo")
    root = trees.image_folder(tmp_path / "files", classes=names, each=6)
    content["data"] = {
        "name": "image_folder", "num_private": 4, "train_share": 0.5, "size": 32, "root": str(root),
    }  # fmt: skip
    content["training"] = content["evaluation"]["training"] = SMALL
    return content


@pytest.mark.parametrize("arm", ["treatment", "lasso", "trap"])
def test_a_unit_runs_on_files_from_training_to_measures(stored_protocol, tmp_path, arm):
    stored_protocol["arms"] |= {
        "lasso": {"defense": "pixel_lasso", "weight": 0.0005},
        "trap": {"defense": "trap_mid", "weight": 0.2},
    }
    spec = Protocol.model_validate(stored_protocol).unit_spec("split-0-01", "split-0", arm)
    outcome = run_unit(spec, assets=tmp_path / "assets", folder=tmp_path / "unit")
    assert 0 <= outcome["clean_acc"] <= 1
    folders = {"ann", "bob", "cy", "dee", "eve", "flo"}
    private = load_split(spec.block.data, spec.block.split).names
    assert set(private) < folders
    assert [row["class"] for row in outcome["classes"]] == list(private)
    measured = measure_stage(spec, tmp_path / "assets", tmp_path / "unit")
    assert measured["pictures"]["standard"]["frechet"] > 0


def test_the_record_has_the_counts_the_seed_and_the_store_of_a_split(stored_protocol, tmp_path):
    spec = Protocol.model_validate(stored_protocol).unit_spec("split-0-01", "split-0", "control")
    described = build_evaluation_models(spec.block, tmp_path / "assets")["data"]
    store = described.pop("store")
    assert described == {"classes": 4, "train": 12, "test": 12, "public": 12, "split_seed": 1000}
    again = build_evaluation_models(spec.block, tmp_path / "assets")["data"]
    assert again["store"] == store
    assert len(store) == 64


def test_missing_public_images_are_an_error_of_the_parts_that_need_them(stored_protocol, tmp_path):
    stored_protocol["data"]["num_private"] = 6
    stored_protocol["arms"]["frozen"] = {"defense": "tl_dmi", "frozen": 1}
    protocol = Protocol.model_validate(stored_protocol)
    with pytest.raises(ValueError, match="rotated_pca prior is fitted to public images.*num_priv"):
        build_prior(protocol.block_spec("split-0"), "standard", tmp_path)
    spec = protocol.unit_spec("split-0-01", "split-0", "frozen")
    with pytest.raises(ValueError, match="tl_dmi learns .* lower num_private"):
        new_target(spec, load_split(spec.block.data, 0), torch.device("cpu"))


def test_bytes_are_rounded_and_never_wrap_around():
    given = torch.tensor([-0.1, 0.0, 0.4 / 255, 0.6 / 255, 1.0, 1.01]).view(1, 1, 1, 6)
    assert to_bytes(given).flatten().tolist() == [0, 0, 0, 1, 255, 255]
    every = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16)
    assert torch.equal(to_bytes(StoredImages(every)[:]), every)
