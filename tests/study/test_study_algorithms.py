"""Algorithms may be varied like defences: one axis, which begins with the study's own."""

from __future__ import annotations

import json

import pytest

from consilium import Study
from consilium.core.errors import Refused

TABLES = {
    "name": "algorithms",
    "data": {"kind": "digits", "sites": 3, "partition": "dirichlet", "alpha": 0.3},
    "model": {"kind": "logistic"},
    "federation": {"kind": "fed-avg", "rounds": 3, "lr": 0.3, "target-accuracy": 0.5},
    "vary": {"algorithm": ["fed-prox", {"kind": "scaffold", "lr": 0.3}]},
}


def test_every_algorithm_is_an_arm_with_a_training_of_its_own(tmp_path) -> None:
    results = Study.of(TABLES).run(tmp_path, quiet=True)
    assert [arm.name for arm in results.plan.arms] == ["fed-avg", "fed-prox", "scaffold"]
    assert results.outcome.trained == 3
    found = {}
    for path in (tmp_path / "algorithms" / "cells").glob("*/evidence.json"):
        evidence = json.loads(path.read_text())
        found[evidence["cell"]["arm"]] = evidence
    kinds = {arm: e["resolved"]["training"]["federation"]["kind"] for arm, e in found.items()}
    assert kinds == {"fed-avg": "fed-avg", "fed-prox": "fed-prox", "scaffold": "scaffold"}
    sent = {arm: _cost(e, "bytes_up_per_round_site")["value"] for arm, e in found.items()}
    assert sent["scaffold"] > 1.9 * sent["fed-avg"]  # it sends a control variate too
    for evidence in found.values():
        rounds, size = _cost(evidence, "rounds_to_accuracy"), _cost(evidence, "bytes_to_accuracy")
        assert (rounds["value"] is None) == (size["value"] is None)
        assert rounds["value"] is not None or "not reached" in rounds["reason"]
    assert any(_cost(e, "rounds_to_accuracy")["value"] for e in found.values())


def _cost(evidence, name):
    return next(m for m in evidence["cost"] if m["name"] == name)


def test_the_studys_own_may_be_named_too() -> None:
    plan = Study.of({**TABLES, "vary": {"algorithm": [{"kind": "fed-avg", "lr": 0.3}, "fed-prox"]}}).plan()
    assert [arm.name for arm in plan.arms] == ["fed-avg", "fed-prox"]


def test_algorithms_and_defences_cross() -> None:
    vary = {"algorithm": ["fed-prox"], "bound": ["norm-bound"]}
    plan = Study.of({**TABLES, "vary": vary}).plan()
    assert [a.name for a in plan.arms] == ["fed-avg", "fed-avg + norm-bound", "fed-prox", "fed-prox + norm-bound"]


@pytest.mark.parametrize(
    ("vary", "reason"),
    [
        ({"a": ["fed-prox", "norm-bound"]}, "of algorithms or of defences"),
        ({"a": [["fed-prox", "norm-bound"]]}, "a choice of its own"),
        ({"a": ["fed-prox"], "b": ["scaffold"]}, "one axis of algorithms"),
        ({"a": [{"kind": "fed-avg", "lr": 0.01}]}, "the study's own algorithm, with other knobs"),
    ],
)
def test_mixtures_are_refused(vary, reason) -> None:
    with pytest.raises(Refused, match=reason):
        Study.of({**TABLES, "vary": vary})
