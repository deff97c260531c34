"""Which package may import which: the table of CONTRIBUTING.md, late imports included."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# A package may always import itself. Names are relative to the top-level package.
ATAT_RAY = {
    "utils": "",
    "dependence": "",
    "data": "utils",
    "models": "data utils",
    "robustness": "data models utils",
    "training": "data models utils",
    "defenses": "training robustness dependence models data utils",
    "metrics": "training data",
    "priors": "data utils",
    "inversion": "priors data utils",
    "evaluation": "training metrics models data utils",
    "unit": "evaluation inversion priors metrics defenses training robustness dependence models "
    "data utils",
}
ANALYSIS = {
    "schema": "",
    "record": "schema",
    "inference": "schema",
    "regression": "inference schema",
    "claims": "regression inference formatting schema",
    "planning": "claims inference schema",
    "pipeline": "record inference regression schema",
    "formatting": "schema",
    "secondary": "claims pipeline record regression inference formatting schema",
    "report": "secondary claims pipeline record inference formatting schema",
    "__main__": "report",
}
TRIALS = {
    "config": "",
    "allocation": "config",
    "tracking": "config allocation",
    "campaign": "config allocation tracking",
    "execution": "config allocation tracking campaign",
    "search": "config allocation tracking campaign execution",
    "planning": "config allocation campaign execution",
    "cli": "config allocation tracking campaign execution search planning",
}
ALLOWED = {"atat_ray": ATAT_RAY, "analysis": ANALYSIS, "trials": TRIALS}

# What modules of ``trials`` use of ``analysis``, beside its schema.
OF_ANALYSIS = {
    "campaign/layout.py": {"record"},
    "campaign/verify.py": {"record", "secondary"},
    "cli/commands.py": {"record", "report"},
    "cli/doctor.py": {"record"},
    "cli/summary.py": {"report"},
    "config/protocol.py": {"inference"},
    "execution/recorder.py": {"record"},
    "planning/claim_lines.py": {"planning"},
    "planning/plan.py": {"inference", "planning"},
    "tracking/record.py": {"record"},
}
# Who alone imports a library.
ALONE = {
    "ray": {
        "atat_ray/unit/distributed.py",
        "trials/execution/ray_cluster.py",
        "trials/execution/run.py",
        "trials/execution/tune.py",
        "trials/search/asha.py",
        "trials/search/sweep.py",
    },
    "pyautoattack": {"atat_ray/robustness/autoattack.py"},
    "mlflow": {
        "analysis/record/address.py",
        "analysis/record/reader.py",
        "analysis/record/store.py",
        "trials/cli/doctor.py",
        "trials/tracking/outcome_tables.py",
        "trials/tracking/record.py",
    },
    "optuna": {"trials/search/proposals.py"},
}
WINGS = {"atat_ray": set(), "analysis": set(), "trials": {"atat_ray", "analysis"}}

MODULES = [path for wing in ALLOWED for path in sorted((ROOT / wing).rglob("*.py"))]


def imports(path: Path) -> set[tuple[str, ...]]:
    """List what a module imports at any depth, as (package, subpackage)."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} has a relative import"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return {tuple(name.split(".")[:2]) for name in found}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_module_imports_only_what_its_package_may(path):
    name = path.relative_to(ROOT).as_posix()
    wing, own = path.relative_to(ROOT).parts[:2]
    own = own.removesuffix(".py")
    for top, *rest in imports(path):
        if top in ALONE:
            assert name in ALONE[top], f"{name} imports {top}"
        if top not in ALLOWED:
            continue
        assert top == wing or top in WINGS[wing], f"{name} imports {top}"
        part = rest[0] if rest else ""
        if top == wing and own != "__init__":
            allowed = {own, *ALLOWED[wing][own].split()}
            assert part in allowed, f"{name} imports {top}.{part}"
        elif top == "analysis":
            allowed = {"schema"} | OF_ANALYSIS.get(path.relative_to(ROOT / wing).as_posix(), set())
            assert part in allowed, f"{name} imports {top}.{part}"


def test_every_package_has_its_row():
    for wing, rows in ALLOWED.items():
        parts = {path.stem for path in (ROOT / wing).iterdir() if path.suffix in ("", ".py")}
        there = {part for part in parts if not part.startswith(("__init__", "__pycache__", "."))}
        assert there - {"protocols", "sweeps"} == set(rows), wing
