"""What a study's evidence says of its merges: weights, shares, and the rounds that made no model."""

import json
from dataclasses import replace

import pytest
import torch

from consilium import Study
from consilium.core.errors import Failed, Refused
from consilium.federate.client.participant import Participant
from consilium.report.render.page import write_page
from consilium.study.evaluate.aggregation_notes import check_rounds, merge_notes
from consilium.study.plan.plan import make_plan
from consilium.study.spec.parse import parse

STUDY = {
    "name": "merged",
    "threads": 1,
    "data": {"kind": "breast-cancer", "sites": 3, "partition": "unbalanced", "exponent": 1.0},
    "model": "logistic",
}
FEDERATION = {"kind": "fed-avg", "rounds": 4, "engine": "loop"}


def study(**more):
    return Study.of({**STUDY, "federation": {**FEDERATION, **more}})


def evidence_of(results):
    (path,) = results.folder.glob("cells/*/evidence.json")
    return json.loads(path.read_text())


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    return study().run(tmp_path_factory.mktemp("plain"), quiet=True)


def sizes(results):
    return {site.id: len(site.records.train) for site in results.plan.materials.consortium(0).sites}


def test_weights_and_shares_stand_in_evidence_and_on_the_page(plain):
    counts, merge = sizes(plain), evidence_of(plain)["merge"]
    total = sum(counts.values())
    assert (merge["kind"], merge["weights"], merge["max_share"], merge["others"]) == ("weighted-mean", "records", 1, 0)
    assert {one["site"]: one["records"] for one in merge["sites"]} == counts
    for one in merge["sites"]:
        assert one["weight"] == counts[one["site"]] and one["share"] == pytest.approx(counts[one["site"]] / total)
    assert merge["largest_share"]["share"] == pytest.approx(max(counts.values()) / total)
    page = write_page(plain.folder).read_text()
    assert "How much each site counts in the merge" in page and "No share is capped" in page
    assert f"{max(counts.values()) / total:.1%}" in page


def test_a_cap_bounds_the_share_and_says_so(plain, tmp_path):
    capped = study(**{"max-share": 0.4}).run(tmp_path, quiet=True)
    merge = evidence_of(capped)["merge"]
    assert max(one["share"] for one in evidence_of(plain)["merge"]["sites"]) > 0.45, "there is something to cap"
    assert max(one["share"] for one in merge["sites"]) == pytest.approx(0.4)
    assert merge["largest_share"]["share"] == pytest.approx(0.4) and merge["max_share"] == 0.4


def test_a_share_below_an_equal_one_is_refused_before_training():
    with pytest.raises(Refused, match=r"federation\.max-share: among 3 sites one has a share of at least 0\.333"):
        study(**{"max-share": 0.3}).plan()
    assert study(**{"max-share": 0.334}).plan(), "what the refusal proposes; 0.333 is refused"
    with pytest.raises(Refused, match=r"Use a max-share of at least 0\.334"):
        study(**{"max-share": 0.333}).plan()


def test_what_caps_nothing_changes_no_digest(plain):
    """A study of an earlier release is the same training; a cap is another one, and a bound of declarations is not."""
    node = next(iter(plain.plan.trainings))
    assert "max-share" not in plain.plan.trainings[node].recipe["federation"]
    assert list(study(**{"max-records": 10**9}).plan().trainings) == [node]
    assert list(study(**{"max-share": 1.0}).plan().trainings) == [node]
    assert list(study(**{"max-share": 0.5}).plan().trainings) != [node]


def test_a_claim_per_site_knows_no_cap():
    table = {
        **STUDY, "data": {"kind": "digits", "sites": 100, "partition": "iid"},
        "federation": {"kind": "fed-avg", "rounds": 1, "weights": "uniform", "max-share": 0.5},
        "vary": {"privacy": [{"kind": "dp-fed-avg", "noise-multiplier": 20.0, "adjacency": "replace-one"}]},
    }  # fmt: skip
    with pytest.raises(Refused, match="Use max-share = 1"):
        make_plan(parse(table))


def broken_from(first, sites):
    """Participants of which ``sites`` send 3e38 in every coordinate from round ``first`` on."""
    work = Participant.work

    def sends(self, broadcast, state):
        update, after = work(self, broadcast, state)
        if self.site.id in sites and broadcast.round >= first:
            payload = {**update.payload, "delta": torch.full_like(update.payload["delta"], 3e38)}
            update = replace(update, payload=payload)
        return update, after

    return sends


def test_one_attacker_is_named_and_the_others_train_on(tmp_path, monkeypatch):
    monkeypatch.setattr(Participant, "work", broken_from(2, {"site-1"}))
    ran = study().run(tmp_path, quiet=True)
    found, rounds = evidence_of(ran), rounds_of(ran)
    assert found["status"] == "ok" and not found["collapsed"]
    assert [[one["site"] for one in line["refused"]] for line in rounds] == [[], ["site-1"], ["site-1"], ["site-1"]]
    assert next(m["value"] for m in found["utility"] if m["name"] == "accuracy") > 0.8


def rounds_of(results):
    (path,) = results.folder.glob("trainings/*/rounds.jsonl")
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_rounds_without_a_model_are_said_and_most_of_them_are_a_failure(tmp_path, monkeypatch):
    """With a minimum cohort of three, one attacker costs every round from the third on; it is not called ok."""
    minimum = {"participation": {"minimum-cohort": 3}}
    monkeypatch.setattr(Participant, "work", broken_from(4, {"site-1"}))
    late = study(**minimum).run(tmp_path / "late", quiet=True)
    assert evidence_of(late)["status"] == "ok"
    assert any(
        "1 of 4 rounds made no model and left the last good one (rounds 4)" in n for n in evidence_of(late)["notes"]
    )
    monkeypatch.setattr(Participant, "work", broken_from(2, {"site-1"}))
    early = study(**minimum).run(tmp_path / "early", quiet=True)
    assert evidence_of(early)["status"] == "failed" and early.outcome.failed
    assert "3 of 4 rounds made no model (rounds 2, 3, 4)" in evidence_of(early)["error"]
    assert "float32 has no square of that" in evidence_of(early)["error"]


def test_absence_alone_is_no_fault_but_is_said_and_a_model_that_no_round_changed_is_none():
    away = [{"round": k, "aborted": "0 of 2 updates", "refused": [], "broken": 0} for k in range(5)]
    some = [*away[:4], {"round": 4, "aborted": "", "refused": [], "broken": 0}]
    check_rounds(some, print)
    assert merge_notes(some) == ["4 of 5 rounds made no model, as too few sites sent an update (rounds 0, 1, 2, 3)"]
    assert merge_notes(some[4:]) == []
    with pytest.raises(Failed, match="none of 5 rounds made a model, so what would be released is the untrained start"):
        check_rounds(away, print)
    with pytest.raises(Failed, match="5 of 5 rounds made no model"):
        check_rounds([{**line, "broken": 1, "aborted": "the merged model is broken"} for line in away], print)
