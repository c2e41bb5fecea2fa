"""Whole studies with claims per patient, per site, under replace-one and under a budget: planned, run, said."""

import json

import numpy as np
import pytest

from consilium import Study
from consilium.core.charge import Composed
from consilium.core.errors import Unlawful
from consilium.federate.checkpoint import load_checkpoint
from consilium.measure.accounting.privacy import epsilon
from consilium.study.run.plan_summary import plan_summary

PATIENT = {"kind": "dp-sgd", "noise-multiplier": 1.5, "delta": 1e-3, "unit": "patient"}
SITE = {"kind": "dp-fed-avg", "noise-multiplier": 1.0, "delta": 1e-2, "clip": 0.5}


@pytest.fixture
def tables(tmp_path):
    """A table of 240 patients with one to five records each, at two sites."""
    g = np.random.default_rng(0)
    patient = np.repeat(np.arange(240), g.integers(1, 6, 240))
    label = (patient % 2).astype(np.int64)
    x = np.clip(0.5 + 0.2 * (label[:, None] - 0.5) + 0.1 * g.standard_normal((len(patient), 6)), 0, 1)
    np.savez(tmp_path / "visits.npz", x=x.astype(np.float32), y=label, units=patient)
    return {
        "name": "units",
        "threads": 1,
        "data": {"kind": "npz", "path": str(tmp_path / "visits.npz"), "classes": ["no", "yes"], "sites": 2},
        "model": "logistic",
        "federation": {"kind": "fed-avg", "rounds": 4, "batch": 16, "lr": 0.3},
        "attacks": [],
    }


def many(tables, **federation):
    """The same with breast-cancer's records over many sites, each in a round by its own coin."""
    data = {"kind": "breast-cancer", "sites": 40, "partition": "iid", "public": 0.0}
    shape = {"kind": "fed-avg", "rounds": 5, "batch": 4, "lr": 0.3, "fraction": 0.5, **federation}
    shape.setdefault("participation", {"sampling": "poisson"})
    return {**tables, "data": data, "federation": shape}


def varied(tables, *defences):
    return {**tables, "vary": {"privacy": [list(defences)]}}


def run(tables, tmp_path):
    """Evidence of the defended cell, its round reports and its training."""
    results = Study.of(tables).run(tmp_path / "out", quiet=True)
    assert not results.outcome.failed
    cells = [json.loads(p.read_text()) for p in (results.folder / "cells").glob("*/evidence.json")]
    (cell,) = (c for c in cells if c["cell"]["arm"] != "none")
    folder = results.folder / "trainings" / cell["training"]
    rounds = [json.loads(line) for line in (folder / "rounds.jsonl").read_text().splitlines()]
    return cell["privacy"], rounds, folder


def refusal(tables, law):
    with pytest.raises(Unlawful) as caught:
        Study.of(tables).plan()
    assert f"(LAWS {law})" in str(caught.value) and caught.value.remedy
    return str(caught.value)


# --- patients


def test_a_claim_per_patient_counts_patients_and_is_what_the_plan_said(tables, tmp_path):
    study = varied(tables, PATIENT)
    plan = Study.of(study).plan()
    data = plan.materials.consortium(0)
    planned = next(claims for claims in plan.claims.values() if claims)
    privacy, _, folder = run(study, tmp_path)
    assert privacy["claims"] == [claim.to_json() for claim in planned]
    assert privacy["unit"] == "patient" and privacy["adjacency"] == "add-or-remove-one"
    for claim, site in zip(privacy["claims"], data.sites, strict=True):
        patients = len(site.records.train.units.unique())
        assert claim["n"] == patients < len(site.records.train)
        assert claim["steps"] == 4 * -(-patients // 16) and claim["batch_size"] == 16
        assert "the server, the other sites" in claim["against"] and claim["n_public"]
    _, sites = load_checkpoint(folder / "checkpoint.safetensors")
    spent = [epsilon(state.ledger, 1e-3).epsilon for state in sites.values()]
    assert privacy["epsilon"] == pytest.approx(max(spent))


def test_data_without_patients_are_refused_with_the_reason(tables):
    said = refusal(varied({**tables, "data": {"kind": "breast-cancer", "sites": 2}}, PATIENT), 6)
    assert "names no patients" in said and 'unit = "example"' in said


def test_law_13_the_plan_says_epsilon_of_each_cell_and_the_noise_that_would_do(tables):
    study = varied(tables, PATIENT)
    study["seeds"], study["corruptions"] = [0, 1], [{"kind": "label-flip", "sites": 1}]
    made = Study.of(study).plan()
    (arm,) = (a for a in plan_summary(made, None)["arms"] if a["arm"] != "none")
    assert (arm["unit"], arm["adjacency"], arm["delta"]) == ("patient", "add-or-remove-one", 1e-3)
    assert len(arm["cells"]) == 4 and all(0 < cell["epsilon"]["patient"] <= arm["epsilon"] for cell in arm["cells"])
    loud = varied({**tables, "max-epsilon": 1.0}, PATIENT)
    said = refusal(loud, 13)
    needed = float(said.split("a noise multiplier of ")[1].split()[0])
    quiet = varied({**tables, "max-epsilon": 1.0}, {**PATIENT, "noise-multiplier": needed})
    assert Study.of(quiet).plan().claims
    assert refusal(varied({**tables, "max-epsilon": 1.0}, {**PATIENT, "noise-multiplier": needed * 0.98}), 13)


def test_replace_one_is_claimed_and_calibrated_as_such(tables):
    claims = {}
    for adjacency in ("add-or-remove-one", "replace-one"):
        target = {"kind": "dp-sgd", "epsilon": 3.0, "delta": 1e-4, "adjacency": adjacency}
        plan = Study.of(varied(tables, target)).plan()
        claims[adjacency] = next(made for made in plan.claims.values() if made)
    for added, replaced in zip(*claims.values(), strict=True):
        assert 2.98 < replaced.epsilon <= 3.0 and replaced.adjacency == "replace-one"
        assert replaced.noise_multiplier > added.noise_multiplier
        assert added.n_public and not replaced.n_public


# --- a budget


def test_training_stops_before_the_round_that_would_overspend(tables, tmp_path):
    budget = {"kind": "dp-sgd", "noise-multiplier": 1.0, "epsilon": 3.0, "delta": 1e-3}
    tables["federation"]["rounds"] = 12
    study = varied(tables, budget)
    planned = next(made for made in Study.of(study).plan().claims.values() if made)
    privacy, rounds, folder = run(study, tmp_path)
    assert privacy["claims"] == [claim.to_json() for claim in planned]
    done = len(rounds)
    assert 1 <= done < 12 and privacy["epsilon"] <= 3.0
    worst = max(privacy["claims"], key=lambda claim: claim["epsilon"])
    _, sites = load_checkpoint(folder / "checkpoint.safetensors")
    (charge,) = sites[worst["site"]].ledger
    one_more = Composed(charge.inner, charge.count * (done + 1) // done)
    assert epsilon([one_more], 1e-3).epsilon > 3.0
    stopped = json.loads((folder / "training.json").read_text())["stopped"]
    assert stopped.startswith(f"stopped before round {done + 1} of 12")
    assert any(stopped in note for note in privacy["notes"])
    again = Study.of(study).run(tmp_path / "out", quiet=True).outcome
    assert again.trained == 0 and not again.failed  # it is done, and is not begun again


def test_a_budget_of_not_even_one_round_is_refused_with_numbers(tables):
    none = {"kind": "dp-sgd", "noise-multiplier": 0.6, "epsilon": 0.1, "delta": 1e-3}
    said = refusal(varied(tables, none), 7)
    assert "one round of" in said and "the budget is 0.1" in said and "noise-multiplier of" in said


# --- sites


def test_a_claim_per_site_is_of_all_planned_rounds_and_trusts_the_server(tables, tmp_path):
    privacy, rounds, _ = run(varied(many(tables), SITE), tmp_path)
    (claim,) = privacy["claims"]
    assert (claim["site"], claim["unit"], claim["n"], claim["steps"]) == ("every site", "site", 40, 5)
    assert claim["sampler"] == "Poisson sampling of sites" and "the server is trusted" in claim["against"]
    assert privacy["unit"] == "site" and privacy["epsilon"] == claim["epsilon"]
    assert any("trusts the server" in note for note in privacy["notes"])
    assert len(rounds) == 5 and not any(r["aborted"] for r in rounds)


def test_few_sites_are_refused_with_numbers(tables):
    few = many(tables, rounds=50, fraction=1.0, participation={})
    few["data"]["sites"] = 5
    said = refusal(varied(few, SITE), 13)
    assert "epsilon = 40.59 per site at every site" in said and "n = 5" in said
    said = refusal(varied(few, {**SITE, "delta": 0.2}), 7)
    assert "delta = 0.2 is not below 1/n = 0.2 for 5 sites" in said


@pytest.mark.parametrize(
    ("federation", "knobs", "law", "words"),
    [
        ({"participation": {}}, {}, 15, "fixed number"),
        ({"weights": "records"}, {}, 15, "weights by records"),
        ({"participation": {"sampling": "poisson", "minimum-cohort": 3}}, {}, 15, "aborted"),
        ({"kind": "ditto"}, {}, 15, "ditto"),
        ({"kind": "fed-nova"}, {}, 1, "fed-nova"),
        ({}, {"quantile": 0.5, "noise-multiplier": 3.0}, 9, "counting with noise"),
    ],
)
def test_what_a_claim_per_site_cannot_stand_on_is_refused_by_name(tables, federation, knobs, law, words):
    assert words in refusal(varied(many(tables, **federation), {**SITE, **knobs}), law)


@pytest.mark.parametrize(("kind", "with_it"), [("scaffold", []), ("fed-adam", []), ("fed-avg", ["qsgd"])])
def test_it_works_with_other_algorithms_a_moving_clip_and_codecs(tables, tmp_path, kind, with_it):
    moving = {**SITE, "quantile": 0.5, "noise-multiplier": 1.5}
    study = varied(many(tables, kind=kind, rounds=2), moving, *({"kind": k} for k in with_it))
    study["corruptions"] = [{"kind": "label-flip", "sites": 2}]
    results = Study.of(study).run(tmp_path / "out", quiet=True)
    assert not results.outcome.failed
    for log in (results.folder / "trainings").glob("*/rounds.jsonl"):
        assert not any(json.loads(line)["refused"] for line in log.read_text().splitlines())


def test_a_site_and_an_example_have_claims_of_their_own(tables):
    own = {"kind": "dp-sgd", "noise-multiplier": 2.0, "delta": 1e-3}
    plan = Study.of(varied(many(tables), own, SITE)).plan()
    made = next(claims for claims in plan.claims.values() if claims)
    assert {claim.unit for claim in made} == {"example", "site"} and len(made) == 41
