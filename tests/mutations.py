"""Random mutations of files: of their bytes, of the values of a JSON text, and of a database."""

import contextlib
import json
import sqlite3

# Values at which readers of numbers, lengths and structures fail, as bytes and as text.
BYTES = [
    bytes(1), b"\xff" * 4, b"\xff" * 8, b"\x7f" + b"\xff" * 3, b")" * 50, b"(" * 50, b"R", b"\x85R",
    b"\x93", b"b", b"\x1b[2J\n",
]  # fmt: skip
WORDS = [
    "1e400", "-1", "0", "99999999999999999999", "0x" + "f" * 500, "[]", "{}", "null", ".nan",
    "[" * 60, "&a [*a]", "*a", "<<: {a: 1}", "!!binary aGk=", "2026-01-01", "\x1b[2J", "\u202e",
    "- - - -", "? [a]", "{a: &b [1], c: *b}", "yes", "1:59:59", "'",
]  # fmt: skip
VALUES = [None, True, -1, 0, 2**70, 1e308, float("nan"), [], {}, [[]], "", "\x1b[2J", "x" * 5000]


def mutate_bytes(content, draw):
    """Change bytes at one place: replace, insert, remove, repeat or cut."""
    start = draw.randrange(max(len(content), 1))
    return replaced(content, start, draw)


def replaced(content, start, draw):
    """Change bytes at a place."""
    end = min(len(content), start + draw.choice([0, 1, 1, 2, 8, 100]))
    piece = draw.choice([
        draw.randbytes(draw.choice([1, 4, 30])), draw.choice(BYTES), content[start:end] * 20, b"",
    ])  # fmt: skip
    if draw.random() < 0.05:
        return content[:start]
    return content[:start] + piece + content[end:]


def mutate_json(content, draw):
    """Change a JSON text: remove, replace or copy one value, at any depth."""
    whole = [json.loads(content)]
    places = [(whole, 0)]
    for holder, key in places:  # grows while it is read
        inner = holder[key]
        keys = inner if isinstance(inner, dict) else range(len(inner) if type(inner) is list else 0)
        places += [(inner, key) for key in keys]
    (holder, key), (giver, name) = draw.choice(places), draw.choice(places)
    if draw.random() < 0.3 and holder is not whole:
        del holder[key]
    else:
        holder[key] = draw.choice([*VALUES, json.loads(json.dumps(giver[name]))])
    return json.dumps(whole[0]).encode()


def mutate_rows(path, draw):
    """Change cells of a database, or remove a row; sqlite itself finds no damage."""
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_master "
                  "WHERE type = 'table' AND name IN ('experiments', 'runs', 'tags', 'metrics', "
                  "'latest_metrics', 'params', 'alembic_version', 'experiment_tags')")]  # fmt: skip
        for _ in range(draw.choice([1, 1, 3])):
            table = draw.choice(tables)
            rows = [row for (row,) in connection.execute(f"SELECT rowid FROM {table}")]
            if not rows:
                continue
            columns = [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]
            row, column = draw.choice(rows), draw.choice(columns)
            with contextlib.suppress(sqlite3.IntegrityError):  # the table allows no such value
                if draw.random() < 0.1:
                    connection.execute(f"DELETE FROM {table} WHERE rowid = ?", (row,))
                    continue
                value = draw.choice([*WORDS, None, -1, 1e308, 2**62, b"\xff\xfe", "x" * 5000])
                connection.execute(f"UPDATE {table} SET {column} = ? WHERE rowid = ?", (value, row))
