"""``atat data check`` and what is odd about images: it is reported, whatever the folder holds."""

import json
import shutil
import warnings

import numpy as np
import pytest
from PIL import Image, ImageCms, ImageOps

from atat_ray.data import Data, load_split
from trials.cli import program as cli


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("ATAT_CACHE", str(tmp_path / "cache"))


def check(capsys, name, root, *options):
    """Run ``atat data check``; return exit code and output."""
    code = cli.main(["data", "check", name, "--root", str(root), *options])
    return code, capsys.readouterr()


def blocks(path, seed):
    """Write an image of random blocks."""
    small = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(small).resize((40, 40), Image.Resampling.NEAREST).save(path)


def shades(path, low, high):
    """Write a gray image of 16 bits with values between two."""
    values = np.linspace(low, high, 1600).reshape(40, 40).astype(np.uint16)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values).save(path)


def oriented(path):
    exif = Image.Exif()
    exif[274] = 6
    Image.open(path).save(path, exif=exif)


def several(path):
    image = Image.open(path)
    image.save(path, save_all=True, append_images=[ImageOps.invert(image)])


def profiled(path):
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("XYZ")).tobytes()
    Image.open(path).save(path, icc_profile=profile)


ODD = {
    "16 bits": (
        lambda root: shades(root / "ann/x.png", 0, 65535),
        "1 images have more than 8 bits, and are scaled to 8: ann/x.png",
    ),
    "12 bits in a range of 16": (
        lambda root: shades(root / "ann/x.png", 0, 4095),
        "1 images are of one colour, or nearly so: ann/x.png",
    ),
    "one pixel": (
        lambda root: Image.new("RGB", (1, 1)).save(root / "ann/x.png"),
        "the shorter side of the smallest image has 1 pixels: ann/x.png",
    ),
    "a white image": (
        lambda root: Image.new("L", (40, 40), 255).save(root / "ann/x.png"),
        "1 images are of one colour, or nearly so: ann/x.png",
    ),
    "a class of one image four times": (
        lambda root: [blocks(root / f"cy/{i}.png", 8) for i in range(4)],
        "1 classes have images that are all alike: cy",
    ),
    "an image in two classes, in two formats": (
        lambda root: Image.open(root / "ann/0.png").save(root / "bob/x.bmp"),
        "2 images are the same in several classes, so that a label is wrong: ann/0.png = bob/x.bmp",
    ),
    "an image twice in a class": (
        lambda root: shutil.copy(root / "ann/0.png", root / "ann/x.png"),
        "2 images are the same in one class, and may be training and test images at once: "
        "ann/0.png = ann/x.png",
    ),
    "transparency": (
        lambda root: Image.open(root / "ann/0.png").convert("RGBA").save(root / "ann/0.png"),
        "1 images have transparency, which is dropped: ann/0.png",
    ),
    "several pictures": (
        lambda root: several(root / "ann/0.png"),
        "1 images hold several pictures, of which the first is read: ann/0.png",
    ),
    "orientation": (
        lambda root: oriented(root / "ann/0.png"),
        "1 images have an orientation tag, which is ignored: they are read as they are stored: "
        "ann/0.png",
    ),
    "a colour profile": (
        lambda root: profiled(root / "ann/0.png"),
        "1 images have a colour profile other than sRGB, which is ignored: ann/0.png",
    ),
}


@pytest.fixture
def wild(tmp_path):
    """Three classes of four images that are all different."""
    for number in range(12):
        blocks(tmp_path / "wild" / ("ann", "bob", "cy")[number % 3] / f"{number // 3}.png", number)
    return tmp_path / "wild"


def test_images_that_are_all_different_get_no_note_but_the_smallest_size(wild, capsys):
    code, said = check(capsys, "image_folder", wild, "--json")
    assert code == 0
    notes = json.loads(said.out)["notes"]
    assert notes == ["the shorter side of the smallest image has 40 pixels: ann/0.png"]


@pytest.mark.parametrize("odd", ODD)
def test_what_is_odd_about_images_is_reported(wild, capsys, odd):
    change, note = ODD[odd]
    change(wild)
    code, said = check(capsys, "image_folder", wild, "--json")
    assert code == 0
    assert note in json.loads(said.out)["notes"]
    assert note.partition(":")[0][:40] in " ".join(
        check(capsys, "image_folder", wild)[1].out.split()
    )


def test_a_folder_of_sixteen_bits_is_not_all_white(wild, capsys):
    for number in range(12):
        shades(wild / "dee" / f"{number}.png", 4000, 60000 - 2000 * number)
    code, said = check(capsys, "image_folder", wild, "--json")
    assert code == 0
    assert not [note for note in json.loads(said.out)["notes"] if "alike" in note or "one" in note]


def test_counts_and_advice_are_those_after_leaving_out_what_is_corrupt(wild, capsys):
    (wild / "ann/0.png").write_bytes(b"")
    _, said = check(capsys, "image_folder", wild, "--json")
    found = json.loads(said.out)
    assert (found["images"], found["smallest"]) == (11, ["ann", 3])
    assert "set skip_corrupt: true" in found["problems"][0]["advice"]
    for number in (1, 2):
        (wild / f"ann/{number}.png").write_bytes(b"")
    _, said = check(capsys, "image_folder", wild, "--json")
    found = json.loads(said.out)
    assert found["smallest"] == ["ann", 1]
    assert found["problems"][0]["advice"] == (
        "replace them; skip_corrupt: true cannot leave them out, because 1 classes would keep "
        "fewer than 2 images: ann (1)"
    )
    (wild / "ann/3.png").write_bytes(b"")  # a class that is corrupt as a whole does not vanish
    data = Data(name="image_folder", root=str(wild), num_private=2, num_train=1, size=32,
                skip_corrupt=True)  # fmt: skip
    with pytest.raises(ValueError, match=r"would keep fewer than 2 images: ann \(0\)"):
        load_split(data, 0)


def test_files_that_the_system_does_not_read_are_named_apart_from_corrupt_ones(wild, capsys):
    (wild / "ann/x.png").symlink_to("/proc/self/mem")
    code, said = check(capsys, "image_folder", wild, "--json")
    found = json.loads(said.out)
    assert code == 1
    assert list(found["unreadable"]) == ["ann/x.png"]
    assert not found["corrupt"]
    assert found["problems"][0]["what"].startswith("1 image cannot be read: ann/x.png (cannot")
    assert found["problems"][0]["advice"] == "restore it, or check the disk that it is on"


@pytest.mark.parametrize("action", ["error", "always"])
def test_warnings_of_pillow_are_neither_errors_nor_shown(wild, capsys, recwarn, action):
    for kind, options in (("palette", {"transparency": bytes(range(256))}), ("plain", {})):
        Image.open(wild / "ann/0.png").convert("P").save(wild / f"bob/{kind}.png", **options)
    Image.new("L", (9500, 9500)).save(wild / "bob/large.png")  # a DecompressionBombWarning
    warnings.simplefilter(action)
    code, said = check(capsys, "image_folder", wild)
    assert (code, said.err) == (0, "")
    assert not recwarn
