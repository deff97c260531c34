"""Decoding of whatever stands in an image file: scaled by its range, or refused by name."""

import contextlib
import io
import logging
import random
import struct
import warnings
import zlib

import numpy as np
import pytest
import torch
import trees
from PIL import Image, ImageCms

from atat_ray.data.decoding import Corrupt, Unreadable, decode, decode_all
from atat_ray.data.pixel_modes import gray_of_wide
from atat_ray.data.readers.image_folder import ImageFolder

WIDE = np.linspace(4000, 60000, 1600).reshape(40, 40)


def blocks(size=(40, 40), seed=0):
    """An image of random blocks."""
    small = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    return Image.fromarray(small).resize(size, Image.Resampling.NEAREST)


def pgm(values, highest):
    height, width = values.shape
    return f"P5\n{width} {height}\n{highest}\n".encode() + values.astype(">u2").tobytes()


def gray(values):
    """The pixels that a gray image of values in [0, 1] has."""
    return torch.from_numpy(values * 255).round().to(torch.uint8).expand(3, -1, -1)


@pytest.mark.parametrize("suffix", ["png", "tif", "pgm"])
def test_sixteen_bits_are_scaled_by_their_range(tmp_path, suffix):
    path = tmp_path / f"x.{suffix}"
    Image.fromarray(WIDE.astype(np.uint16)).save(path)
    decoded = decode(path, size=40)
    assert (decoded.int() - gray(WIDE.astype(np.uint16) / 65535).int()).abs().max() <= 1
    assert decoded.max() - decoded.min() > 200


def test_the_largest_value_of_a_pgm_is_that_of_its_header(tmp_path):
    values = np.linspace(0, 4095, 1600).reshape(40, 40).round()
    (tmp_path / "x.pgm").write_bytes(pgm(values, 4095))
    decoded = decode(tmp_path / "x.pgm", size=40)
    assert (decoded.int() - gray(values / 4095).int()).abs().max() <= 1


@pytest.mark.parametrize(("bits", "photometric"), [(12, 1), (16, 0), (16, 1)])
def test_the_range_and_the_meaning_of_zero_in_a_tiff_are_those_of_its_tags(bits, photometric):
    image = Image.frombytes("I;16", (2, 1), struct.pack("<HH", 0, 2**bits - 1))
    image.format = "TIFF"
    image.tag_v2 = {258: (bits,), 262: photometric}
    black, white = gray_of_wide(image).tobytes()
    assert (black, white) == ((0, 255) if photometric else (255, 0))


def test_floats_between_0_and_1_are_scaled(tmp_path):
    values = np.linspace(0, 1, 1600, dtype=np.float32).reshape(40, 40)
    Image.fromarray(values).save(tmp_path / "x.tif")
    assert torch.equal(decode(tmp_path / "x.tif", size=40), gray(values))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (WIDE.astype(np.float32), "between 4000 and 60000, .* mode F is 0 to 1; save it as gray"),
        (np.full((4, 4), -0.5, np.float32), "between -0.5 and -0.5"),
        (np.full((4, 4), np.nan, np.float32), "between nan and nan"),
        (WIDE.astype(np.int32), "integers with a sign or of 32 bits.*; save it as gray"),
    ],
)
def test_pixels_of_an_unknown_range_are_refused_by_name(tmp_path, values, message):
    Image.fromarray(values).save(tmp_path / "x.tif")
    with pytest.raises(Corrupt, match=message):
        decode(tmp_path / "x.tif", size=32)


@pytest.mark.parametrize("mode", ["P", "L", "RGB", "RGBA", "LA"])
def test_transparency_changes_no_pixel_and_warns_nobody(tmp_path, mode):
    plain = blocks().convert(mode)
    options = {"P": {"transparency": bytes(range(256))}, "L": {"transparency": 3}}
    plain.save(tmp_path / "x.png", **options.get(mode, {}))
    decoded = decode(tmp_path / "x.png", size=40)  # warnings are errors in tests
    expected = np.asarray(plain.convert("RGB")).copy()
    assert torch.equal(decoded, torch.from_numpy(expected).permute(2, 0, 1))


def test_lab_is_converted_by_its_profile(tmp_path):
    profiles = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
    lab = ImageCms.profileToProfile(blocks(), *profiles, outputMode="LAB")
    lab.save(tmp_path / "x.tif")
    decoded = decode(tmp_path / "x.tif", size=40)
    back = ImageCms.profileToProfile(lab, *reversed(profiles), outputMode="RGB")
    expected, given = (
        torch.from_numpy(np.asarray(image).copy()).permute(2, 0, 1) for image in (back, blocks())
    )
    assert torch.equal(decoded, expected)
    assert (decoded.float() - given.float()).abs().mean() < 4  # 8 bits of LAB are coarser than RGB


def test_a_mode_that_pillow_cannot_convert_is_corrupt(tmp_path, monkeypatch):
    def refuse(image):
        return image.convert("no such mode")

    blocks().save(tmp_path / "x.png")
    monkeypatch.setattr("atat_ray.data.decoding.to_rgb", refuse)
    with pytest.raises(Corrupt, match="wrong mode"):
        decode(tmp_path / "x.png", size=32)


def bomb(side):
    """A PNG that says it has ``side`` x ``side`` pixels."""

    def chunk(kind, data):
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    head = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    parts = chunk(b"IHDR", head), chunk(b"IDAT", zlib.compress(bytes(1000))), chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "^it is empty$"),
        (b"<html>not found</html>", "^it is none of BMP, GIF, JPEG, PNG, PPM, TIFF, WEBP$"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "none of"),  # runs Ghostscript
        (bomb(40_000), "exceeds limit"),
        (bomb(11_000), "truncated|broken|corrupt"),  # large enough for a warning
        (trees.picture()[:200], "Truncated|truncated"),
    ],
    ids=["empty", "page", "postscript", "bomb", "large", "cut"],
)
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_what_is_no_image_is_corrupt_for_a_reason_without_its_path(tmp_path, content, message):
    (tmp_path / "x.png").write_bytes(content)
    with pytest.raises(Corrupt, match=message) as refused:
        decode(tmp_path / "x.png", size=32)
    assert str(tmp_path) not in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("target", ["nowhere", "/proc/self/mem"])
def test_a_file_that_the_system_does_not_read_is_not_corrupt(tmp_path, target):
    """It is not left out by ``skip_corrupt``, because its content may be as good as ever."""
    root = trees.image_folder(tmp_path)
    listing = ImageFolder().list_files(root)
    (root / "ann/0.jpg").unlink()
    (root / "ann/0.jpg").symlink_to(target)
    with pytest.raises(Unreadable, match=r"cannot read .*ann/0\.jpg: .*; restore it"):
        list(decode_all(listing, size=32))


def test_warnings_and_log_lines_of_pillow_reach_nobody(tmp_path, monkeypatch, caplog):
    real = Image.open

    def loud(*args, **options):
        warnings.warn("raw", UserWarning, stacklevel=1)
        logging.getLogger("PIL.TiffImagePlugin").error("raw")
        return real(*args, **options)

    monkeypatch.setattr(Image, "open", loud)
    listing = ImageFolder().list_files(trees.image_folder(tmp_path))
    assert all(isinstance(found, torch.Tensor) for _, found in decode_all(listing, size=32))
    assert not caplog.records
    with pytest.warns(UserWarning, match="still"):
        warnings.warn("still", UserWarning, stacklevel=1)


def mutate(content, draws):
    """Change some bytes, or cut or repeat a piece."""
    changed = bytearray(content)
    for _ in range(draws.randint(1, 8)):
        changed[draws.randrange(len(changed))] = draws.randrange(256)
    if draws.random() < 0.3:
        first, last = sorted(draws.choices(range(len(changed)), k=2))
        changed[first:last] = changed[first:last] * draws.choice([0, 2])
    return bytes(changed)


def written(kind, mode):
    out = io.BytesIO()
    several = {"save_all": True, "append_images": [blocks(seed=1)]} if kind == "GIF" else {}
    image = Image.fromarray(WIDE.astype(np.uint16)) if mode == "I;16" else blocks().convert(mode)
    image.save(out, kind, **several)
    return out.getvalue()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("number", [20, pytest.param(250, marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    ("kind", "mode"),
    [("PNG", "P"), ("PNG", "I;16"), ("JPEG", "RGB"), ("TIFF", "CMYK"), ("GIF", "P"),
     ("BMP", "RGB"), ("WEBP", "RGBA"), ("PPM", "L")],
)  # fmt: skip
def test_a_damaged_file_is_decoded_or_corrupt_and_nothing_else(tmp_path, kind, mode, number):
    content, draws = written(kind, mode), random.Random(7)
    for _ in range(number):
        (tmp_path / "x.png").write_bytes(mutate(content, draws))
        with contextlib.suppress(Corrupt):
            assert decode(tmp_path / "x.png", size=32).shape == (3, 32, 32)
