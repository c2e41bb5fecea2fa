"""A given model is judged on records that it was not trained on, wherever its recipe tells which these were."""

import numpy as np
import pytest

from consilium import Study
from consilium.core.errors import Refused

TABLE = {
    "kind": "table",
    "path": "t.csv",
    "label": "ill",
    "patient": "who",
    "ranges": [["age", 0, 1], ["dose", 0, 1]],
    "categories": [["ill", "a", "b"]],
    "sites": 2,
}
NAMELESS = {**{knob: value for knob, value in TABLE.items() if knob != "patient"}, "drop": ["who"]}
ASKED = ["loss-threshold"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder with a table of 120 records of 60 patients, and a model that was trained on it."""
    folder = tmp_path_factory.mktemp("records")
    draws = np.random.default_rng(0)
    rows = [f"{draws.random():.6f},{draws.random():.6f},p{k // 2},{'ab'[k // 2 % 2]}" for k in range(120)]
    for name, some in {"t": rows, "first": rows[:90], "other": [row.replace("0.", "0.9", 1) for row in rows]}.items():
        (folder / f"{name}.csv").write_text("\n".join(["age,dose,who,ill", *some]))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        federation = {"kind": "fed-avg", "rounds": 1, "lr": 0.1}
        table = {"name": "before", "threads": 1, "data": TABLE, "model": "logistic", "federation": federation}
        Study.of(table).run("out", quiet=True, executor="serial")
    return folder


@pytest.fixture
def judged(trained, monkeypatch):
    """The plan of a study of that model on other data."""
    monkeypatch.chdir(trained)
    (file,) = trained.glob("out/before/models/*/model.safetensors")

    def plan(data, **more):
        model = {"kind": "file", "path": str(file), "architecture": {"kind": "logistic"}}
        return Study.of({"name": "after", "threads": 1, "data": data, "model": model, **more}).plan()

    return plan


def trained_on(plan):
    """The inputs that the model was trained on."""
    sites = plan.materials.consortium(0).sites
    return {tuple(row) for site in sites for row in site.records.train.x.tolist()}


def test_its_own_division_is_judged_without_a_caution(judged):
    assert not any("Caution" in note for note in judged(TABLE, attacks=ASKED).materials.consortium(0).notes)


@pytest.mark.parametrize("data", [{**TABLE, "test": 0.4}, NAMELESS, {**TABLE, "path": "first.csv"}])
def test_records_that_it_was_trained_on_are_refused_by_their_number(judged, data):
    inside = trained_on(judged(TABLE))
    one = Study.of({"name": "x", "data": data, "model": "logistic", "federation": {"kind": "fed-avg", "rounds": 1}})
    count = sum(tuple(row) in inside for row in one.plan().materials.consortium(0).test.x.tolist())
    with pytest.raises(Refused, match=rf"trained on {count} of the records that seed 0 holds out") as refused:
        judged(data)
    assert refused.value.where == "model.path" and "divide the data as that training did" in refused.value.remedy


def test_non_members_are_counted_where_membership_is_asked(judged):
    with pytest.raises(Refused, match=r"\d+ of \d+ non-members"):
        judged(NAMELESS, attacks=ASKED)


def test_other_records_are_lawful_under_a_caution(judged):
    notes = judged({**TABLE, "path": "other.csv"}).materials.consortium(0).notes
    assert any(note.startswith("Caution: which records the model") for note in notes)
