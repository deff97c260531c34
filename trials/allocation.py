"""Who gets which arm: drawn once from the protocol's seed, recorded, and checked by anyone.

Within each block the units are put in the order of HMAC-SHA256 digests, and the arms are dealt to
that order, ``units_per_arm`` to the first arm of the protocol, then to the second, and so on:

    key     = the protocol's seed in decimal, ASCII
    message = protocol SHA-256 in hex, block, unit id, joined by "|", UTF-8

That needs nothing but HMAC and a sort, so that another language can redo it.
"""

import csv
import hashlib
import hmac
import io
from dataclasses import dataclass

from analysis.schema import ALLOCATION_COLUMNS
from trials.protocol import Protocol


@dataclass(frozen=True, kw_only=True, slots=True)
class Assignment:
    """One row of the allocation table."""

    unit_id: str
    block: str
    arm: str


def unit_ids(protocol: Protocol, block: str) -> list[str]:
    """Name the units of a block: ``split-10-01`` and on; nothing in a name tells the arm."""
    count = protocol.units_per_arm * len(protocol.arms)
    width = max(2, len(str(count)))
    return [f"{block}-{index:0{width}d}" for index in range(1, count + 1)]


def draw(protocol: Protocol) -> list[Assignment]:
    """Draw the allocation of a protocol: every block balanced, units in the order of their ids."""
    key, protocol_hash = str(protocol.seed).encode(), protocol.sha256()
    table = []
    for block in protocol.blocks:

        def digest(unit_id: str, block: str = block) -> bytes:
            message = f"{protocol_hash}|{block}|{unit_id}".encode()
            return hmac.new(key, message, hashlib.sha256).digest()

        dealt = [arm for arm in protocol.arms for _ in range(protocol.units_per_arm)]
        order = sorted(unit_ids(protocol, block), key=digest)
        arms = dict(zip(order, dealt, strict=True))
        table += [
            Assignment(unit_id=unit_id, block=block, arm=arms[unit_id])
            for unit_id in unit_ids(protocol, block)
        ]
    return table


def to_csv(table: list[Assignment]) -> str:
    """Write the allocation as the CSV that is hashed and recorded."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(ALLOCATION_COLUMNS)
    writer.writerows([row.unit_id, row.block, row.arm] for row in table)
    return buffer.getvalue()


def from_csv(text: str) -> list[Assignment]:
    """Read an allocation back.

    Raises:
        ValueError: the columns are not those of an allocation.
    """
    rows = csv.DictReader(io.StringIO(text))
    if tuple(rows.fieldnames or ()) != ALLOCATION_COLUMNS:
        raise ValueError(
            f"an allocation has the columns {', '.join(ALLOCATION_COLUMNS)}, got {rows.fieldnames}"
        )
    return [Assignment(**row) for row in rows]


def sha256(table: list[Assignment]) -> str:
    """Hash an allocation: SHA-256 of its CSV."""
    return hashlib.sha256(to_csv(table).encode()).hexdigest()


def differences(recorded: list[Assignment], drawn: list[Assignment]) -> list[str]:
    """Say in words where a recorded allocation is not the one that the protocol draws."""
    mine = {row.unit_id: row for row in recorded}
    words = []
    if len(mine) != len(recorded):
        words.append("a unit stands twice in the recorded allocation")
    for row in drawn:
        other = mine.pop(row.unit_id, None)
        if other is None:
            words.append(f"unit {row.unit_id} is missing")
        elif other != row:
            words.append(
                f"unit {row.unit_id}: recorded {other.arm} in {other.block}, "
                f"drawn {row.arm} in {row.block}"
            )
    words += [f"unit {unit_id} is recorded and was never drawn" for unit_id in mine]
    return words
