"""What importing ``analysis`` costs and what it must never pull in."""

from __future__ import annotations

import subprocess
import sys

HEAVY = ("mlflow", "statsmodels", "matplotlib", "pandas", "scipy", "jinja2")
FORBIDDEN = ("ray", "torch", "atat_ray", "trials")


def loaded_after(statement: str) -> set[str]:
    code = f"{statement}\nimport sys\nprint(*{{m.partition('.')[0] for m in sys.modules}})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_importing_the_package_loads_nothing_heavy() -> None:
    assert not loaded_after("import analysis") & {*HEAVY, *FORBIDDEN}


def test_importing_every_module_loads_neither_ray_nor_torch() -> None:
    found = loaded_after("import analysis.report, analysis.secondary.registry, analysis.__main__")
    assert not found & {*FORBIDDEN, "mlflow", "statsmodels", "matplotlib", "jinja2"}
