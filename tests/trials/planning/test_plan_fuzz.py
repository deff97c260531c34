"""``atat plan`` on 200 damaged protocols: a plan, or one line with exit code 2; no file written."""

import io
from collections import Counter
from contextlib import redirect_stderr, redirect_stdout
from copy import deepcopy

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from trials.cli import program as cli
from trials.config import load as reading

EXAMPLES = 200
SHIPPED = yaml.safe_load((reading.SHIPPED / "orl-rct.yaml").read_text())

# Values that people and broken programs write by mistake.
ODD = [
    None, True, False, "", " ", "none", "1", "treatment", "a|b", "a\nb", "\u00e9\u4e16\U0001f600",
    "\x7f", "../x", 200 * "x", -1, 0, 1, 2, 3, 0.5, 1e-300, 1e300, float("inf"), float("nan"),
    2**31, 2**63, 10**30, 10**4000, [], [[]], [0], {}, {"levels": [1, 2]}, {"levels": []},
    {"defense": "none"}, {"name": "orl_faces"}, {None: None}, {1: 2}, b"\xff",
]  # fmt: skip
KINDS = ["close", "close", "close", "odd", "number", "gone", "renamed", "more", "moved"]


def places(value, path=()):
    """Generate the path of every key and item inside a value."""
    if isinstance(value, dict | list):
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield (*path, key)
            yield from places(inner, (*path, key))


def leaf(value):
    """Tell whether a value is a number or a text."""
    return isinstance(value, int | float | str)


def damage(draw, content):
    """Damage one entry of a protocol: change, remove, rename, move or add it."""
    path = draw(st.sampled_from(sorted(places(content), key=str)))
    around = content
    for key in path[:-1]:
        around = around[key]
    key = path[-1]
    kind = draw(st.sampled_from(KINDS))
    if kind == "odd":
        around[key] = draw(st.sampled_from(ODD))
    elif kind == "close":
        around[key] = around[key] * draw(st.sampled_from([2, 3])) if leaf(around[key]) else None
    elif kind == "number":
        around[key] = draw(st.one_of(st.integers(), st.floats()))
    elif kind == "gone":
        del around[key]
    elif kind == "moved":
        content[draw(st.sampled_from([*map(str, content), "elsewhere"]))] = around.pop(key)
    elif isinstance(around, list):
        around.insert(key, draw(st.sampled_from(ODD)))
    elif kind == "renamed":
        around[draw(st.sampled_from([f"{key}s", str(key)[1:], 7, None, ""]))] = around.pop(key)
    else:
        around[draw(st.text(max_size=5))] = draw(st.sampled_from(ODD))


@st.composite
def damaged(draw, contents):
    """Draw the bytes of a protocol file with one to three damaged entries."""
    content = deepcopy(draw(st.sampled_from(contents)))
    for _ in range(draw(st.sampled_from([1, 1, 2, 3]))):
        if content:
            damage(draw, content)
    text = yaml.safe_dump(content, sort_keys=False, allow_unicode=draw(st.booleans())).encode()
    if draw(st.integers(0, 9)):
        return text
    start = draw(st.integers(0, len(text)))
    end = draw(st.sampled_from([start, start + 1, start + 40, len(text)]))
    pieces = [b"", b"\t", b"\x00", b"\xff", b": ", b"- ", b"&a *a ", b"!!python/name:os.system ",
              b"\n---\n", b"[", b"'", b"\n? \n", b"<<: 1\n", b"0x", b"2026-99-99 "]  # fmt: skip
    return text[:start] + draw(st.sampled_from(pieces)) + text[end:]


def plan(path):
    """Run ``atat plan``; return exit code, stdout and stderr."""
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        code = cli.main(["plan", str(path), "--trials", "10"])  # few trials: power is not tested
    return code, out.getvalue(), err.getvalue()


def files(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def judge(code, out, err):
    """Check that a command printed a plan or an error of one line."""
    if code == 0:
        assert err == ""
        assert " units in " in out
        return
    assert code == 2
    assert out == ""
    assert err.startswith("atat: ")
    assert err.endswith("\n")
    assert err.count("\n") == 1


def test_a_damaged_protocol_gives_a_plan_or_an_error_of_one_line(content, tmp_path):
    seen = Counter()
    path = tmp_path / "damaged.yaml"

    @settings(
        max_examples=EXAMPLES,
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow],
    )
    @given(damaged([content, SHIPPED]))
    def check(text):
        path.write_bytes(text)
        result = plan(path)
        judge(*result)
        seen[result[0]] += 1
        assert files(tmp_path) == {path: text}

    check()
    assert sum(seen.values()) >= EXAMPLES
    assert min(seen[0], seen[2]) > EXAMPLES / 20  # both exit codes occurred


def test_a_split_too_large_for_a_seed_is_refused(content, tmp_path):
    content["blocks"]["split-1"]["split"] = 2**63
    path = tmp_path / "damaged.yaml"
    path.write_text(yaml.safe_dump(content))
    code, _, err = plan(path)
    assert code == 2
    assert "blocks.split-1.split" in err
    assert str(2**63) in err


@pytest.mark.parametrize("number", ["1" + 30 * "0", "1" + 5000 * "0", "-1" + 30 * "0", "1e30"])
@pytest.mark.parametrize(
    "place",
    ["seed", "units_per_arm", "retries", "workers", "alpha", "blocks.split-0.split",
     "training.epochs", "training.learning_rate", "data.num_private", "data.size",
     "evaluation.ensemble", "inversions.standard.ppa.samples", "robustness.epsilons"],
)  # fmt: skip
def test_an_enormous_number_gives_a_plan_or_an_error_of_one_line(content, tmp_path, place, number):
    *outer, key = place.split(".")
    around = content
    for name in outer:
        around = around[name]
    around[key] = "HERE"
    path = tmp_path / "damaged.yaml"
    path.write_text(yaml.safe_dump(content).replace("HERE", number))
    judge(*plan(path))
