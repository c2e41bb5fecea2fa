"""Participation as a study says it: a nested table, in the recipe, refused by name; its events in log and evidence."""

from __future__ import annotations

import json

import pytest

from consilium import Study
from consilium.core.errors import Refused
from consilium.study.plan.stage_keys import digest


def small(**participation):
    federation = {"kind": "fed-avg", "rounds": 6, "fraction": 0.5, "participation": participation}
    data = {"kind": "digits", "sites": 8, "public": 0.05}
    return {"name": "small", "data": data, "model": "logistic", "federation": federation}


def resolved(**participation):
    return Study.of(small(**participation)).plan().spec.federation.configuration()


def test_it_stands_in_the_recipe_with_every_default() -> None:
    assert resolved()["participation"] == {
        "sampling": "fixed",
        "availability": 1.0,
        "dropout": 0.0,
        "stragglers": 0.0,
        "straggler-work": 0.0,
        "late-joiners": 0.0,
        "join-round": 1,
        "minimum-cohort": 1,
    }
    assert digest(resolved()) == digest(resolved(sampling="fixed")) != digest(resolved(dropout=0.1))


@pytest.mark.parametrize(
    ("knobs", "line"),
    [
        ({"dropuot": 0.1}, "federation.participation.dropuot: participation has no knob 'dropuot'"),
        ({"dropout": 1.0}, "federation.participation.dropout: 1.0 is out of range"),
        ({"sampling": "often"}, "federation.participation.sampling: 'often' is not"),
        ({"join-round": 7, "late-joiners": 0.5}, "federation.participation.join-round: nobody joins in round 7 of 6"),
        ({"minimum-cohort": 5}, "federation.participation.minimum-cohort: a round has at most 4 updates and needs 5"),
    ],
)
def test_what_is_wrong_is_one_line_that_names_the_place(knobs, line) -> None:
    with pytest.raises(Refused) as refused:
        Study.of(small(**knobs)).plan()
    assert str(refused.value).startswith(line)


def rounds(folder):
    return [json.loads(line) for path in folder.rglob("rounds.jsonl") for line in path.read_text().splitlines()]


def test_events_are_named_round_by_round_and_only_what_was_merged_counts_as_trained_on(tmp_path) -> None:
    knobs = {"availability": 0.7, "dropout": 0.3, "stragglers": 0.3, "minimum-cohort": 2}
    table = {**small(**knobs), "attacks": ["loss-threshold"]}
    done = Study.of(table).run(tmp_path, quiet=True)
    said = rounds(done.folder)
    assert len(said) == 6 and any(r["aborted"] for r in said) and not all(r["aborted"] for r in said)
    for r in said:
        assert len(r["absent"]) == r["absent_count"] <= 8 and not set(r["absent"]) & set(r["cohort"])
        assert set(r["dropped"]) | set(r["late"]) <= set(r["cohort"])
        usable = len(r["cohort"]) - len(r["dropped"]) - len(r["late"])
        assert r["aborted"] == ("" if usable >= 2 else f"{usable} of 2 updates")
    assert not done.outcome.failed


@pytest.mark.parametrize(("knobs", "asked"), [({"assess": "cohort"}, 4), ({}, 8)])
def test_the_cohort_or_all_judge_the_model_every_so_many_rounds_and_after_the_last(tmp_path, knobs, asked) -> None:
    table = small()
    table["federation"] |= {"assess-every": 4, **knobs}
    said = rounds(Study.of(table).run(tmp_path, quiet=True).folder)
    assert [len(r["sites"]) for r in said] == [0, 0, 0, asked, 0, asked]
    assert [r["mean_accuracy"] is None for r in said] == [True, True, True, False, True, False]
    assert all({s["site"] for s in r["sites"]} in (set(), set(r["cohort"])) for r in said if knobs)
