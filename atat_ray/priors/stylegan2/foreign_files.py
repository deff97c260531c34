"""Say what a file is that holds no StyleGAN2 generator of a known format, and what to do."""

import mmap
from collections.abc import Iterable
from pathlib import Path

from atat_ray.utils.terminal import printable

HEAD = 1024  # bytes that tell the format of a file
WHERE = "docs/priors.md says which files can be converted"
AGAIN = "download the file itself again, in a browser if the page asks for a confirmation"
NVIDIA = "download stylegan2-ffhq-1024x1024.pkl or another stylegan2 file of NVIDIA's release"
COMPRESSED = "a compressed file or an archive; unpack it (gunzip, unxz, tar -x) first"
PRINTABLE = {*b"\t\r\n", *range(32, 127)}
SAVED = "write the state dict of its generator with safetensors.torch.save_file and convert that"
# What a file begins with, and what it is then.
BEGINNINGS: tuple[tuple[bytes, str], ...] = (
    (b"version https://git-lfs", "a git-lfs pointer, not the file itself; run `git lfs pull`"),
    (b"<", f"a web page or an error message of a server; {AGAIN}"),
    (b'{"', f"a JSON text, such as an error message of a server; {AGAIN}"),
    (b"PK\x03\x04", f"a ZIP archive or a file of torch.save; unpack the archive, or {SAVED}"),
    (b"\x1f\x8b", COMPRESSED),
    (b"BZh", COMPRESSED),
    (b"\xfd7zXZ", COMPRESSED),
    (b"\x28\xb5\x2f\xfd", COMPRESSED),
    (b"7z\xbc\xaf\x27\x1c", COMPRESSED),
    (b"Rar!", COMPRESSED),
    (b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19", f"a file of torch.save; {SAVED}"),
    (b"\x89HDF", f"an HDF5 file; {WHERE}"),
    (b"\x93NUMPY", f"an array of NumPy; {WHERE}"),
    (b"\x89PNG", f"an image; {WHERE}"),
    (b"\xff\xd8\xff", f"an image; {WHERE}"),
)
# What a pickle holds somewhere, and what it is then.
CONTENTS: tuple[tuple[bytes, str], ...] = (
    (
        b"dnnlib.tflib",
        "a TensorFlow pickle of StyleGAN or StyleGAN2; convert it with `python legacy.py "
        "--source=FILE --dest=NEW.pkl` of NVIDIA's stylegan2-ada-pytorch, then convert NEW.pkl",
    ),
    (
        b"tfutil",
        f"a TensorFlow pickle of an older GAN, which is no StyleGAN2; {NVIDIA}",
    ),
    (
        b"SynthesisInput",
        f"a StyleGAN3 generator; this reader implements StyleGAN2 only; {NVIDIA}",
    ),
    (
        b"DataParallel",
        "a network inside a wrapper for several devices (DataParallel); save the network inside "
        "(G_ema.module) and convert that",
    ),
)


def describe_head(path: Path) -> str:
    """Say what a file is whose first bytes belong to no file of a generator; empty if unknown."""
    with path.open("rb") as file:
        head = file.read(HEAD)
    if is_safetensors(head, path.stat().st_size):
        return ""
    if head[257:262] == b"ustar":
        return COMPRESSED
    starts = (head, head.lstrip(b"\xef\xbb\xbf \t\r\n"))  # a page may begin with a blank line
    return next((what for beginning, what in BEGINNINGS if any(
        start.startswith(beginning) for start in starts)), "")  # fmt: skip


def is_safetensors(head: bytes, size: int) -> bool:
    """Tell whether a file begins as safetensors do: the length of a JSON object, which fits."""
    return head[8:9] == b"{" and int.from_bytes(head[:8], "little") <= size


def describe_pickle(path: Path) -> str:
    """Say what a pickle is that was refused, by what it holds; empty if unknown."""
    if not path.stat().st_size:
        return ""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        head = content[:HEAD]
        if is_safetensors(head, len(content)):
            return "a safetensors file; give it the suffix .safetensors"
        if b" " in head and all(byte in PRINTABLE for byte in head):
            return f"a text file; {AGAIN}"
        return next((what for name, what in CONTENTS if content.find(name) >= 0), "")


def describe_names(names: Iterable[str]) -> str:
    """Say which generator has tensors of these names, none of which is StyleGAN2's; else empty."""
    known = set(names)
    for name in known:
        prefix, found, _ = name.partition("mapping.fc0.weight")
        if found and prefix:
            shown = printable(repr(prefix))
            return f"its names begin with {shown}, as a wrapper saves them; remove this prefix"
    if any(name.startswith("synthesis.input.") for name in known):
        return f"this is a StyleGAN3 generator; {NVIDIA}"
    if any(name.startswith(("style.1.", "g_ema.style.1.")) for name in known):
        return f"this is a generator of another PyTorch version of StyleGAN2; {NVIDIA}"
    return ""
