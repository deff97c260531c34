"""Random allocation of units to arms, which anyone can recompute.

The allocation is drawn once and its hash is recorded before the first unit. ``docs/allocation.md``
specifies the algorithm for other languages, with a test vector. Within each stratum (a block or,
with ``design: pairs``, a matched set) the units are sorted by their HMAC-SHA256 digests, and the
arms, sorted by name, are assigned to them in that order.

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
        stratum: block or matched set within which arms were assigned; CSV column ``block``.
        arm: of the unit.
    """

    unit_id: str
    stratum: str
    arm: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Stratum:
    """Units within which arms are assigned at random.

    Attributes:
        name: of the stratum.
        block: of the protocol; its units share people, evaluation models and priors.
        unit_ids: of its units; a name does not reveal the arm.
        arms: to assign, one for each unit, sorted by name.
        seed_name: name from which the seeds of all its units derive; empty if each unit has its
            own seeds.
    """

    name: str
    block: str
    unit_ids: tuple[str, ...]
    arms: tuple[str, ...]
    seed_name: str = ""


def strata(protocol: Protocol) -> list[Stratum]:
    """List the strata of a protocol: its blocks, or the matched sets in its blocks."""
    arms = sorted(protocol.arms)  # the JSON of the record does not keep the order of the file
    units = tuple(arm for arm in arms for _ in range(protocol.units_of(arm)))
    groups = []
    for block in sorted(protocol.blocks):
        if protocol.design == "blocked":
            groups.append(
                Stratum(name=block, block=block, unit_ids=numbered(block, len(units)), arms=units)
            )
            continue
        num_sets = len(units) // len(arms)
        groups += [
            Stratum(
                name=name,
                block=block,
                unit_ids=numbered(name, len(arms)),
                arms=tuple(arms),
                seed_name=name,
            )
            for name in numbered(f"{block}-set", num_sets)
        ]
    return groups


def numbered(prefix: str, count: int) -> tuple[str, ...]:
    """Number names from 1, all with the digits of the last number, at least two.

    >>> numbered("split-0", 3)
    ('split-0-01', 'split-0-02', 'split-0-03')
    """
    width = max(2, len(str(count)))
    return tuple(f"{prefix}-{index:0{width}d}" for index in range(1, count + 1))


def draw(protocol: Protocol, nonce: str) -> list[Assignment]:
    """Draw the allocation of a protocol: all strata, each in the order of its unit ids."""
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
        ValueError: the columns are not those of an allocation, or a row is incomplete.
    """
    rows = csv.DictReader(io.StringIO(text))
    try:
        columns, table = tuple(rows.fieldnames or ()), list(rows)
    except csv.Error as error:
        raise ValueError(f"an allocation must be CSV: {error}") from error
    if columns != ALLOCATION_COLUMNS:
        raise ValueError(
            f"an allocation has the columns {', '.join(ALLOCATION_COLUMNS)}, got "
            f"{str(columns)[:100]}"
        )
    broken = [row for row in table if None in row or None in row.values()]
    if broken:
        raise ValueError(f"a row of an allocation must have 3 fields, got {str(broken[0])[:100]}")
    return [
        Assignment(unit_id=row["unit_id"], stratum=row["block"], arm=row["arm"]) for row in table
    ]


def sha256(text: str) -> str:
    """Hash the CSV of an allocation, or a nonce, in UTF-8."""
    return hashlib.sha256(text.encode()).hexdigest()


def differences(recorded: list[Assignment], drawn: list[Assignment]) -> list[str]:
    """List where a recorded allocation differs from the drawn one, one line each."""
    rows = {row.unit_id: row for row in recorded}
    counts = Counter(row.unit_id for row in recorded)
    lines = [
        f"unit {unit_id} is recorded {count} times"
        for unit_id, count in counts.items()
        if count > 1
    ]
    for row in drawn:
        other = rows.pop(row.unit_id, None)
        if other is None:
            lines.append(f"unit {row.unit_id} is missing")
        elif other != row:
            lines.append(
                f"unit {row.unit_id}: recorded {other.arm} in {other.stratum}, "
                f"drawn {row.arm} in {row.stratum}"
            )
    lines += [f"unit {unit_id} is recorded but was not drawn" for unit_id in rows]
    return lines
