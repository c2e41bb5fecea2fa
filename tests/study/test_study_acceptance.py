"""Thresholds: refused by name, sealed with their time before the run; a change after the figures is never silent."""

import hashlib
import json

import pytest

from consilium import Study
from consilium.core.errors import Refused
from consilium.core.finding import Measure
from consilium.core.seal import sealed
from consilium.evidence.acceptance import AcceptanceEvidence, ThresholdEvidence
from consilium.evidence.cell import CellEvidence, CellName
from consilium.evidence.finding import FindingEvidence
from consilium.evidence.study import ArmEvidence, RefusalEvidence, StudyEvidence
from consilium.report.analyse.acceptance import acceptance_table, acceptance_view
from consilium.report.load.read import read_study
from consilium.report.render.page import write_page
from consilium.study.evaluate.acceptance import verdicts
from consilium.study.plan.plan import make_plan
from consilium.study.spec.parse import parse

TABLE = {
    "name": "accepting",
    "data": {"kind": "breast-cancer", "sites": 2},
    "model": "logistic",
    "federation": {"kind": "fed-avg", "rounds": 2},
    "vary": {"privacy": [{"kind": "dp-sgd", "epsilon": 8.0, "delta": 1e-3}]},
    "attacks": ["loss-threshold", {"kind": "pgd", "radius": 0.02, "steps": 2}],
    "corruptions": [{"kind": "label-flip", "sites": 1}],
    "threads": 1,
}
ACCURATE = {"measure": "accuracy", "at-least": 0.5}
OTHERS = [
    {"measure": "robust_accuracy", "attack": "pgd", "at-least": 0.0},
    {"measure": "advantage", "attack": "loss-threshold", "arm": "dp-sgd", "at-most": 0.9},
    {"measure": "epsilon", "arm": {"privacy": "dp-sgd"}, "at-most": 8.0},
    {"measure": "epsilon", "arm": "none", "at-most": 8.0},
    {"measure": "accuracy", "corruption": "label-flip", "arm": "none", "at-least": 0.0},
    {"measure": "generalisation_gap", "arm": "none", "at-most": 0.9},
]


def study(*accept, **changes):
    return Study.of({**TABLE, **changes, **({"accept": list(accept)} if accept else {})})


def run(out, *accept, **changes):
    results = study(*accept, **changes).run(out, quiet=True)
    assert not results.outcome.failed
    return json.loads((results.folder / "study.json").read_text(encoding="utf-8")), results


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    return run(tmp_path_factory.mktemp("out"), ACCURATE, *OTHERS)


@pytest.mark.parametrize(
    ("table", "where", "said"),
    [
        ({"measure": "acuracy", "at-least": 0.5}, "measure", "Did you mean 'accuracy'"),
        ({"measure": "advantage", "at-most": 0.5}, "measure", 'Say attack = "loss-threshold"'),
        ({"measure": "accuracy", "attack": "pgd", "at-least": 0.5}, "measure", "Leave out attack"),
        ({"measure": "robust", "attack": "pgd", "at-least": 0.5}, "measure", "Did you mean 'robust_accuracy'"),
        (
            {"measure": "advantage", "attack": "los-threshold", "at-most": 0.1},
            "attack",
            "Did you mean 'loss-threshold'",
        ),
        ({**ACCURATE, "arm": "dpsgd"}, "arm", "Did you mean 'dp-sgd'"),
        ({**ACCURATE, "arm": {"privcy": "dp-sgd"}}, "arm.privcy", "Did you mean 'privacy'"),
        ({**ACCURATE, "arm": {"privacy": "dpsgd"}}, "arm.privacy", "Did you mean 'dp-sgd'"),
        ({**ACCURATE, "corruption": "label"}, "corruption", "Did you mean 'label-flip'"),
        ({**ACCURATE, "corruption": ""}, "corruption", "empty"),
        ({"measure": "accuracy", "atleast": 0.5}, "atleast", "Did you mean 'at-least'"),
        ({"measure": "accuracy", "at-least": float("nan")}, "at-least", "not a finite number"),
        ({"measure": "accuracy", "at-least": float("inf")}, "at-least", "not a finite number"),
        ({"measure": "accuracy", "at-least": True}, "at-least", "number"),
        ({"measure": "accuracy", "at-least": "0.5"}, "at-least", "number"),
        ({"measure": "accuracy", "at-least": 80}, "at-least", "from 0 to 1"),
        ({"measure": "accuracy"}, "", "no bound"),
        ({**ACCURATE, "at-most": 0.9}, "", "two bounds"),
        ({"at-least": 0.5}, "measure", "required"),
        ({"measure": ["accuracy"], "at-least": 0.5}, "measure", "text"),
        ("accuracy", "", "[[accept]]"),
    ],
)
def test_what_is_wrong_is_refused_by_name(table, where, said):
    with pytest.raises(Refused) as refused:
        study(table).plan()
    assert said in str(refused.value) and refused.value.where == f"accept[0]{where and '.'}{where}"


def test_the_same_threshold_twice_is_refused():
    with pytest.raises(Refused, match=r"accept\[1\].*accept\[0\] again"):
        study({**ACCURATE, "arm": "dp-sgd"}, {**ACCURATE, "arm": {"privacy": "dp-sgd"}})


def test_no_digest_depends_on_them():
    tables = [study(*accept, vary={}).table() for accept in ((), (ACCURATE, OTHERS[0]))]
    plain, stating = (make_plan(parse(table)) for table in tables)
    assert [c.digest for c in plain.cells] == [c.digest for c in stating.cells]
    assert plain.trainings.keys() == stating.trainings.keys()


def test_they_are_sealed_with_their_time_before_the_run(first):
    accept = first[0]["accept"]
    assert accept["after_figures"] is False and accept["earlier"] == accept["notes"] == []
    rows = [{k: v for k, v in one.items() if v is not None} for one in accept["thresholds"]]
    resolved = first[0]["resolved"]
    for row in rows:
        if "attack" in row:
            row["attack_configuration"] = resolved["attacks"][row["attack"]]
        if "corruption" in row:
            row["corruption_configuration"] = resolved["corruptions"][row["corruption"]]
    text = json.dumps(sorted(rows, key=lambda r: json.dumps(r, sort_keys=True)), sort_keys=True, separators=(",", ":"))
    assert accept["sha256"] == hashlib.sha256(text.encode()).hexdigest()
    assert accept["stated"] <= first[0]["created"]


def test_the_verdicts_are_those_that_the_figures_allow(first):
    found = {(v["threshold"], v["arm"]): v for v in first[0]["accept"]["verdicts"]}
    assert len(found) == 2 + 2 + 5
    assert all(found[0, arm]["verdict"] == "met" for arm in ("none", "dp-sgd"))
    robust = found[1, "none"]  # all of its interval is above 0, and an attack shows no robustness
    assert robust["low"] > 0 and robust["verdict"] == "undecided" and "stronger" in robust["reason"]
    leak = found[2, "dp-sgd"]
    assert leak["high"] < 0.9 and leak["verdict"] == "undecided" and "stronger" in leak["reason"]
    assert found[3, "dp-sgd"]["verdict"] == "met" and 7 < found[3, "dp-sgd"]["value"] <= 8
    assert found[4, "none"]["verdict"] == "not met" and "no finite epsilon" in found[4, "none"]["reason"]
    assert found[5, "none"]["verdict"] == found[6, "none"]["verdict"] == "met"
    assert all(v["seeds"] == 1 for v in found.values())


def test_page_and_terminal_show_them(first):
    folder = first[1].folder
    view = acceptance_view(read_study(folder))
    assert "stated before any figure was known" in view.statement and "7 thresholds" in view.statement
    assert "9 verdicts" in view.statement and first[0]["accept"]["sha256"] in view.statement
    assert [line.verdict for line in view.lines] == [v["verdict"] for v in first[0]["accept"]["verdicts"]]
    assert acceptance_table(folder).row_count == 9
    page = write_page(folder).read_text(encoding="utf-8")
    assert 'id="accept"' in page and "robust accuracy (pgd) ≥ 0" in page


def test_the_same_again_keeps_its_time_and_others_are_said_to_be_late(tmp_path):
    before, results = run(tmp_path, ACCURATE, vary={}, attacks=[], corruptions=[])
    again, _ = run(tmp_path, ACCURATE, vary={}, attacks=[], corruptions=[])
    assert again["accept"] == before["accept"]
    late, _ = run(tmp_path, {**ACCURATE, "at-least": 0.6}, vary={}, attacks=[], corruptions=[])
    accept = late["accept"]
    assert accept["after_figures"] is True and accept["sha256"] != before["accept"]["sha256"]
    assert [e["sha256"] for e in accept["earlier"]] == [before["accept"]["sha256"]]
    assert accept["earlier"][0]["thresholds"] == before["accept"]["thresholds"]
    assert "stated after the figures were known" in accept["notes"][-1]
    assert before["accept"]["sha256"][:16] in accept["notes"][-1] and accept["sha256"][:16] in accept["notes"][-1]
    page = write_page(results.folder).read_text(encoding="utf-8")
    assert "stated after the figures were known" in page
    gone, _ = run(tmp_path, vary={}, attacks=[], corruptions=[])
    assert "withdrawn after the figures" in gone["accept"]["notes"][-1] and len(gone["accept"]["earlier"]) == 2
    back, _ = run(tmp_path, ACCURATE, vary={}, attacks=[], corruptions=[])
    assert back["accept"]["after_figures"] is True and len(back["accept"]["earlier"]) == 3


def test_a_first_statement_beside_figures_is_late_too(tmp_path):
    none, results = run(tmp_path, vary={}, attacks=[], corruptions=[])
    assert "accept" not in none
    late, _ = run(tmp_path, ACCURATE, vary={}, attacks=[], corruptions=[])
    assert late["accept"]["after_figures"] is True and late["accept"]["earlier"] == []
    for cell in results.folder.glob("cells/*/evidence.json"):  # rounds were assessed, which is a figure
        cell.unlink()
    (results.folder / "study.json").unlink()
    assert run(tmp_path, ACCURATE, vary={}, attacks=[], corruptions=[])[0]["accept"]["after_figures"] is True


def test_a_weaker_attack_under_the_same_name_is_another_statement(tmp_path):
    robust = {"measure": "robust_accuracy", "attack": "pgd", "at-least": 0.1}
    small = {"vary": {}, "corruptions": []}
    before, _ = run(tmp_path, robust, attacks=[{"kind": "pgd", "radius": 0.02, "steps": 2}], **small)
    after, _ = run(tmp_path, robust, attacks=[{"kind": "pgd", "radius": 0.001, "steps": 2}], **small)
    assert after["accept"]["sha256"] != before["accept"]["sha256"] and after["accept"]["after_figures"] is True


def test_a_changed_record_gives_no_earlier_time(tmp_path):
    small = {"vary": {}, "attacks": [], "corruptions": []}
    before, results = run(tmp_path, ACCURATE, **small)
    path = results.folder / "study.json"
    path.write_text(json.dumps({**before, "name": "other"}))
    late, _ = run(tmp_path, ACCURATE, **small)
    assert late["accept"]["after_figures"] is True and "study.json was changed" in late["accept"]["notes"][0]
    path.write_text(json.dumps(sealed({k: v for k, v in before.items() if k not in ("seal", "sealed")})))
    assert run(tmp_path, ACCURATE, **small)[0]["accept"]["stated"] == before["accept"]["stated"]


def record(*, cells, arm=None, measure="accuracy", attack=None):
    accept = AcceptanceEvidence(thresholds=(ThresholdEvidence(measure, attack, at_least=0.5),))
    (made,) = verdicts(StudyEvidence(seeds=(0, 1), arms=(arm or ArmEvidence("none"),), accept=accept), cells)
    return made


def cell(seed, measure, **fields):
    return CellEvidence(cell=CellName(arm="none", seed=seed, infected_by="none"), utility=(measure,), **fields)


def test_a_model_that_is_missing_refused_or_failed_is_undecided():
    good = Measure("accuracy", 0.9, 0.89, 0.91, n=100)
    assert record(cells=[cell(0, good), cell(1, good)]).verdict == "met"
    assert "1 of 2 models" in record(cells=[cell(0, good)]).reason
    lost = record(cells=[cell(0, good), cell(1, Measure.undefined("accuracy", "NaN"))])
    assert lost.verdict == "undecided" and "1 of 2 seeds: NaN" in lost.reason
    refusal = RefusalEvidence(10, "why", "")
    refused = record(cells=[], arm=ArmEvidence("none", {}, "refused", refusal))
    assert refused.verdict == "undecided" and "LAWS 10" in refused.reason
    failed = FindingEvidence(status="failed", measures=(good,))
    under = [cell(s, good, findings={"pgd": failed}) for s in (0, 1)]
    assert "pgd was not run, or failed" in record(cells=under, measure="robust_accuracy", attack="pgd").reason
