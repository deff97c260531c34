"""Read the opcodes of a pickle within bounds of work and memory."""

import io
import pickletools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, Any, BinaryIO, cast

# NVIDIA's pickle of a network of FFHQ's size has about 25,000 opcodes. Each takes about ten
# microseconds and at most 300 bytes, so that this many end within seconds and 60 MB.
MAX_OPCODES = 200_000


class RefusedPickle(ValueError):
    """The pickle uses an opcode or name that is not allowed, or it is incomplete."""


@dataclass(frozen=True, slots=True)
class Whole:
    """File whose reads are cut at its end before memory is reserved for them.

    Attributes:
        file: binary file.
        end: its size in bytes.
    """

    file: BinaryIO
    end: int

    def read(self, count: int) -> bytes:
        """Read at most ``count`` bytes; a pickle may ask for any number."""
        return self.file.read(min(count, self.end - self.file.tell()))

    def readline(self) -> bytes:
        """Read one line."""
        return self.file.readline()

    def tell(self) -> int:
        """Return the position in bytes."""
        return self.file.tell()


def bytes_left(file: BinaryIO) -> int:
    """Count the bytes from the position of a seekable file to its end."""
    start, end = file.tell(), file.seek(0, io.SEEK_END)
    file.seek(start)
    return end - start


def read_opcodes(file: BinaryIO, what: str) -> Iterator[tuple[str, Any]]:
    """Read the opcodes of one pickle and their arguments.

    Args:
        file: binary file, in which one can seek.
        what: noun for the content, for messages: "a generator".

    Raises:
        RefusedPickle: the file ends before the pickle does, or the pickle has too many opcodes.
        ValueError: bytes that are no opcode.
    """
    end = file.tell() + bytes_left(file)
    whole = cast(IO[bytes], Whole(file, end))  # has the three methods that are called
    try:
        for number, (opcode, argument, _) in enumerate(pickletools.genops(whole)):
            if number == MAX_OPCODES:
                raise RefusedPickle(
                    f"the file has more than {MAX_OPCODES:,} pickle opcodes; {what} has fewer"
                )
            yield opcode.name, argument
    except RefusedPickle:
        raise
    except ValueError:
        if file.tell() < end:
            raise
        raise RefusedPickle(
            f"not a whole pickle of {what}: it ends too early, as after a download that was cut; "
            "copy or download it again and compare its size"
        ) from None
