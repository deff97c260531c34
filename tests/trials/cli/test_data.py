"""``atat data check`` on each real layout: complete datasets pass, each damage is named."""

import json
import os
import re
import shutil

import pytest
import trees

from trials.cli import program as cli


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Return a function that builds a complete dataset of a layout once."""
    built = {}

    def tree(name):
        if name not in built:
            built[name] = trees.TREES[name](tmp_path_factory.mktemp(name) / "data")
        return built[name]

    return tree


@pytest.fixture
def copied(whole, tmp_path):
    return lambda name: shutil.copytree(whole(name), tmp_path / "copy")


def check(capsys, name, root, *options):
    """Run ``atat data check``; return exit code and output."""
    code = cli.main(["data", "check", name, "--root", str(root), *options])
    return code, capsys.readouterr()


@pytest.mark.parametrize(
    ("name", "classes", "images"),
    [
        ("image_folder", 3, 12),
        ("facescrub", 530, 1060),
        ("celeba", 1000, 2007),
        ("stanford_dogs", 120, 240),
    ],
)
def test_a_dataset_of_the_real_layout_passes(whole, capsys, name, classes, images):
    code, said = check(capsys, name, whole(name))
    assert code == 0, said.out
    assert "can be used" in said.out
    code, said = check(capsys, name, whole(name), "--json")
    found = json.loads(said.out)
    assert (code, said.err) == (0, "")
    assert (found["classes"], found["images"]) == (classes, images)
    assert found["usable"]
    assert not found["problems"]


def cut(path, share=0.6):
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])


def half(root, folder):
    for path in sorted((root / folder).iterdir())[::2]:
        shutil.rmtree(path)


def empty(path):
    for file in path.iterdir():
        file.unlink()


def rewrite(path, old, new):
    path.write_text(path.read_text().replace(old, new, 1))


FIRST_DOG = "Annotation/n02085620-breed_0/n02085620_7"
DAMAGE = {
    "root is missing": ("image_folder", shutil.rmtree, "there is no folder"),
    "root is a file": (
        "image_folder",
        lambda root: (shutil.rmtree(root), root.write_text("zip")),
        "is a file",
    ),
    "an empty root": (
        "image_folder",
        lambda root: [shutil.rmtree(path) for path in root.iterdir()],
        "has 0 class folders",
    ),
    "half of a group": (
        "facescrub",
        lambda root: half(root, "actor_faces"),
        "actor_faces has 132 of 265 people",
    ),
    "a group": (
        "facescrub",
        lambda root: shutil.rmtree(root / "actress_faces"),
        "has no actress_faces",
    ),
    "half of the breeds": ("stanford_dogs", lambda root: half(root, "Images"), "60 of 120 classes"),
    "an empty class": (
        "image_folder",
        lambda root: empty(root / "bob"),
        "1 class folders hold no image: bob",
    ),
    "a class of one image": (
        "image_folder",
        lambda root: [path.unlink() for path in sorted((root / "cy").iterdir())[1:]],
        "1 classes have fewer than 2 images, which cannot be split .*: cy",
    ),
    "a truncated image": (
        "image_folder",
        lambda root: cut(root / "ann" / "2.jpg"),
        r"1 image cannot be decoded: ann/2\.jpg",
    ),
    "text as an image": (
        "image_folder",
        lambda root: (root / "ann" / "x.png").write_text("<html>not found</html>"),
        r"1 image cannot be decoded: ann/x\.png",
    ),
    "names alike": (
        "image_folder",
        lambda root: shutil.copytree(root / "ann", root / "Ann "),
        "classes with the same name: Ann , ann",
    ),
    "names alike but for the composition of a letter": (
        "image_folder",
        lambda root: [shutil.copytree(root / "ann", root / n) for n in ("Zo\u00eb", "Zoe\u0308")],
        "classes with the same name: Zoe",
    ),
    "no identities": (
        "celeba",
        lambda root: (root / "identity_CelebA.txt").unlink(),
        r"has no identity_CelebA\.txt",
    ),
    "a malformed identity": (
        "celeba",
        lambda root: rewrite(root / "identity_CelebA.txt", "000002.jpg 2001", "000002.jpg"),
        r"1 lines of identity_CelebA\.txt are not IMAGE NUMBER, the first is line 2: '000002\.jpg'",
    ),
    "an identity twice": (
        "celeba",
        lambda root: rewrite(root / "identity_CelebA.txt", "000002.jpg", "000001.jpg"),
        r"names images twice: 000001\.jpg",
    ),
    "too few identities": (
        "celeba",
        lambda root: (root / "identity_CelebA.txt").write_text("000001.jpg 1\n000002.jpg 1\n"),
        "1 of 1000 classes are there",
    ),
    "an image that an identity names": (
        "celeba",
        lambda root: (root / "img_align_celeba" / "000501.jpg").unlink(),
        r"img_align_celeba lacks 1 image that identity_CelebA\.txt names: 000501\.jpg",
    ),
    "no folder of images": (
        "celeba",
        lambda root: shutil.rmtree(root / "img_align_celeba"),
        "has no hdcrop or img_align_celeba",
    ),
    "an annotation": (
        "stanford_dogs",
        lambda root: (root / FIRST_DOG).unlink(),
        "1 images have no annotation: Images/n02085620-breed_0/n02085620_7.jpg",
    ),
    "an annotation without a box": (
        "stanford_dogs",
        lambda root: (root / FIRST_DOG).write_text("<annotation/>"),
        f"1 annotations have no bounding box: {FIRST_DOG}",
    ),
    "an annotation of an unknown encoding": (
        "stanford_dogs",
        lambda root: (root / FIRST_DOG).write_text('<?xml version="1.0" encoding="foo"?><a/>'),
        f"1 annotations have no bounding box: {FIRST_DOG}",
    ),
    "a box outside": (
        "stanford_dogs",
        lambda root: (root / FIRST_DOG).write_text(trees.annotation((50, 50, 60, 60))),
        "1 image cannot be decoded",
    ),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_each_damage_has_its_own_message_and_advice(copied, capsys, damage):
    name, harm, message = DAMAGE[damage]
    root = copied(name)
    harm(root)
    code, said = check(capsys, name, root, "--json")
    found = json.loads(said.out)
    assert code == 1
    assert not found["usable"]
    assert any(re.search(message, problem["what"]) for problem in found["problems"]), found
    assert all(problem["advice"] for problem in found["problems"])
    code, said = check(capsys, name, root)
    assert code == 1
    assert "cannot be used" in said.out
    assert "what to do" in said.out


def test_messages_of_damages_are_different():
    assert len({message for _, _, message in DAMAGE.values()}) >= 17


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
@pytest.mark.parametrize("place", ["", "ann"])
def test_an_unreadable_folder_is_named(copied, capsys, place):
    root = copied("image_folder")
    (root / place).chmod(0)
    try:
        code, said = check(capsys, "image_folder", root, "--json")
    finally:
        (root / place).chmod(0o755)
    assert code == 1
    assert "chmod" in said.out


def test_an_unknown_dataset_is_exit_code_2(tmp_path, capsys):
    code, said = check(capsys, "facescrap", tmp_path)
    assert code == 2
    assert "did you mean 'facescrub'" in said.err
    with pytest.raises(SystemExit) as ended:
        cli.main(["data", "check", "facescrub"])
    assert ended.value.code == 2


def test_files_that_are_not_images_are_noted_and_the_dataset_passes(copied, capsys):
    root = copied("image_folder")
    (root / "ann" / "Thumbs.db").write_text("x")
    (root / "ann" / ".DS_Store").write_text("x")
    code, said = check(capsys, "image_folder", root, "--json")
    assert code == 0
    assert json.loads(said.out)["notes"][:2] == [
        "1 hidden entries are ignored: ann/.DS_Store",
        "1 files that are no images by their suffix are ignored: ann/Thumbs.db",
    ]
