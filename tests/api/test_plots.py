"""Figures draw the numbers of the report, and colour no noise."""

import math
import sys

import pytest

from consilium import Results
from consilium.api.plots import _ASIDE, _name_points, _shade
from consilium.core.errors import MissingExtra, Refused
from consilium.report.analyse.columns import TableColumn
from consilium.report.analyse.summary import Figure, rows

pytest.importorskip("matplotlib")
ACCURACY = TableColumn("accuracy", "accuracy", "Utility", "", "high")
LEAKAGE = TableColumn("mia_advantage", "advantage", "Membership", "", "low", chance=0.0)


@pytest.mark.parametrize("what", ["matrix", "trade-off", "roc"])
def test_each_is_drawn(folder, tmp_path, what):
    figure = Results.read(folder).plot(what)
    figure.savefig(tmp_path / "figure.png", dpi=40)
    assert (tmp_path / "figure.png").read_bytes()[:4] == b"\x89PNG"


def test_a_notebook_shows_the_picture_and_no_class_name(folder):
    """IPython asks an object for its picture by this method; without pyplot it knows no other way."""
    figure = Results.read(folder).plot("trade-off")
    assert figure._repr_png_()[:4] == b"\x89PNG"


def test_the_matrix_writes_every_number(folder):
    results = Results.read(folder)
    texts = {text.get_text() for text in results.plot("matrix").axes[0].texts}
    values = [row.figures["accuracy"].value for row in rows(results.study)]
    assert {f"{value:.3f}" for value in values if value is not None} <= texts


def test_points_stand_where_the_figures_are(folder):
    results = Results.read(folder)
    axis = results.plot("trade-off").axes[0]
    known = {(row.figures["worst_case"].value, row.figures["accuracy"].value) for row in rows(results.study)}
    drawn = {(float(bars.lines[0].get_xdata()[0]), float(bars.lines[0].get_ydata()[0])) for bars in axis.containers}
    assert drawn and drawn <= known


def test_noise_has_no_colour():
    apart, alike = [Figure(0.9, 0.85, 0.95), Figure(0.6, 0.5, 0.7)], [Figure(0.9, 0.7, 1.0), Figure(0.8, 0.6, 0.95)]
    assert [_shade(f, ACCURACY, apart) for f in apart] == [1.0, 0.0]
    assert all(math.isnan(_shade(f, ACCURACY, alike)) for f in alike)
    leaks = [Figure(0.3, 0.2, 0.4, 0.0), Figure(0.01, -0.1, 0.1, 0.0)]
    assert _shade(leaks[0], LEAKAGE, leaks) == 0.0 and math.isnan(_shade(leaks[1], LEAKAGE, leaks))


LATENCY = TableColumn("latency_ratio", "latency", "Cost", "", "low", "ratio")


def test_a_figure_that_differs_from_few_is_not_the_brightest():
    """Fast but hardly measured: 0.69 (0.03 to 1.08) differs from the slowest alone."""
    figures = [Figure(0.69, 0.03, 1.08), Figure(1.0, 0.95, 1.05), Figure(1.01, 0.96, 1.06), Figure(1.17, 1.12, 1.22)]
    assert [_shade(f, LATENCY, figures) for f in figures] == pytest.approx([2 / 3, 2 / 3, 2 / 3, 0.0])
    assert all(math.isnan(_shade(f, LATENCY, figures[:3])) for f in figures[:3])


def test_a_bound_is_written_as_one_and_points_are_named_beside_the_axes(folder):
    results = Results.read(folder)
    texts = {text.get_text() for text in results.plot("matrix").axes[0].texts}
    worst = [row.figures["worst_case"].value for row in rows(results.study)]
    assert {f"≤ {value:.3f}" for value in worst if value is not None} <= texts
    figure = results.plot("trade-off")
    every = rows(results.study)
    assert {text.get_text() for text in figure.axes[0].texts} <= {row.code for row in every}
    (legend,) = figure.legends
    assert {text.get_text() for text in legend.get_texts()} == {
        f"{row.code}  {row.arm.name}" for row in every if row.judged
    }
    assert ("hollow" in figure.axes[0].get_title()) == any(row.infected_by != "none" for row in every)
    figure.canvas.draw()
    inside = figure.axes[0].get_window_extent()
    assert inside.width > 0.5 * figure.bbox.width or inside.width > 3.0 * figure.dpi


def test_what_cannot_be_drawn_is_refused(folder, monkeypatch):
    results = Results.read(folder)
    with pytest.raises(Refused, match=r"there is no plot 'rocs'\. Did you mean 'roc'"):
        results.plot("rocs")
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(MissingExtra, match=r"Results.plot needs matplotlib. pip install consilium\[notebook\]"):
        results.plot()


def test_letters_of_near_points_stand_apart():
    """Two marks nearly at one place: at one fixed side the second letter would cover the first."""
    from matplotlib.figure import Figure as Canvas

    axis = Canvas(figsize=(6.0, 4.0)).subplots()
    axis.set(xlim=(0, 1), ylim=(0, 1))
    _name_points(axis, [(0.5, 0.5, "A"), (0.505, 0.505, "B"), (0.9, 0.9, "C")])
    places = [text.xyann for text in axis.texts]
    assert places[0] != places[1] and math.dist(*places[:2]) > 8
    assert places[2] == _ASIDE[0], "alone it stands where it always does"
