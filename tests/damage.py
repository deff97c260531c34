"""Ways in which a disk, a copy or a hand alters a file."""

PAGE = 4096


def flip_a_bit(path, draws):
    """Flip one random bit."""
    content = bytearray(path.read_bytes())
    content[draws.randrange(len(content))] ^= 1 << draws.randrange(8)
    path.write_bytes(content)


def zero_a_page(path, draws):
    """Fill one random page with zeros, which held something else."""
    content = bytearray(path.read_bytes())
    begins = [at for at in range(0, len(content), PAGE) if any(content[at : at + PAGE])]
    at = draws.choice(begins)
    content[at : at + PAGE] = bytes(len(content[at : at + PAGE]))
    path.write_bytes(content)


def cut(path, draws):
    """Cut a file at a random place."""
    content = path.read_bytes()
    path.write_bytes(content[: draws.randrange(len(content))])


def delete(path, draws):
    """Delete a file."""
    path.unlink()


WAYS = {
    "a bit flipped": flip_a_bit,
    "a page zeroed": zero_a_page,
    "cut": cut,
    "deleted": delete,
}
