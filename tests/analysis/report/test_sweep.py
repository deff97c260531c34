"""Report of a sweep: the front, the table, the figure, and the mark that it is not a trial."""

import numpy as np
import pandas as pd
from PIL import Image

from analysis import schema
from analysis.report.sweep import CAUTION, Sweep, draw_sweep, on_front, sweep_text


def sweep(**columns):
    points = pd.DataFrame(
        {
            "unit_id": ["point-1", "point-2", "point-3", "point-4"],
            "status": ["finished", "finished", "finished", "stopped"],
            "reason": ["", "", "", "stopped by ASHA after epoch 2 at clean accuracy 0.300"],
            "weight": [1.0, 2.0, 4.0, 8.0],
            schema.CLEAN_ACC: [0.9, 0.8, 0.7, np.nan],
            "standard/att_acc_1": [0.5, 0.2, 0.3, np.nan],
            **columns,
        }
    )
    points["front"] = on_front(list(points["standard/att_acc_1"]), list(points[schema.CLEAN_ACC]))
    return Sweep(name="s", leakage="standard/att_acc_1", options=["weight"], points=points)


def test_the_front_is_what_no_other_point_beats():
    rng = np.random.default_rng(3)
    leak, acc = rng.integers(0, 6, 60) / 5, rng.integers(0, 6, 60) / 5
    found = on_front(list(leak), list(acc))
    for i, there in enumerate(found):
        beaten = any(
            (leak[j] < leak[i] and acc[j] >= acc[i]) or (leak[j] <= leak[i] and acc[j] > acc[i])
            for j in range(60)
        )
        assert there == (not beaten)
    assert 0 < sum(found) < 60


def test_points_without_an_outcome_are_not_on_the_front():
    assert sweep().points["front"].tolist() == [True, True, False, False]


def test_the_table_says_that_nothing_was_randomised():
    lines = sweep_text(sweep()).splitlines()
    assert CAUTION in lines[0]
    assert [line.endswith("Pareto") for line in lines[2:6]] == [True, True, False, False]
    assert "stopped by ASHA after epoch 2" in lines[5]


def test_the_picture_has_a_mark_for_every_finished_point(tmp_path, monkeypatch):
    from matplotlib.axes import Axes

    marks, titles = [], []
    plot, title = Axes.plot, Axes.set_title

    def spy_on_marks(axes, x, y, *shape, **options):
        marks.extend(x if shape and shape[0] in ("o", "s") else [])
        return plot(axes, x, y, *shape, **options)

    def spy_on_title(axes, text, **options):
        titles.append(text)
        return title(axes, text, **options)

    monkeypatch.setattr(Axes, "plot", spy_on_marks)
    monkeypatch.setattr(Axes, "set_title", spy_on_title)
    draw_sweep(sweep(), tmp_path / "points.png")
    assert sorted(marks) == [0.7, 0.8, 0.9]
    assert CAUTION in titles[0]
    with Image.open(tmp_path / "points.png") as picture:
        assert picture.size[0] > 600
