"""Robust accuracy over the radius: from distances in closed form, from attacks at several radii as they stand."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from consilium.core.finding import Measure
from consilium.measure.intervals import across_seeds, wilson
from consilium.report.analyse.robustness.curve import share_point
from consilium.report.analyse.robustness.radius_curves import radius_curves
from consilium.report.analyse.summary import rows

N = 200


def attacked(study, path, name="fmn", distances=None, value=0.5, **knobs):
    """The study with another attack on every model, of which the records have these distances."""
    if distances is not None:
        save_file({"distance": distances}, path)
    threat = study.evidence[0].aimed("evasion")[0]
    finding = replace(
        threat, name=name, kind=name, configuration={"kind": name, "norm": "l2", "radius": 0.2, **knobs},
        measures=(Measure("robust_accuracy", value, *wilson(round(value * N), N), n=N),), notes=(),
        file=path if distances is not None else None,
    )  # fmt: skip
    return replace(study, evidence=tuple(replace(c, attacks=(*c.attacks, finding)) for c in study.evidence))


@pytest.fixture
def uniform():
    """A fifth is wrong without an attack, a tenth was never fooled, the others lie evenly in (0, 0.5]."""
    return torch.cat([torch.zeros(40), torch.full((20,), torch.inf), torch.arange(1, 141) / 280])


def plots(study):
    return {plot.title: plot for plot in radius_curves(study, rows(study))}


def test_the_curve_is_the_share_of_larger_distances(one_seed, tmp_path, uniform):
    study = attacked(one_seed, tmp_path / "d.safetensors", distances=uniform)
    plot = plots(study)["fmn, the smallest perturbations"]
    assert plot.x == "radius, L2, inputs in [0, 1]" and plot.dense
    (panel,) = plot.panels
    clean = [row for row in rows(study) if row.infected_by == "none" and row.judged]
    assert [line.code for line in panel.lines] == [row.code for row in clean if not row.collapsed]
    for point in panel.lines[0].points:
        k = int((uniform > point.x + 1e-6).sum())
        assert (point.value, point.n) == (k / N, N) and (point.low, point.high) == wilson(k, N)
    values = [point.value for point in panel.lines[0].points]
    assert values[0] == 0.8 and values == sorted(values, reverse=True) and values[-1] < 0.15
    assert plot.listed == (0.0, 0.1, 0.2, 0.4) and all(panel.lines[0].at(x) for x in plot.listed)
    collapsed = [row.code for row in clean if row.collapsed]
    assert collapsed and plot.left_out == tuple(collapsed)


def test_a_distance_of_exactly_the_radius_is_fooled_there(one_seed, tmp_path):
    distances = torch.tensor([0.0, 0.2, 0.2, 0.30000001])
    plot = plots(attacked(one_seed, tmp_path / "d.safetensors", distances=distances))["fmn, the smallest perturbations"]
    assert plot.panels[0].lines[0].at(0.2).value == 0.25 and plot.panels[0].lines[0].at(0.1).value == 0.75


def test_without_distances_or_without_a_figure_there_is_none(one_seed, tmp_path, uniform):
    assert not plots(attacked(one_seed, tmp_path / "d.safetensors"))
    nothing = torch.tensor([0.0, torch.inf])
    assert not plots(attacked(one_seed, tmp_path / "n.safetensors", distances=nothing))
    study = attacked(one_seed, tmp_path / "d.safetensors", distances=uniform)
    reason = (Measure.undefined("robust_accuracy", "not adaptively evaluated: its gradient is zero", N),)
    cells = [
        replace(c, attacks=tuple(replace(f, measures=reason) if f.name == "fmn" else f for f in c.attacks))
        for c in study.evidence
    ]
    assert not plots(replace(study, evidence=tuple(cells)))


def test_attacks_that_differ_in_the_radius_alone_are_one_line(one_seed, tmp_path):
    study = one_seed
    for name, radius, value in (("far", 0.4, 0.1), ("near", 0.1, 0.6), ("middle", 0.2, 0.3), ("other", 0.3, 0.2)):
        knobs = {"kind": "pgd", "radius": radius, "steps": 7 if name == "other" else 5}
        study = attacked(study, tmp_path / "-", name=name, value=value, **knobs)
    ((title, plot),) = plots(study).items()
    assert title == "pgd at 3 radii" and plot.listed == (0.0, 0.1, 0.2, 0.4) and not plot.rising and not plot.dense
    line = plot.panels[0].lines[0]
    clean = rows(study)[0].figures["accuracy"]
    assert [(p.x, p.value) for p in line.points] == [(0.0, clean.value), (0.1, 0.6), (0.2, 0.3), (0.4, 0.1)]
    assert (line.points[1].low, line.points[1].high, line.points[1].n) == (*wilson(120, N), N)


def test_a_line_that_rises_is_noticed(one_seed, tmp_path):
    study = one_seed
    for name, radius, value in (("near", 0.1, 0.3), ("far", 0.4, 0.5)):
        study = attacked(study, tmp_path / "-", name=name, value=value, kind="pgd", radius=radius)
    (plot,) = plots(study).values()
    assert plot.rising


def test_several_seeds_have_the_interval_of_their_mean():
    point = share_point(0.1, [(50, 100), (60, 100), (55, 110)])
    mean, low, high = across_seeds([0.5, 0.6, 0.5])
    assert (point.value, point.low, point.high, point.n, point.seeds) == (mean, max(0, low), min(1, high), 100, 3)


def test_drawn_is_plain_and_bounded(one_seed, tmp_path, uniform):
    plot = plots(attacked(one_seed, tmp_path / "d.safetensors", distances=uniform))["fmn, the smallest perturbations"]
    line = plot.drawn()["panels"][0]["lines"][0]
    assert len({len(line[key]) for key in "xylhn"}) == 1 and len(line["x"]) <= 46
    assert all(0 <= low <= y <= high <= 1 for low, y, high in zip(line["l"], line["y"], line["h"], strict=True))
    assert np.all(np.diff(line["x"]) > 0)
