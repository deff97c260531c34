"""Secondary analyses by name, in the order of the report; a line here adds one."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from analysis.secondary.interface import Section

SECTIONS = (
    "claims",
    "sensitivity",
    "beta_regression",
    "dunnett",
    "dose_response",
    "max_t",
    "attrition",
    "integrity",
    "leakage_model",
    "families",
    "costs",
    "instruments",
    "bounds",
    "margins",
    "matched_accuracy",
    "class_heterogeneity",
    "looks",
)


def find_section(name: str) -> Section[Any]:
    """Import the section ``name`` from the module of that name in this package.

    Raises:
        ValueError: there is no such section.
    """
    if name not in SECTIONS:
        raise ValueError(f"unknown section {name!r}; known: {', '.join(SECTIONS)}")
    return import_module(f"analysis.secondary.{name}").SECTION


def all_sections() -> list[Section[Any]]:
    """Import every section, in the order of the report."""
    return [find_section(name) for name in SECTIONS]
