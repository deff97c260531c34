"""Every example in a docstring runs."""

import doctest
import importlib
import pkgutil

import pytest

import analysis
import atat_ray
import trials

MODULES = [
    module.name
    for package in (atat_ray, analysis, trials)
    for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")
    if not module.name.endswith("__main__")
]
WITH_EXAMPLES = [
    name
    for name in ["atat_ray", "analysis", "trials", *MODULES]
    if ">>>" in (importlib.util.find_spec(name).loader.get_source(name) or "")
]


@pytest.mark.parametrize("name", WITH_EXAMPLES)
def test_examples_run(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = doctest.testmod(importlib.import_module(name))
    assert found.attempted
    assert not found.failed
