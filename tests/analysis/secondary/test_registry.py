"""Every section of the registry has the name of its module and a place on the page."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from analysis import secondary
from analysis.secondary.interface import Section
from analysis.secondary.registry import SECTIONS, all_sections, find_section

HELPERS = {"__init__", "interface", "registry", "context", "class_counts"}


def test_every_module_that_is_no_helper_is_registered_once_under_its_name() -> None:
    folder = Path(secondary.__file__).parent
    modules = {path.stem for path in folder.glob("*.py")} - HELPERS
    assert modules == set(SECTIONS)
    assert len(SECTIONS) == len(modules)
    assert [section.name for section in all_sections()] == list(SECTIONS)


def test_tables_have_different_file_names() -> None:
    names = [s.table_name or s.name for s in all_sections() if s.table is not None]
    assert len(names) == len(set(names))


def test_an_unknown_section_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match="unknown section 'dunnet'; known: .*dunnett"):
        find_section("dunnet")


def test_a_section_without_a_place_on_the_page_is_refused() -> None:
    def estimate(context: Any) -> None:
        return None

    with pytest.raises(
        ValueError, match="no place 'appendix' for the section 'toy'; places: claims, flow"
    ):
        Section(name="toy", place="appendix", estimate=estimate)
