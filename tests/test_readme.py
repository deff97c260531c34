"""The examples in the README run, on fewer people and epochs than there."""

import contextlib
import io
import re
from pathlib import Path

import pytest

README = (Path(__file__).parents[1] / "README.md").read_text()

# Smaller settings, so that the example of the library takes seconds.
SMALLER = {
    "num_private=24": "num_private=6",
    "num_classes=24": "num_classes=6",
    "size=64": "size=32",
    "epochs=40, batch_size=56": "epochs=6, batch_size=14",
}


def example(name):
    """Return the code block after a mark."""
    return re.search(rf"<!-- tested: {name} -->\n```python\n(.*?)```", README, re.DOTALL)[1]


def output_of(code):
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        exec(compile(code, "README.md", "exec"), {})
    return said.getvalue()


def test_the_example_of_the_library_runs():
    code = example("library")
    for given, smaller in SMALLER.items():
        assert given in code
        code = code.replace(given, smaller)
    clean_acc, att_acc = map(float, output_of(code).split())
    assert 0 <= clean_acc <= 1
    assert 0 <= att_acc <= 1


def test_the_example_of_the_library_is_about_ten_lines():
    statements = [line for line in example("library").splitlines() if re.match(r"\w", line)]
    assert len([line for line in statements if not line.startswith("from")]) <= 12


@pytest.mark.slow
def test_the_example_of_the_library_runs_as_it_stands():
    clean_acc, att_acc = map(float, output_of(example("library")).split())
    assert clean_acc > 0.7
    assert att_acc > 1 / 24


def test_the_example_of_the_analysis_runs():
    assert "-34 pp (95% interval" in output_of(example("analysis"))
