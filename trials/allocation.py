"""Who gets which arm: drawn once, committed before the first unit, recomputed by anyone.

``docs/allocation.md`` writes the algorithm down for other languages, with a test vector. In short:
within each stratum (a block or, with ``design: pairs``, a matched set) the units are put in the
order of HMAC-SHA256 digests, and the arms, sorted by name, are dealt to that order.

    key     = the nonce, ASCII: the protocol's seed in decimal, or 64 secret hex digits
    message = protocol SHA-256 in hex, stratum, unit id, joined by "|", UTF-8
"""

import csv
import hashlib
import hmac
import io
from collections import Counter
from dataclasses import dataclass

from analysis.schema.names import ALLOCATION_COLUMNS
from trials.config.protocol import Protocol


@dataclass(frozen=True, kw_only=True, slots=True)
class Assignment:
    """One row of the allocation table.

    Attributes:
        unit_id: of the unit.
        stratum: within which arms were assigned at random: a block, or a matched set of it. The
            CSV column is called ``block``.
        arm: of the unit.
    """

    unit_id: str
    stratum: str
    arm: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Stratum:
    """Units among which the lot falls.

    Attributes:
        name: of the stratum.
        block: of the protocol, whose people, evaluation models and priors they share.
        unit_ids: nothing in a name tells the arm.
        arms: what is dealt, as many as there are units.
        seed_name: what the units' seeds are derived from; empty where each has its own.
    """

    name: str
    block: str
    unit_ids: tuple[str, ...]
    arms: tuple[str, ...]
    seed_name: str = ""


def strata(protocol: Protocol) -> list[Stratum]:
    """List the strata of a protocol: its blocks, or the matched sets in them."""
    arms = sorted(protocol.arms)  # the record's JSON keeps no order, so none is read from it
    dealt = tuple(arm for arm in arms for _ in range(protocol.units_of(arm)))
    found = []
    for block in sorted(protocol.blocks):
        if protocol.design == "blocked":
            found.append(
                Stratum(name=block, block=block, unit_ids=numbered(block, len(dealt)), arms=dealt)
            )
            continue
        count = len(dealt) // len(arms)
        found += [
            Stratum(
                name=name,
                block=block,
                unit_ids=numbered(name, len(arms)),
                arms=tuple(arms),
                seed_name=name,
            )
            for name in numbered(f"{block}-set", count)
        ]
    return found


def numbered(prefix: str, count: int) -> tuple[str, ...]:
    """Number names from 1, with as many digits as the last one has, at least two."""
    width = max(2, len(str(count)))
    return tuple(f"{prefix}-{index:0{width}d}" for index in range(1, count + 1))


def draw(protocol: Protocol, nonce: str) -> list[Assignment]:
    """Draw the allocation of a protocol: every stratum as dealt, in the order of the units' ids."""
    key, protocol_hash = nonce.encode(), protocol.sha256()
    table = []
    for stratum in strata(protocol):

        def digest(unit_id: str, stratum: Stratum = stratum) -> bytes:
            message = f"{protocol_hash}|{stratum.name}|{unit_id}".encode()
            return hmac.new(key, message, hashlib.sha256).digest()

        order = sorted(stratum.unit_ids, key=digest)
        arms = dict(zip(order, stratum.arms, strict=True))
        table += [
            Assignment(unit_id=unit_id, stratum=stratum.name, arm=arms[unit_id])
            for unit_id in stratum.unit_ids
        ]
    return table


def to_csv(table: list[Assignment]) -> str:
    """Write the allocation as the CSV that is hashed and recorded."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(ALLOCATION_COLUMNS)
    writer.writerows([row.unit_id, row.stratum, row.arm] for row in table)
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
    table = list(rows)
    broken = [row for row in table if None in row or None in row.values()]
    if broken:
        raise ValueError(f"a row of an allocation has three fields, got {broken[0]}")
    return [
        Assignment(unit_id=row["unit_id"], stratum=row["block"], arm=row["arm"]) for row in table
    ]


def sha256(text: str) -> str:
    """Hash what is committed: the CSV of an allocation, or its nonce."""
    return hashlib.sha256(text.encode()).hexdigest()


def differences(recorded: list[Assignment], drawn: list[Assignment]) -> list[str]:
    """Say in words where a recorded allocation is not the one that the protocol draws."""
    mine = {row.unit_id: row for row in recorded}
    count = Counter(row.unit_id for row in recorded)
    words = [
        f"unit {unit_id} stands {'twice' if n == 2 else f'{n} times'}"
        for unit_id, n in count.items()
        if n > 1
    ]
    for row in drawn:
        other = mine.pop(row.unit_id, None)
        if other is None:
            words.append(f"unit {row.unit_id} is missing")
        elif other != row:
            words.append(
                f"unit {row.unit_id}: recorded {other.arm} in {other.stratum}, "
                f"drawn {row.arm} in {row.stratum}"
            )
    words += [f"unit {unit_id} is recorded and was never drawn" for unit_id in mine]
    return words
