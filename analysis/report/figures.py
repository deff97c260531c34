"""Figures of the report, as inline SVG in the text colour of the page.

Arms differ by marker as well as by colour (Okabe & Ito), so a figure can be read in gray. Colours
are CSS variables with the printed colour as fallback, and the ink is ``currentColor``.
"""

from __future__ import annotations

import hashlib
import html
import io
import re
import textwrap
import warnings
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.inference.difference import ArmMean
from analysis.inference.heterogeneity import Heterogeneity
from analysis.pipeline.primary import Comparison
from analysis.schema.columns import label, short_label, unit_of

_INK = "#010203"  # replaced by currentColor
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
_MARKERS = ("o", "s", "^", "D", "v", "P")
_TICK = 16  # characters of a class name on an axis
_MANY = 2_000  # above this number, points are drawn as a bitmap
_WIDTH = 5.2  # inches at 9 pt: readable at 350 px and at 620 px
_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "atat-ray",
    "text.parse_math": False,  # a dollar sign in a name is no formula
    "font.size": 9.0,
    "axes.edgecolor": _INK,
    "axes.labelcolor": _INK,
    "axes.linewidth": 0.7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 9.0,
    "text.color": _INK,
    "xtick.color": _INK,
    "ytick.color": _INK,
    "xtick.major.width": 0.7,
    "ytick.major.width": 0.7,
    "legend.frameon": False,
    "legend.handletextpad": 0.1,
    "legend.columnspacing": 1.2,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
}


def outcome_figure(
    units: pd.DataFrame, outcome: str, means: list[ArmMean], arms: tuple[str, ...]
) -> str:
    """Draw every unit on the line of its arm and block, and the mean and interval of each arm."""
    scale = unit_of(outcome).scale
    blocks = list(dict.fromkeys(units["block"]))
    summary = {m.arm: m for m in means}
    shown = [a for a in arms if a in summary]
    step = len(blocks) + 2
    with mpl.rc_context(_STYLE):
        figure, axes = _figure(0.55 + 0.19 * step * len(shown))
        ticks: list[float] = []
        for i, arm in enumerate(shown):
            top = -i * step
            mark = _mark(arms, arm)
            _draw_mean(axes, summary[arm], top, **mark)
            for j, block in enumerate(blocks):
                inside = units.loc[(units["arm"] == arm) & (units["block"] == block)]
                values = scale * inside[outcome].to_numpy(dtype=float)
                _draw_line(axes, values, top - 1 - j, str(block), len(units) > _MANY, mark)
            ticks.append(top)
        axes.set_yticks(ticks, shown)
        axes.tick_params(axis="y", length=0)
        axes.spines["left"].set_visible(False)
        axes.set_ylim(-step * len(shown) + 1.2, 0.9)
        axes.set_xlabel(_axis(outcome))
        axes.grid(axis="x", color=_INK, alpha=0.12, linewidth=0.6)
        return _svg(figure, f"{label(outcome)} of every unit by arm and block")


def _draw_line(
    axes: Axes, values: np.ndarray, height: float, name: str, bitmap: bool, mark: dict[str, Any]
) -> None:
    """Draw the units of one arm and block, and the name of the block at the right edge."""
    points = {"linestyle": "", "ms": 4.5, "mew": 0.6, "mec": _INK, "alpha": 0.8, **mark}
    axes.plot(values, [height] * len(values), rasterized=bitmap, **points)
    axes.annotate(
        name,
        (1, height),
        xycoords=axes.get_yaxis_transform(),
        fontsize=8,
        alpha=0.7,
        va="center",
        ha="left",
        annotation_clip=False,
    )


def forest_figure(comparisons: list[Comparison], outcome: str) -> str:
    """Draw each difference with its interval and the line of no effect, one row a comparison."""
    drawn = [c for c in comparisons if c.difference is not None]
    with mpl.rc_context(_STYLE):
        figure, axes = _figure(0.6 + 0.42 * len(drawn))
        axes.axvline(0, color=_INK, linewidth=0.8, linestyle=(0, (4, 3)))
        for i, comparison in enumerate(drawn):
            estimate = comparison.difference
            if estimate is None:
                continue
            axes.plot([estimate.low, estimate.high], [-i, -i], color=_INK, linewidth=1.4)
            axes.plot(estimate.estimate, -i, marker="D", ms=5, color=_INK)
        names = [f"{c.contrast}\n{c.outcome.partition('/')[0]}" for c in drawn]
        axes.set_yticks([-i for i in range(len(drawn))], names, fontsize=8)
        axes.tick_params(axis="y", length=0)
        axes.spines["left"].set_visible(False)
        axes.set_ylim(-len(drawn) + 0.4, 0.6)
        axes.set_xlabel(
            f"difference in {label(outcome).partition(' (')[0]} ({unit_of(outcome).name})"
        )
        axes.grid(axis="x", color=_INK, alpha=0.12, linewidth=0.6)
        return _svg(figure, "Differences between arms with intervals")


def scatter_figure(
    units: pd.DataFrame, outcome: str, accuracies: list[str], arms: tuple[str, ...]
) -> str:
    """Draw leakage against each accuracy, one panel an accuracy and one point a unit."""
    columns = 2 if len(accuracies) > 1 else 1
    rows = -(-len(accuracies) // columns)
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(_WIDTH, 0.5 + 2.0 * rows), layout="constrained")
        grid = figure.subplots(rows, columns, squeeze=False, sharey=True)
        for axes, accuracy in zip(grid.flat, accuracies, strict=False):
            for arm in arms:
                inside = units.loc[units["arm"] == arm]
                x = unit_of(accuracy).scale * inside[accuracy].to_numpy(dtype=float)
                y = unit_of(outcome).scale * inside[outcome].to_numpy(dtype=float)
                mark = _mark(arms, arm)
                points = {"linestyle": "", "ms": 5, "mew": 0.6, "mec": _INK, "alpha": 0.8, **mark}
                axes.plot(x, y, label=arm, rasterized=len(units) > _MANY, **points)
            axes.set_xlabel(_axis(accuracy), fontsize=8)
            axes.grid(color=_INK, alpha=0.12, linewidth=0.6)
        for axes in list(grid.flat)[len(accuracies) :]:
            axes.remove()
        figure.supylabel(textwrap.fill(_axis(outcome), 32), fontsize=9)
        handles, names = grid[0, 0].get_legend_handles_labels()
        figure.legend(handles, names, loc="outside upper center", ncols=len(arms))
        return _svg(figure, f"{label(outcome)} against accuracy, one point a unit")


def class_figure(found: Heterogeneity) -> str:
    """Draw the effect on every class, shrunken and raw, one panel a block, in class order."""
    blocks = list(dict.fromkeys(c.block for c in found.classes))
    many = len(found.classes) > _MANY
    longest = max(len(_tick(c.name)) for c in found.classes)
    upright = longest > 4
    room = 0.06 * longest if upright else 0.0  # inches for the names below each panel
    with mpl.rc_context(_STYLE):
        n = len(blocks)
        height = 0.8 + (1.5 + room) * n
        axes_height = (1.5 * n - 0.15) / (1.5 * n - 0.5)
        figure = Figure(figsize=(_WIDTH, height))
        grid = figure.subplots(n, 1, squeeze=False, sharey=True)
        # Fixed margins: a layout that measures every label of every panel takes seconds.
        figure.subplots_adjust(
            left=0.13,
            bottom=(0.45 + room) / height,
            right=0.99,
            top=1 - 0.5 / height,
            hspace=0.5 + room / axes_height,
        )
        for axes, block in zip(grid.flat, blocks, strict=True):
            inside = [c for c in found.classes if c.block == block]
            x = np.arange(len(inside))
            raw, shrunken = [c.raw for c in inside], [c.shrunken for c in inside]
            axes.axhline(0, color=_INK, linewidth=0.8, linestyle=(0, (4, 3)))
            axes.axhline(float(np.mean(raw)), color=_COLOURS[0], linewidth=0.9)
            axes.vlines(x, raw, shrunken, color=_INK, alpha=0.35, linewidth=0.7, rasterized=many)
            hollow = {"marker": "o", "ms": 3.5, "mfc": "none", "mec": _INK, "mew": 0.7}
            filled = {"marker": "D", "ms": 4.5, "color": _COLOURS[0], "mec": _INK, "mew": 0.6}
            axes.plot(x, raw, linestyle="", label="raw", alpha=0.6, rasterized=many, **hollow)
            axes.plot(x, shrunken, linestyle="", label="shrunken", rasterized=many, **filled)
            step = -(-len(inside) // 30)
            ticks = [_tick(c.name) for c in inside[::step]]
            rotation = 90 if upright else 0
            axes.set_xticks(x[::step], ticks, fontsize=7, rotation=rotation)
            axes.set_title(f"block {block}", loc="left")
            axes.grid(axis="y", color=_INK, alpha=0.12, linewidth=0.6)
        grid[-1, 0].set_xlabel("class")
        figure.supylabel(f"{found.arm} - {found.against}, pp", fontsize=9)
        handles, names = grid[0, 0].get_legend_handles_labels()
        figure.legend(handles, names, loc="upper center", ncols=2)
        return _svg(figure, "Effect on every class, shrunken and raw, by block")


def _tick(name: str) -> str:
    """Cut the name of a class for an axis; of a path only the last part is shown."""
    last = name.rpartition("/")[2]
    return last if len(last) <= _TICK else f"{last[: _TICK - 3]}..."


def _figure(height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(_WIDTH, height), layout="constrained")
    return figure, figure.subplots()


def _axis(outcome: str) -> str:
    """Name an outcome and its unit on an axis: ``AttAcc@1 (standard), %``."""
    unit = unit_of(outcome)
    return f"{short_label(outcome)}, {'%' if unit.name == 'pp' else unit.name}"


def _mark(arms: tuple[str, ...], arm: str) -> dict[str, Any]:
    i = arms.index(arm) % len(_COLOURS)
    return {"marker": _MARKERS[i], "color": _COLOURS[i]}


def _draw_mean(axes: Axes, mean: ArmMean, height: float, *, marker: str, color: str) -> None:
    if mean.low is not None and mean.high is not None:
        axes.plot([mean.low, mean.high], [height, height], color=color, linewidth=2)
    axes.plot(mean.mean, height, marker=marker, color=color, ms=8, mec=_INK, mew=0.8)


def _svg(figure: Figure, title: str) -> str:
    """Return the figure as an SVG element without size or ink, and with unique ids."""
    buffer = io.StringIO()
    with warnings.catch_warnings():
        # The text is drawn by the reader's browser, which has more fonts.
        warnings.filterwarnings("ignore", "Glyph", UserWarning)
        figure.savefig(buffer, format="svg", metadata={"Date": None}, transparent=True)
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r' (?:width|height)="[0-9.]+pt"', "", text, count=2)
    text = re.sub(r' xmlns:xlink="[^"]*"| xmlns="[^"]*"', "", text).replace("xlink:href", "href")
    text = text.replace(_INK, "currentColor")
    for i, colour in enumerate(_COLOURS):
        text = text.replace(colour, f"var(--arm-{i}, {colour})")
    prefix = hashlib.sha256(text.encode()).hexdigest()[:8]  # makes ids unique in the page
    text = re.sub(r'(id="|href="#|url\(#)', rf"\g<1>{prefix}-", text)
    return text.replace("<svg", f'<svg role="img" aria-label="{html.escape(title)}"', 1)
