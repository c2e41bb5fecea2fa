"""Wherever an epsilon or a delta is printed it is at least what was computed, and what an audit found at most that."""

import re

import pytest

from consilium.core.finding import Measure
from consilium.measure.accounting.privacy import Claim
from consilium.monitor.epsilon_tracker import EpsilonSpent
from consilium.report.load.numbers import number, style_of
from consilium.study.run.plan_table import plan_table

EPSILON, DELTA = 7.974642, 0.00100049  # of the README's study


def test_a_claim_is_not_below_its_epsilon_and_delta():
    what = ("site-0", "example", "add-or-remove-one", EPSILON, DELTA)
    claim = Claim(*what, "Poisson sampling", "PLD", 9, 3, 1.0, 5, "all", "secret")
    assert claim.statement().startswith("(7.98, 0.00101)-differentially private per example")


def test_the_line_of_a_run_is_not_below_what_is_spent():
    said = str(EpsilonSpent(EPSILON, DELTA, "example", EPSILON, 3))
    assert said == "epsilon 7.98 of 7.98 (delta 0.00101, per example) at round 3"


def test_the_plan_is_not_below_its_claims():
    cell = {"epsilon": {"example": EPSILON}}
    arm = {
        "arm": "dp", "status": "lawful", "epsilon": EPSILON, "delta": DELTA, "unit": "example",
        "adjacency": "add-or-remove-one", "noise_multiplier": None,
        "cells": [{"epsilon": {"example": 7.97411}}, cell],
    }  # fmt: skip
    table = plan_table({"study": "s", "arms": [arm]})
    columns = {column.header: list(column.cells) for column in table.columns}
    assert columns["epsilon"] == ["7.975"]
    assert columns["delta"] == ["0.00101"]


@pytest.mark.parametrize("value", [EPSILON, 0.123456, 19.99, 3.0, 1e-7 * 3.1415])
def test_the_report_rounds_claims_up_and_audits_down(value):
    claimed, found = (float(number(value, style).replace("−", "-")) for style in ("epsilon", "audited"))
    assert found <= value <= claimed
    assert style_of(Measure("audited_epsilon", value, unit="epsilon")) == "audited"
    assert style_of(Measure("advantage_bound", value)) == "epsilon"


def test_the_page_prints_no_epsilon_below_its_claim(tiny):
    """A real study's page: every claim and every cell of the column."""
    from consilium.report.load.read import read_study
    from consilium.report.render.page import write_page

    study = read_study(tiny.folder)
    spent = [c.privacy.epsilon for c in study.evidence if c.privacy.epsilon is not None]
    assert spent and any(float(f"{value:.3g}") < value for value in spent), "one that the nearest digits would lower"
    page = write_page(tiny.folder).read_text(encoding="utf-8")
    said = [float(found) for found in re.findall(r"ε = (\d+(?:\.\d+)?)", page)]
    least = min(claim.epsilon for cell in study.evidence for claim in cell.privacy.claims)
    assert said and min(said) >= min(least, *spent)
    column = re.findall(r'data-column="epsilon" data-value="([\d.]+)"[^>]*>\s*<span class="v">([\d.]+)<', page)
    assert column and all(float(text) >= float(value) for value, text in column)
