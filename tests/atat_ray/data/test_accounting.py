"""Every entry of a folder is used, ignored for a reason that is said, or refused by name."""

import os
import re

import pytest
import trees

from atat_ray.data import Data, load_split
from atat_ray.data.accounting import count_images
from atat_ray.data.listing import Kind, scan
from atat_ray.data.readers.celeba import CelebA
from atat_ray.data.readers.facescrub import FaceScrub
from atat_ray.data.readers.image_folder import ImageFolder
from atat_ray.data.readers.stanford_dogs import StanfordDogs

READERS = {
    "image_folder": ImageFolder,
    "facescrub": FaceScrub,
    "celeba": CelebA,
    "stanford_dogs": StanfordDogs,
}
PICTURE = trees.picture()


def copy_class(root, old, new):
    trees.write(root, {f"{new}/{path.name}": path.read_bytes() for path in (root / old).iterdir()})


@pytest.fixture
def root(tmp_path):
    return trees.image_folder(tmp_path / "people")


def said_of(root, name="image_folder"):
    """All problems and notes of a listing, a line each."""
    listing = READERS[name]().list_files(root)
    return [str(problem) for problem in listing.problems], listing.notes


IGNORED = {
    "ann/.DS_Store": "1 hidden entries are ignored: ann/.DS_Store",
    ".thumbnails/0.png": r"1 hidden entries are ignored: \.thumbnails",
    "__MACOSX/ann/._0.jpg": "1 hidden entries are ignored: __MACOSX",
    "ann/._0.jpg": r"1 hidden entries are ignored: ann/\._0\.jpg",
    "@eaDir/0.jpg": "1 hidden entries are ignored: @eaDir",
    "ann/Thumbs.db": "1 files that are no images by their suffix are ignored: ann/Thumbs.db",
    "labels.csv": "1 files that are no images by their suffix are ignored: labels.csv",
    "README": "1 files that are no images by their suffix are ignored: README",
    "ann/pixels.npy": "1 files that are no images by their suffix are ignored: ann/pixels.npy",
    "dee.tar.gz": "1 archives are not unpacked and are ignored: dee.tar.gz",
    "ann/MORE.ZIP": "1 archives are not unpacked and are ignored: ann/MORE.ZIP",
    "ann/notes/a.txt": "1 folders that hold no image are ignored: ann/notes",
}


@pytest.mark.parametrize("path", IGNORED)
def test_what_is_no_image_is_ignored_for_a_reason_that_is_said(root, path):
    trees.write(root, {path: PICTURE})
    problems, notes = said_of(root)
    assert not problems
    assert len(notes) == 1
    assert re.fullmatch(IGNORED[path], notes[0])


REFUSED = {
    "ann/more/3.png": "folders inside folders of images hold more images.*: ann/more;",
    "ann/a/b/c/3.png": "folders inside folders of images hold more images.*: ann/a;",
    "stray.png": "1 images are not in the folder of a class: stray.png; move them into",
    "ann/x.heic": r"1 images have a suffix that is not read: ann/x\.heic; convert them to one of ",
    "ann/x.psd": r"1 images have a suffix that is not read: ann/x\.psd; convert them to one of ",
}


@pytest.mark.parametrize("path", REFUSED)
def test_an_image_that_is_not_used_is_refused_by_name(root, path):
    trees.write(root, {path: PICTURE})
    problems, notes = said_of(root)
    assert len(problems) == 1
    assert re.match(rf"1 {REFUSED[path].removeprefix('1 ')}", problems[0])
    assert not notes
    data = Data(name="image_folder", num_private=2, train_share=0.5, size=32, root=str(root))
    with pytest.raises(ValueError, match=re.escape(problems[0])):
        load_split(data, 0)


LINKS = {
    "to nothing": ("ann/x.png", "nowhere", "1 links lead to nothing that can be read: ann/x.png"),
    "to itself": ("x", "x", "1 links lead to nothing that can be read: x; restore what"),
    "to the root": ("x", ".", "1 folders hold folders of images instead of images: x; "),
    "to the folder above": ("x", "..", "1 folders hold folders of images instead of images: x; "),
}


@pytest.mark.parametrize("link", LINKS)
def test_a_link_that_leads_nowhere_or_round_is_refused_by_name(root, link):
    name, target, message = LINKS[link]
    (root / name).symlink_to(target)
    problems, _ = said_of(root)
    assert len(problems) == 1
    assert problems[0].startswith(message)


def test_links_to_images_and_folders_are_followed(root, tmp_path):
    copy_class(root, "ann", "../elsewhere")
    (root / "dee").symlink_to(tmp_path / "elsewhere")
    (root / "ann" / "9.jpg").symlink_to(tmp_path / "elsewhere" / "0.jpg")
    listing = ImageFolder().list_files(root)
    assert not listing.problems
    assert dict(zip(listing.classes, listing.counts(), strict=True))["dee"] == 4
    assert "ann/9.jpg" in listing.names


def test_a_pipe_is_refused_and_never_opened(root):
    os.mkfifo(root / "ann" / "x.png")
    assert scan(ImageFolder().list_files(root), "ann")["x.png"] is Kind.SPECIAL
    problems, _ = said_of(root)
    assert problems == ["1 entries are neither files nor folders: ann/x.png; remove them"]


def test_folders_of_splits_are_recognised_and_the_roots_to_give_are_named(root, tmp_path):
    for split in ("train", "val"):
        trees.image_folder(tmp_path / "set" / "inner" / split)
    for top in (tmp_path / "set" / "inner", tmp_path / "set"):
        problems, notes = said_of(top)
        (problem,) = problems
        assert "hold folders of images instead of images: " in problem
        for split in ("train", "val"):
            given = tmp_path / "set" / "inner" / split
            assert f"{given} (3 class folders, 12 images)" in problem
            assert not ImageFolder().list_files(given).problems
        assert not notes


def test_a_root_that_is_one_class_names_the_folder_above(root):
    problems, _ = said_of(root / "ann")
    assert "has 0 class folders, and a classifier needs 2" in problems[0]
    assert problems[0].endswith(f"if these images are one class, that is {root}")
    assert problems[1].startswith("4 images are not in the folder of a class: 0.jpg, 1.jpg")


@pytest.mark.parametrize("name", ["facescrub", "celeba", "stanford_dogs"])
@pytest.mark.parametrize("place", ["deeper", "higher"])
def test_a_fixed_layout_one_folder_off_names_the_root_to_give(tmp_path, name, place):
    whole = trees.TREES[name](tmp_path / "above" / "whole")
    given = whole.parent if place == "deeper" else next(p for p in whole.iterdir() if p.is_dir())
    problems, _ = said_of(given, name)
    assert any(f"{whole} has it: give that folder as root" in problem for problem in problems)


def test_entries_beside_a_fixed_layout_are_ignored_and_said(tmp_path):
    root = trees.stanford_dogs(tmp_path)
    trees.write(root, {"lists.tar": "x", "extra/1.png": PICTURE})
    problems, notes = said_of(root, "stanford_dogs")
    assert not problems
    assert notes == ["2 entries beside Images and Annotation are not read: extra, lists.tar"]


def test_annotations_without_an_image_are_refused_by_name(tmp_path):
    root = trees.stanford_dogs(tmp_path)
    name = "n02085620-breed_0/n02085620_7"
    (root / "Images" / f"{name}.jpg").unlink()
    trees.write(root, {"Images/n02085620-breed_0/n02085620_8.jpg": PICTURE})
    problems, _ = said_of(root, "stanford_dogs")
    assert problems[0].startswith(f"1 annotations have no image: Annotation/{name}; unpack")
    assert problems[1].startswith("1 images have no annotation: Images/n02085620-breed_0")


def test_images_that_a_file_list_does_not_use_are_counted(tmp_path):
    root = trees.celeba(tmp_path)
    folder = "img_align_celeba"
    identities = root / "identity_CelebA.txt"
    identities.write_bytes(b"\xef\xbb\xbf" + identities.read_bytes().replace(b"\n", b"\r\n"))
    trees.write(root, {f"{folder}/x.jpg": PICTURE, f"{folder}/.y.jpg": PICTURE, "hd/1.png": "x"})
    problems, notes = said_of(root, "celeba")
    assert not problems
    assert notes[1:] == [
        f"1 images are not named by identity_CelebA.txt and are not read: {folder}/x.jpg",
        "3 images are not of the 1000 people and are not read: "
        f"{folder}/001001.jpg, {folder}/001002.jpg, {folder}/001003.jpg",
        f"1 entries beside identity_CelebA.txt and {folder} are not read: hd",
        f"1 hidden entries are ignored: {folder}/.y.jpg",
    ]
    trees.write(root, {f"{folder}/000501.png": PICTURE})
    problems, _ = said_of(root, "celeba")
    pair = f"{folder}/000501.jpg = {folder}/000501.png"
    assert problems == [f"{folder} has 1 images of identity_CelebA.txt twice: {pair}; "
                        "remove one of each"]  # fmt: skip


def test_names_are_shown_escaped_and_files_of_any_name_are_used(root):
    odd = os.fsencode(root) + b"/d\xff\n\x1b[1m"
    os.mkdir(odd)
    for name in (b"\xfe.jpg", b"a\nb.jpg"):
        with open(odd + b"/" + name, "wb") as file:
            file.write(PICTURE)
    listing = ImageFolder().list_files(root)
    assert listing.classes[-1] == r"d\udcff\n\x1b[1m"
    data = Data(name="image_folder", num_private=4, num_train=1, size=32, root=str(root))
    assert sorted(load_split(data, 0).names) == ["ann", "bob", "cy", r"d\udcff\n\x1b[1m"]
    (root / "e\n").symlink_to("e\n")
    assert r"nothing that can be read: e\n;" in said_of(root)[0][0]


@pytest.mark.parametrize("given", ["~nobody-here/x", "x" * 5000, "a\0b", "/dev/null/x"])
def test_a_root_that_cannot_be_is_one_line(given):
    data = Data(name="image_folder", num_private=2, num_train=1, size=32, root=given)
    with pytest.raises(ValueError, match=r"^there is no folder [^\n\0]*; give the folder that"):
        load_split(data, 0)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_folder_that_is_not_readable_does_not_pass_as_one_without_images(root):
    (root / "ann" / "more").mkdir(mode=0)
    assert said_of(root)[0][0].startswith("1 folders inside folders of images hold more images, or")


def test_counting_images_ends_in_any_folder(root, monkeypatch):
    (root / "ann" / "up").symlink_to(root)
    assert count_images(root) == {"ann": 4, "bob": 4, "cy": 4}
    monkeypatch.setattr("atat_ray.data.accounting.MAX_FOLDERS", 2)
    assert count_images(root) == {"ann": 4}
