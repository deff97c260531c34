"""What importing ``analysis`` loads, and that its public names exist."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module

import pytest

HEAVY = ("mlflow", "statsmodels", "matplotlib", "pandas", "scipy", "jinja2", "numpy")
FORBIDDEN = ("ray", "torch", "atat_ray", "trials")


def loaded_after(statement: str) -> set[str]:
    code = f"{statement}\nimport sys\nprint(*{{m.partition('.')[0] for m in sys.modules}})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_importing_the_package_loads_nothing_heavy() -> None:
    assert not loaded_after("import analysis, analysis.inference") & {*HEAVY, *FORBIDDEN}


def test_reallocations_need_numpy_alone() -> None:
    found = loaded_after("from analysis.inference import smallest_p")
    assert not found & ({*HEAVY, *FORBIDDEN} - {"numpy"})


def test_importing_every_module_loads_neither_ray_nor_torch() -> None:
    found = loaded_after("import analysis.report.page, analysis.record.reader, analysis.__main__")
    assert not found & {*FORBIDDEN, "mlflow", "statsmodels"}


@pytest.mark.parametrize("package", ["inference", "regression", "planning"])
def test_public_names_are_documented_and_no_module_has_the_same_name(package: str) -> None:
    module = import_module(f"analysis.{package}")
    assert module.__all__ == sorted(module.__all__)
    for name in module.__all__:
        assert getattr(module, name).__doc__
        assert f"analysis.{package}.{name}" not in sys.modules
        assert name in dir(module)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="'analysis.inference' has no attribute 'differences'"):
        _ = import_module("analysis.inference").differences
