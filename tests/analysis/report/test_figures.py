"""Figures of the report: what each mark of a figure stands for."""

from __future__ import annotations

import html
import re

import numpy as np
import pandas as pd
import pytest

from analysis.inference.heterogeneity import ClassEffect, Heterogeneity
from analysis.report.figures import class_figure, outcome_figure


def test_the_figure_has_a_mark_for_every_class_in_a_panel_a_block() -> None:
    effects = [
        ClassEffect(block=b, name=n, raw=r, shrunken=r / 2, p=0.5, adjusted_p=0.9)
        for b, names in (("x", "123"), ("y", "12"))
        for n, r in zip(names, (-4.0, 2.0, 8.0), strict=False)
    ]
    found = Heterogeneity(
        arm="a", against="b", omnibus_p=0.5, spread=1.0, noise=2.0, exact=True,
        classes=tuple(effects),
    )  # fmt: skip
    svg = class_figure(found)
    assert [svg.count(f"block {b}<") for b in "xy"] == [1, 1]
    filled = re.findall(r'y="([\d.]+)" style="fill: var', svg)[:5]  # the last is in the legend
    hollow = re.findall(r'y="([\d.]+)" style="fill-opacity: 0', svg)[:5]
    assert (len(filled), len(hollow)) == (5, 5)
    shrunken, raw = np.diff(np.array(filled[:3], float)), np.diff(np.array(hollow[:3], float))
    assert raw == pytest.approx(2 * shrunken, rel=1e-4)  # drawn to one scale
    assert (raw < 0).all()  # larger effects are higher


NAMES = ["actor_faces/Aaron Eckhart the Second", "$x", r"$\frac{$", "\u5f35\u5049", "<b>&"]


@pytest.mark.parametrize("name", NAMES)
def test_names_of_classes_are_drawn_as_they_are_and_cut(name: str) -> None:
    effect = {"raw": 1.0, "shrunken": 0.5, "p": 0.5, "adjusted_p": 0.5}
    classes = tuple(ClassEffect(block=b, name=n, **effect) for b in "ab" for n in (name, "other"))
    found = Heterogeneity(
        arm="treatment", against="control", omnibus_p=0.5, spread=1.0, noise=1.0, exact=True,
        classes=classes,
    )  # fmt: skip
    drawn = re.findall(r"<text[^>]*>([^<]*)</text>", class_figure(found))
    last = html.escape(name.rpartition("/")[2], quote=False)
    assert drawn.count(last if len(last) <= 16 else f"{last[:13]}...") == 2


def test_names_in_a_figure_are_text_and_neither_html_nor_a_formula() -> None:
    evil = 'x" onload="alert(1)"><script>$\\frac{$'
    effects = [ClassEffect(block="b", name=evil, raw=1.0, shrunken=0.5, p=0.5, adjusted_p=0.9)] * 2
    found = Heterogeneity(
        arm="a", against="b", omnibus_p=0.5, spread=1.0, noise=2.0, exact=True,
        classes=tuple(effects),
    )  # fmt: skip
    outcome = f"{evil}/att_acc_1"
    units = pd.DataFrame({"block": ["b"], "arm": ["a"], outcome: [0.5]})
    for svg in (class_figure(found), outcome_figure(units, outcome, [], ())):
        assert "<script" not in svg
        assert not re.search(r"<svg[^>]*onload=\"", svg)
