"""Secondary sections as the page prints them: heading, sentences, table and note."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby
from typing import Any

from analysis.formatting.table import Table
from analysis.pipeline.primary import Results
from analysis.secondary.context import SecondaryResults
from analysis.secondary.interface import PLACES, Section
from analysis.secondary.registry import all_sections


@dataclass(frozen=True, kw_only=True, slots=True)
class Block:
    """What the page prints of one section below its heading."""

    title: str
    style: str  # CSS classes of the table
    sentences: list[str]
    table: Table | None
    notes: list[str]


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """Secondary sections of one place of the page.

    Attributes:
        sentences: in the text of the place.
        groups: blocks under one heading; an empty heading means that there is none.
    """

    sentences: list[str]
    groups: list[tuple[str, list[Block]]]


def section_tables(results: Results, secondary: SecondaryResults) -> dict[str, Table]:
    """Return the table of every section that has rows, by file name."""
    tables = {s.table_name or s.name: _table(s, results, secondary) for s in all_sections()}
    return {name: table for name, table in tables.items() if table is not None}


def lay_out(results: Results, secondary: SecondaryResults) -> dict[str, Place]:
    """Sort the sections into the places of the page, in the order of the registry.

    The sentences of a section stand in the text of its place; those of a section that has a
    heading and no table stand under the heading.
    """
    places: dict[str, Place] = {}
    for place in PLACES:
        mine = [s for s in all_sections() if s.place == place]
        open_text: list[str] = []
        blocks: list[Block] = []
        for section in mine:
            block = _block(section, results, secondary)
            if section.table is not None or not block.title:
                open_text += block.sentences
                block.sentences.clear()
            if block.sentences or block.table is not None or block.notes:
                blocks.append(block)
        groups = [(title, list(inside)) for title, inside in groupby(blocks, lambda b: b.title)]
        places[place] = Place(sentences=open_text, groups=groups)
    return places


def _block(section: Section[Any], results: Results, secondary: SecondaryResults) -> Block:
    found = secondary[section.name]
    table = _table(section, results, secondary)
    if found is None:
        said = section.absent if isinstance(section.absent, str) else section.absent(results)
    else:
        said = section.sentence(results, found)
    note: str | list[str] = ""
    if found is not None and (table is not None or section.table is None):
        note = section.note if isinstance(section.note, str) else section.note(results, found)
    return Block(
        title=section.title if isinstance(section.title, str) else section.title(results),
        style=section.style,
        sentences=_as_list(said),
        table=table,
        notes=_as_list(note),
    )


def _table(section: Section[Any], results: Results, secondary: SecondaryResults) -> Table | None:
    found = secondary[section.name]
    if section.table is None or found is None:
        return None
    table = section.table(results, found)
    return table if table.rows else None


def _as_list(text: str | list[str]) -> list[str]:
    return [t for t in ([text] if isinstance(text, str) else text) if t]
