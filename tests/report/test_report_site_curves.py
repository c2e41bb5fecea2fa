"""Accuracy and success over corrupted sites: corruptions of one kind that differ in the number of sites alone."""

from dataclasses import replace

import pytest

from consilium.core.finding import Measure
from consilium.measure.intervals import wilson
from consilium.report.analyse.robustness.site_curves import site_curves
from consilium.report.analyse.summary import rows

BAD = "adversarial-poisoning"
N = 100


def success(cell, label, value):
    """The cell with the success of a backdoor."""
    threat = replace(cell.attacks[0].threat, aim="poisoning")
    measure = Measure("backdoor_success", value, *wilson(round(value * N), N), 0.02, N)
    finding = replace(cell.attacks[0], name=f"{label}.success", kind="success", threat=threat, measures=(measure,))
    return replace(cell, attacks=(*cell.attacks, finding))


def accurate(cell, value):
    measures = [replace(m, value=value) if m.name == "accuracy" else m for m in cell.utility]
    return replace(cell, utility=tuple(measures))


@pytest.fixture
def study(one_seed):
    """The infection at one site, at three, and once more at three with another knob."""
    cells = []
    for cell in one_seed.evidence:
        if cell.infected_by == "none":
            cells.append(success(success(cell, BAD, 0.02), "three", 0.02))
            continue
        cells.append(replace(success(cell, BAD, 0.4), corrupted=("site-0",)))
        for label, level in (("three", 0.9), ("other", 0.5)):
            copy = replace(
                accurate(cell, 0.5), cell=replace(cell.cell, infected_by=label, digest=f"{label}{cell.digest}")
            )
            cells.append(replace(success(copy, label, level), corrupted=("site-0", "site-1", "site-2")))
    knobs = {"kind": "bad-nets", "target": 0, "rounds": None}
    corruptions = {
        "three": {**knobs, "sites": None, "site-share": 0.6},
        BAD: {**knobs, "sites": 1},
        "other": {**knobs, "sites": 3, "target": 1},
    }
    return replace(one_seed, evidence=tuple(cells), resolved={"corruptions": corruptions})


def test_the_points_are_the_clean_twin_and_each_number_of_sites(study):
    (plot,) = site_curves(study, rows(study))
    assert (plot.title, plot.x, plot.listed) == ("bad-nets", "corrupted sites, of 5", (0.0, 1.0, 3.0))
    accuracy, success_rate = plot.panels
    assert (accuracy.measure, success_rate.measure) == ("accuracy", "backdoor success")
    line = success_rate.lines[0]
    assert [(p.x, p.value, p.n) for p in line.points] == [(0, 0.02, N), (1, 0.4, N), (3, 0.9, N)]
    assert (line.points[1].low, line.points[1].high) == wilson(40, N)
    by = {row.infected_by: row for row in rows(study) if row.arm.name == line.arm}
    points = [by["none"].figures["accuracy"].value, by[BAD].figures["accuracy"].value, 0.5]
    assert [p.value for p in accuracy.lines[0].points] == points


def test_one_number_of_sites_or_another_knob_is_no_curve(study):
    corruptions = study.resolved["corruptions"]
    other = {**corruptions, "three": {**corruptions["three"], "target": 2}}
    assert not site_curves(replace(study, resolved={"corruptions": other}), rows(study))
    assert not site_curves(replace(study, resolved={}), rows(study))


def test_models_that_disagree_on_the_number_are_left_out(study):
    cells = list(study.evidence)
    place = next(i for i, cell in enumerate(cells) if cell.infected_by == "three")
    cells[place] = replace(cells[place], corrupted=("site-0",))
    odd = replace(study, evidence=tuple(cells))
    assert not site_curves(odd, rows(odd))


def test_without_a_backdoor_there_is_accuracy_alone(study):
    def bare(cell):
        return replace(cell, attacks=tuple(f for f in cell.attacks if f.aim != "poisoning"))

    plain = replace(study, evidence=tuple(map(bare, study.evidence)))
    (plot,) = site_curves(plain, rows(plain))
    assert [panel.measure for panel in plot.panels] == ["accuracy"]
