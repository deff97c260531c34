"""docs/reliability.md names tests that exist."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
NAMED = re.compile(r"`(tests/[\w/]+\.py)(?:::(test_\w+))?`")


def test_every_fault_has_a_test_that_exists():
    lines = (ROOT / "docs" / "reliability.md").read_text().splitlines()
    rows = [line for line in lines if line.startswith("| ") and not line.startswith("| fault")]
    assert len(rows) > 150
    for row in rows:
        found = NAMED.findall(row)
        assert found, row
        for path, name in found:
            source = (ROOT / path).read_text()
            assert not name or f"def {name}(" in source, f"{path} has no {name}"
