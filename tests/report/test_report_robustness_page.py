"""The sections on robustness of the page: what is drawn, what stands in words, and what a study without them has."""

import html
import json
import re

import pytest

from consilium.report.analyse.robustness.conflicts import combinations_of_two
from consilium.report.analyse.robustness.radius_curves import radius_curves
from consilium.report.analyse.summary import rows
from consilium.report.load.numbers import number
from consilium.report.load.read import read_study
from consilium.report.render.page import write_page


@pytest.fixture(scope="module")
def record(flagged):
    return read_study(flagged)


def section(page, name):
    return re.search(rf'<section id="{name}">.*?</section>', page, re.S)[0]


def words(text):
    return " ".join(html.unescape(re.sub("<[^>]+>", " ", text)).split())


def test_the_curve_is_drawn_and_its_points_stand_in_a_table(flagged_page, record):
    (plot,) = radius_curves(record, rows(record))
    drawn = json.loads(re.search(r'<script type="application/json" id="drawn">(.*?)</script>', flagged_page, re.S)[1])
    assert drawn["lines"] == {"radius/0": json.loads(json.dumps(plot.drawn()))}
    text = section(flagged_page, "radius")
    assert 'data-figure="lines" data-key="radius/0"' in text and "pgd at 2 radii" in text
    for line in plot.panels[0].lines:
        assert all(number(point.value) in words(text) for point in line.points) and line.arm in text
    assert words(text).count("red flag") == 1, "of the one arm that has it"


def test_a_predicted_conflict_stands_beside_the_interaction_and_agreement_is_counted(flagged_page, record):
    (pair,) = combinations_of_two(record)
    text = words(section(flagged_page, "combinations"))
    assert "dp-sgd × adversarial-training in-training × in-training conflict dp-sgd uses the risk of evasion" in text
    for one in pair.interactions:
        assert (number(one.mean, "difference") if one.mean is not None else one.reason) in text
    counted = {True: "agree in 1 of 1", False: "agree in 0 of 1", None: "No combination can be judged"}[pair.agrees]
    assert counted in text and "Def\\Con" in text


def test_a_study_without_them_has_no_such_sections(one_seed):
    page = write_page(one_seed.folder).read_text(encoding="utf-8")
    assert not any(f'<section id="{name}">' in page for name in ("radius", "sites", "combinations"))
    assert "⚑" not in page
