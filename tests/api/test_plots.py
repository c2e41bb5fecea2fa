"""Figures draw the numbers of the report, and colour no noise."""

import math
import sys

import pytest

from consilium import Results
from consilium.api.plots import _shade
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


def test_what_cannot_be_drawn_is_refused(folder, monkeypatch):
    results = Results.read(folder)
    with pytest.raises(Refused, match=r"there is no plot 'rocs'\. did you mean 'roc'"):
        results.plot("rocs")
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(MissingExtra, match=r"Results.plot needs matplotlib. pip install consilium\[notebook\]"):
        results.plot()
