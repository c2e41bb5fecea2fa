"""Backdoors in whole studies: refused in the plan, judged on every model, and their success after every round."""

import json

import pytest

from consilium import Study
from consilium.core.errors import Refused
from consilium.study.evaluate.aggregation_notes import corruption_notes
from consilium.study.plan.checks.corruptions import infection_note
from consilium.study.plan.stage_keys import digest

BACKDOOR = {"kind": "bad-nets", "columns": [0, 1], "values": [1.0, 0.0], "target": 1, "share": 0.9}

TABLES = {
    "name": "planted",
    "threads": 1,
    "data": {"kind": "breast-cancer", "sites": 3, "public": 0.05},
    "model": {"kind": "mlp", "hidden": 16},
    "federation": {"kind": "fed-avg", "rounds": 3, "local-epochs": 2, "batch": 16, "lr": 0.3, "engine": "loop"},
}


def of(tables, *corruptions, **changed):
    return Study.of({**tables, "vary": {}, "attacks": [], "corruptions": list(corruptions), **changed})


@pytest.mark.parametrize(
    ("corruption", "why", "where"),
    [
        ({"rounds": [4]}, "the study has no round 4. Use 1 to 3", "corruptions[0].rounds"),
        ({"rounds": [0, 1]}, "the study has no round 0. Use 1 to 3", "corruptions[0].rounds"),
        ({"rounds": []}, "no round is named", "corruptions[0].rounds"),
        ({"rounds": {"first": 3, "last": 2}}, "first = 3 is after last = 2", "corruptions[0].rounds"),
        ({"rounds": {"until": 2}}, "rounds has no knob 'until'", "corruptions[0].rounds.until"),
        ({"rounds": "all"}, "'all' is not a list", "corruptions[0].rounds"),
        ({"site-share": 0.3}, "a share of 0.3 of 3 sites is none of them", "corruptions[0].site-share"),
        ({"site-share": 1.0}, "1.0 is out of range", "corruptions[0].site-share"),
        ({"site-share": 0.5, "sites": 1}, "two numbers of corrupted sites", "corruptions[0].site-share"),
        ({"sites": 3}, "3 corrupted of 3 sites leave no honest one", "corruptions[0].sites"),
        ({"sites": 4}, "4 corrupted of 3 sites leave no honest one", "corruptions[0].sites"),
        ({"target": 2}, "target = 2 is no class. Use 0 to 1", "corruptions[0].target"),
        ({"columns": [30], "values": [1.0]}, "column 30 of inputs with 30 columns", "corruptions[0].columns"),
        ({"columns": [], "values": [], "size": 2}, "needs pictures", "corruptions[0].size"),
        ({"kind": "a-little-is-enough"}, "1 corrupted of 3 sites give z = 0 by the formula", "corruptions[0].z"),
    ],
)
def test_what_cannot_be_is_refused_in_the_plan(tables, corruption, why, where):
    table = corruption if "kind" in corruption else {**BACKDOOR, **corruption}
    with pytest.raises(Refused) as e:
        of(tables, table).plan()
    assert why in str(e.value) and e.value.where == where


def test_a_schedule_is_part_of_the_training_and_only_where_it_says_something(tables):
    def trained(**more):
        return [c.training for c in of(tables, {"kind": "label-flip", **more}).plan().cells]

    plain = trained()
    assert trained(rounds=[1, 2, 3]) == trained(rounds={}) == plain, "all rounds are what is left out"
    assert trained(rounds=[2])[0] == plain[0], "the clean twin is the same"
    others = {trained(rounds=[2])[1], trained(rounds={"first": 2})[1], trained(**{"site-share": 0.4})[1], plain[1]}
    assert len(others) == 4
    recipe = of(tables, {"kind": "label-flip"}).plan().cells[1].training_recipe
    assert recipe["corruption"] == {"kind": "label-flip", "sites": 1, "share": 1.0, "source": None, "target": None}
    assert digest(recipe) == plain[1]


@pytest.mark.parametrize(("rounds", "said"), [([2], "acts in round 2 alone"), ([1, 3], "acts in rounds 1, 3 alone")])
def test_the_plan_says_when_it_acts(tables, rounds, said):
    plan = of(tables, {**BACKDOOR, "rounds": rounds}).plan()
    note = infection_note(plan.spec.corruptions[0], plan.materials.consortium(0).classes)
    assert note == f"bad-nets plants a backdoor into 'benign', {said}"


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """Two backdoors and a label flip, each twin trained in three rounds."""
    semantic = {"kind": "semantic-backdoor", "source": 1, "target": 0, "rounds": [2, 3], "site-share": 0.7}
    flip = {"kind": "label-flip", "rounds": [1]}
    return of(TABLES, BACKDOOR, semantic, flip).run(tmp_path_factory.mktemp("backdoors"), quiet=True)


def evidence(results):
    found = [json.loads(path.read_text()) for path in results.folder.glob("cells/*/evidence.json")]
    return {e["cell"]["infected_by"]: e for e in found}


def measures(cell, name):
    return {m["name"]: m for m in cell["findings"][f"{name}.success"]["measures"]}


def test_every_model_is_judged_for_every_backdoor(study):
    cells = evidence(study)
    assert cells.keys() == {"none", "bad-nets", "semantic-backdoor", "label-flip"}
    for cell in cells.values():
        assert cell["status"] == "ok" and list(cell["findings"]) == ["bad-nets.success", "semantic-backdoor.success"]
    clean = measures(cells["none"], "bad-nets")["backdoor_success"]
    planted = measures(cells["bad-nets"], "bad-nets")["backdoor_success"]
    assert clean["chance"] is None and planted["chance"] == clean["value"] and planted["n"] == clean["n"] > 30
    assert measures(cells["label-flip"], "bad-nets")["backdoor_success"]["chance"] == clean["value"]
    assert planted["value"] > clean["value"] + 0.2 and planted["low"] > clean["high"]
    assert len(cells["semantic-backdoor"]["corrupted"]) == 2, "70 % of 3 sites"


def test_who_acted_is_in_the_evidence_of_the_infected(study):
    cells = evidence(study)
    assert "adversary" not in cells["none"]
    assert cells["bad-nets"]["adversary"]["nist"] == "NISTAML.023"
    assert cells["label-flip"]["adversary"]["nist"] == "NISTAML.013"
    threat = cells["bad-nets"]["findings"]["bad-nets.success"]["threat"]
    assert (threat["aim"], threat["nist"], threat["ai_act"]) == ("poisoning", "NISTAML.023", "data poisoning")


def test_success_stands_beside_accuracy_after_every_round(study):
    cells = evidence(study)
    for name, cell in cells.items():
        lines = (study.folder / "trainings" / cell["training"] / "rounds.jsonl").read_text().splitlines()
        rounds = [json.loads(line) for line in lines]
        if name in ("none", "label-flip"):
            assert not any("backdoor_success" in r for r in rounds)
            continue
        last, judged = rounds[-1], measures(cell, name)["backdoor_success"]
        assert [r["round"] for r in rounds] == [1, 2, 3] and all(r["backdoor_records"] == judged["n"] for r in rounds)
        assert last["backdoor_success"] == pytest.approx(judged["value"], abs=1e-6), "the released model is the last"


def test_it_is_in_the_table_of_results_and_in_the_files(study):
    table = study.table()
    rows = table[table["measure"] == "backdoor_success:bad-nets.success"].set_index("infected_by")
    assert set(rows.index) == {"none", "bad-nets", "semantic-backdoor", "label-flip"}
    assert rows.loc["bad-nets", "value"] > rows.loc["none", "value"] == rows.loc["bad-nets", "chance"]
    head = (study.folder / "table.csv").read_text().splitlines()[0].split(",")
    for name in ("backdoor_success", "target_rate_without_trigger"):
        assert f"{name}:bad-nets.success" in head and f"{name}:bad-nets.success_low" in head
    page = (study.folder / "report.html").read_text()
    assert "backdoor success" in page and "bad-nets.success" in page


def test_a_corruption_that_never_counted_is_said_so():
    """A refused, absent or silent attacker looks like a defence that holds."""
    quiet = {"dropped": [], "late": [], "refused": [], "aborted": "", "cohort": ["a", "b"]}
    refused = {**quiet, "refused": [{"site": "b", "reason": "its delta is not finite"}]}
    rounds = [{**quiet, "round": 1}, {**refused, "round": 2}, {**quiet, "cohort": ["a"], "round": 3}]
    assert corruption_notes(rounds[:1], ["b"]) == []
    said = corruption_notes(rounds, ["b"])
    assert said[0].startswith("The corruption is not in the model of 2 of 3 rounds in which it acts (rounds 2, 3)")
    assert said[1] == (
        "The server refused b, which is corrupted, in 1 of 3 rounds; in round 2 because: its delta is not finite"
    )
    assert corruption_notes(rounds, ["b"], (1,)) == [] and corruption_notes(rounds, []) == []


def test_a_threshold_can_stand_on_it(tables):
    accept = [{"measure": "backdoor_success", "attack": "bad-nets.success", "corruption": "bad-nets", "at-most": 0.05}]
    of(tables, BACKDOOR, accept=accept).plan()
    with pytest.raises(Refused, match=r"Say attack = \"bad-nets.success\""):
        of(tables, BACKDOOR, accept=[{"measure": "backdoor_success", "at-most": 0.05}]).plan()
