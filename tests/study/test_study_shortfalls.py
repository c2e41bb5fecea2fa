"""What a study asks for and its data do not have: refused in the plan, or said in plan, evidence and report."""

import json

import numpy as np
import pytest

from consilium import Study
from consilium.core.errors import Refused, Unlawful

BASE = {
    "name": "short",
    "threads": 1,
    "data": {"kind": "breast-cancer", "sites": 2, "public": 0.05},
    "model": "logistic",
    "federation": {"kind": "fed-avg", "rounds": 1},
}


def plan(**changed):
    return Study.of({**BASE, **changed}).plan()


def cautions(**changed):
    return list(plan(**changed).materials.consortium(0).cautions)


@pytest.fixture
def pictures(tmp_path):
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "x.npz", x=rng.random((80, 6, 6)).astype(np.float32), y=np.arange(80) % 3)
    return {"kind": "npz", "path": str(tmp_path / "x.npz"), "sites": 2}


@pytest.mark.parametrize("top", [2, 9])
@pytest.mark.parametrize("more", [{}, {"digits": 15}])
def test_round_answer_that_keeps_every_class_is_unlawful(top, more):
    with pytest.raises(Unlawful, match=rf"top-k = {top} keeps each of the 2 classes \(LAWS 1\)") as refused:
        plan(vary={"answer": [{"kind": "round-answer", "top-k": top, **more}]})
    assert "at most 1" in refused.value.remedy
    assert plan(vary={"answer": [{"kind": "round-answer", "top-k": 1, **more}]}).arms


def test_an_unlawful_arm_can_be_left_out():
    made = plan(vary={"answer": [{"kind": "round-answer", "top-k": 9}]}, unlawful="skip")
    assert made.refused["round-answer"].law == 1 and len(made.cells) == 1


def test_top_k_below_the_classes_is_lawful(pictures):
    assert not plan(data=pictures, vary={"answer": [{"kind": "round-answer", "top-k": 2}]}).refused


def test_augmentation_of_what_is_no_image_is_unlawful(pictures):
    with pytest.raises(Unlawful, match=r"inputs have shape \(30,\) \(LAWS 1\)") as refused:
        plan(vary={"aug": [{"kind": "augmentation"}]})
    assert "leave out augmentation" in refused.value.remedy
    with pytest.raises(Unlawful, match=r"larger than shift = 6, and the inputs have shape \(1, 6, 6\)"):
        plan(data=pictures, vary={"aug": [{"kind": "augmentation", "shift": 6}]})
    assert not plan(data=pictures, vary={"aug": [{"kind": "augmentation", "shift": 5}]}).refused


def test_queries_of_views_of_what_is_no_image_are_refused(pictures):
    attack = {"kind": "lira", "shadows": 4, "queries": 2}
    with pytest.raises(Refused, match=r"only images can be flipped and shifted.*shape \(30,\)") as refused:
        plan(attacks=[attack])
    assert refused.value.where == "attacks[0].queries" and refused.value.remedy == "use queries = 1"
    assert plan(attacks=[{**attack, "queries": 1}]).cells and plan(data=pictures, attacks=[attack]).cells


def test_fewer_public_records_than_asked_for_are_said(tmp_path):
    vary = {"size": [{"kind": "static-int8", "calibration": 1_000_000}]}
    study = Study.of({**BASE, "vary": vary})
    public = len(study.plan().materials.consortium(0).public)
    note = f"static-int8 was to use 1000000 public records, and there are {public}: all of them are used"
    assert cautions(vary=vary) == [note]
    results = study.run(tmp_path, quiet=True)
    assert note in json.loads((results.folder / "study.json").read_text())["data"]["notes"]
    assert all(note in json.loads(p.read_text())["notes"] for p in results.folder.glob("cells/*/evidence.json"))
    assert not cautions(vary={"size": [{"kind": "static-int8", "calibration": public}]})
    assert not cautions(vary={"size": [{"kind": "static-int8"}]})  # a default asks for nothing


def test_the_command_line_and_the_page_say_it(tmp_path, consilium_cli):
    (tmp_path / "s.toml").write_text(
        'name = "short"\nthreads = 1\nmodel = "logistic"\ndata = { kind = "breast-cancer", sites = 2 }\n'
        'federation = { kind = "fed-avg", rounds = 1, batch = 5000 }\n'
    )
    said = "federation.batch = 5000, and no site has more than"
    ran = consilium_cli("run", "s.toml", cwd=tmp_path)
    assert ran.code == 0 and said in ran.err
    assert said in (tmp_path / "out" / "short" / "report.html").read_text(encoding="utf-8")
    done = consilium_cli("plan", "s.toml", "--json", cwd=tmp_path).json
    assert len(done["notes"]) == 1 and done["notes"][0].startswith(said)
    assert said in consilium_cli("plan", "s.toml", cwd=tmp_path).out.replace("\n", " ")


def test_batches_and_canaries_beyond_the_records():
    federation = BASE["federation"]
    most = max(len(site.records.train) for site in plan().materials.consortium(0).sites)
    assert not cautions(federation={**federation, "batch": most})
    (note,) = cautions(federation={**federation, "batch": most + 1})
    assert f"no site has more than {most} training records" in note
    audit = {"attacks": [{"kind": "one-run-audit"}]}
    assert not cautions(audit={"canaries": 50}, **audit)
    notes = cautions(audit={"canaries": 2000}, **audit)
    assert len(notes) == 2 and "canaries are trained on at site-0 beside" in notes[0]
