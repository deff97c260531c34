"""Strips of reconstructions and their nearest training images, cut from recorded pictures."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass

from analysis.pipeline.primary import Results
from analysis.record.reader import Record

CLASSES_SHOWN = 24


@dataclass(frozen=True, kw_only=True, slots=True)
class Strip:
    """Images of one arm by class, each a reconstruction above its nearest training image."""

    arm: str
    unit_id: str
    cells: tuple[tuple[str, str], ...]  # (class, data URI of a PNG)
    note: str  # why there are no cells; empty otherwise


def strips(record: Record, results: Results) -> list[Strip]:
    """Cut the picture of each arm's first finished unit, by unit_id, of the first block."""
    inversion = results.outcome.partition("/")[0]
    block = record.allocation["block"].iloc[0]
    chosen: list[Strip] = []
    for arm in results.arms:
        here = results.analysed
        here = here.loc[(here["arm"] == arm) & (here["block"] == block)].sort_values("unit_id")
        if here.empty:
            note = f"no finished unit in block {block}"
            chosen.append(Strip(arm=arm, unit_id="", cells=(), note=note))
            continue
        unit_id = str(here["unit_id"].iloc[0])
        try:
            cells, note = _cells(record, unit_id, inversion), ""
        except ValueError as error:
            cells, note = (), str(error)
        chosen.append(Strip(arm=arm, unit_id=unit_id, cells=cells, note=note))
    return chosen


def _cells(record: Record, unit_id: str, inversion: str) -> tuple[tuple[str, str], ...]:
    """Cut the picture of a unit into one PNG for each class."""
    from PIL import Image

    classes = record.classes
    mine = classes[(classes["unit_id"] == unit_id) & (classes["inversion"] == inversion)]
    names = [str(c) for c in mine["class"]]
    with Image.open(io.BytesIO(record.picture(unit_id, inversion))) as picture:
        if not names or picture.width % len(names):
            raise ValueError(
                f"the picture of {unit_id} is {picture.width} pixels wide, which does not divide "
                f"into {len(names)} classes"
            )
        width = picture.width // len(names)
        cells: list[tuple[str, str]] = []
        for i, name in enumerate(names[:CLASSES_SHOWN]):
            buffer = io.BytesIO()
            picture.crop((i * width, 0, (i + 1) * width, picture.height)).save(buffer, "PNG")
            encoded = base64.b64encode(buffer.getvalue()).decode("ascii")
            cells.append((name, f"data:image/png;base64,{encoded}"))
    return tuple(cells)
