"""Personalised algorithms: a model per site is stored, sealed and judged where its records are."""

import csv
import json
from dataclasses import replace

import pytest
import torch

import consilium
from consilium import Study
from consilium.core.errors import Failed, Refused
from consilium.core.finding import Measure
from consilium.core.random import Stream
from consilium.core.records import Limits
from consilium.federate.algorithms.ditto import Ditto
from consilium.federate.checkpoint import load_checkpoint
from consilium.federate.client.participant import SiteState
from consilium.measure.intervals import wilson
from consilium.report.load.read import read_study
from consilium.report.render.table import write_csv
from consilium.study.evaluate.personalised import Personal, site_file
from consilium.study.spec.arms import Arm


def study(**changes):
    knobs = {
        "name": "own",
        "data": {"kind": "breast-cancer", "sites": 3, "partition": {"kind": "dirichlet", "alpha": 0.5}},
        "model": {"kind": "mlp", "hidden": 8},
        "federation": {"kind": "ditto", "rounds": 3, "batch": 16, "lr": 0.3},
        "vary": {"compression": [{"kind": "static-int8"}]},
        "options": {"threads": 1},
    }
    return Study(**{**knobs, **changes})


@pytest.fixture(scope="module")
def ditto(tmp_path_factory):
    return study().run(tmp_path_factory.mktemp("ditto"), quiet=True)


@pytest.fixture(scope="module")
def fed_bn(tmp_path_factory):
    made = study(
        name="bn",
        data={"kind": "digits", "sites": 3, "partition": "unbalanced"},
        model={"kind": "resnet9", "width": 4},
        federation={"kind": "fed-bn", "rounds": 2, "batch": 64},
        vary={},
    )
    return made.run(tmp_path_factory.mktemp("bn"), quiet=True)


def evidence(results, arm=0):
    cell = results.plan.cells[arm]
    folder = results.folder / "cells" / cell.digest
    found = json.loads((folder / "evidence.json").read_text())
    assert found["status"] == "ok", found["error"]
    return folder, found, {m["name"]: Measure(**m) for m in found["utility"]}


@pytest.mark.parametrize("arm", [0, 1], ids=["plain", "int8"])
def test_the_figures_are_those_of_the_stored_models(ditto, arm):
    """Recomputed from the files alone, on each site's validation records."""
    folder, _, told = evidence(ditto, arm)
    data = ditto.plan.materials.consortium(0)
    right, n, common = [], [], []
    for site in data.sites:
        model, held = consilium.load(folder, site=site.id), site.records.validation
        right.append(int((model(held.x).argmax(1) == held.y).sum()))
        n.append(len(held))
        common.append(int(held.y.bincount().max()))
    assert min(n) >= 5
    every, worst = told["personal_accuracy"], told["personal_worst_accuracy"]
    assert (every.value, every.n, every.chance) == (sum(right) / sum(n), sum(n), sum(common) / sum(n))
    assert (every.low, every.high) == wilson(sum(right), sum(n))
    k = min(range(3), key=lambda k: right[k] / n[k])
    assert (worst.value, worst.n, worst.chance) == (right[k] / n[k], n[k], common[k] / n[k])
    shared = consilium.load(folder)
    hits = [(shared(s.records.validation.x).argmax(1) == s.records.validation.y).sum() for s in data.sites]
    assert told["shared_accuracy"].value == int(sum(hits)) / sum(n)


def test_each_site_has_the_model_that_the_algorithm_gives_it(ditto):
    cell, data = ditto.plan.cells[0], ditto.plan.materials.consortium(0)
    net = ditto.plan.materials.network(0)
    state, held = load_checkpoint(ditto.folder / "trainings" / cell.training / "checkpoint.safetensors")
    made = ditto.plan.spec.federation.algorithm.bound(net)
    folder, found, _ = evidence(ditto)
    vectors = []
    for site in data.sites:
        vectors.append(net.flatten(consilium.load(folder, site=site.id))[0])
        assert torch.equal(vectors[-1], made.model_for(state.server, held[site.id].algorithm)[0])
    assert not torch.equal(vectors[0], vectors[1])
    assert torch.equal(net.flatten(consilium.load(folder))[0], state.server.params)
    assert any("validation records" in note for note in found["notes"])


def test_models_are_sealed(tmp_path):
    """A site's model that was put in another's place is noticed when the cell is made again."""
    done = study(vary={}).run(tmp_path, quiet=True)
    (cell,) = done.plan.cells
    model = done.folder / "models" / cell.model
    site_file(model, "site-0").write_bytes(site_file(model, "site-1").read_bytes())
    (done.folder / "cells" / cell.digest / "evidence.json").unlink()
    again = study(vary={}).run(tmp_path, quiet=True)
    assert "is not the model that was stored" in again.outcome.failed[cell.label]


def test_an_unknown_site_is_refused_and_so_is_any_where_there_is_one_model(ditto, tmp_path):
    folder, *_ = evidence(ditto)
    with pytest.raises(Refused, match="has no personal model"):
        consilium.load(folder, site="site-9")
    plain = study(name="avg", federation={"kind": "fed-avg", "rounds": 1}, vary={}).run(tmp_path, quiet=True)
    folder, _, told = evidence(plain)
    assert "personal_accuracy" not in told
    assert not (plain.folder / "models" / plain.plan.cells[0].model / "sites").exists()
    with pytest.raises(Refused, match="has no personal model"):
        consilium.load(folder, site="site-0")


def test_without_a_model_for_everyone_the_cell_is_the_largest_site(fed_bn):
    folder, found, told = evidence(fed_bn)
    data = fed_bn.plan.materials.consortium(0)
    largest = max(data.sites, key=lambda s: len(s.records.train)).id
    assert any(f"is that of {largest}" in note for note in found["notes"])
    x = data.test.x[:20]
    assert torch.equal(consilium.load(folder)(x), consilium.load(folder, site=largest)(x))
    other = next(s.id for s in data.sites if s.id != largest)
    assert not torch.equal(consilium.load(folder)(x), consilium.load(folder, site=other)(x))
    assert told["personal_accuracy"].value is not None
    assert told["shared_accuracy"].value is None
    assert "no model for everyone" in told["shared_accuracy"].reason


def test_only_the_arms_that_are_personal_have_such_models(tmp_path):
    """An axis of algorithms: each arm is judged as its own algorithm says."""
    asked = study(name="axis", federation={"kind": "scaffold", "rounds": 2}, vary={"algorithm": ["ditto", "fed-dyn"]})
    results = asked.run(tmp_path, quiet=True)
    assert [cell.arm.name for cell in results.plan.cells] == ["scaffold", "ditto", "fed-dyn"]
    for arm, personal in enumerate((False, True, False)):
        _, _, told = evidence(results, arm)
        assert ("personal_accuracy" in told) == personal
        assert (results.folder / "models" / results.plan.cells[arm].model / "sites").exists() == personal


def test_the_table_has_the_figures(ditto, fed_bn):
    for results in (ditto, fed_bn):
        _, _, told = evidence(results)
        with write_csv(results.folder).open(newline="") as file:
            row = next(csv.DictReader(file))
        for name in ("personal_accuracy", "personal_worst_accuracy"):
            assert float(row[name]) == pytest.approx(told[name].value)


def test_fed_bn_without_normalisation_layers_is_refused_before_anything_is_trained(tmp_path):
    with pytest.raises(Refused, match="normalisation layers"):
        study(federation={"kind": "fed-bn", "rounds": 1}).plan()
    with pytest.raises(Refused, match="normalisation layers"):
        study(vary={"algorithm": ["scaffold", "fed-bn"]}).plan()


def personal(results, limits=None, states=None, made=None):
    """The models of a study's first training, with other limits or states."""
    cell, data = results.plan.cells[0], results.plan.materials.consortium(0)
    state, held = load_checkpoint(results.folder / "trainings" / cell.training / "checkpoint.safetensors")
    sites = tuple(replace(site, limits=(limits or {}).get(site.id, site.limits)) for site in data.sites)
    net, folder = results.plan.materials.network(0), results.folder / "models" / cell.model
    made, states = made or results.plan.spec.federation.algorithm.bound(net), held if states is None else states
    asked = frozenset(site.id for site in sites)
    return Personal(
        made, state.server, states, net, sites, Arm("none", {}, ()), data.public, data.task, folder, Stream(0), asked
    )


def judged(results, limits):
    own = personal(results, limits)
    return {m.name: m for m in own.judge(own.network.module_at(*own.weights()))}


def test_a_site_without_consent_tells_nothing(ditto):
    data = ditto.plan.materials.consortium(0)
    n = {site.id: len(site.records.validation) for site in data.sites}
    silent = judged(ditto, {"site-1": Limits(consent=False)})
    assert silent["personal_accuracy"].n == silent["shared_accuracy"].n == n["site-0"] + n["site-2"]
    few = judged(ditto, {"site-1": Limits(minimum_count=n["site-1"] + 1)})
    assert few == silent != judged(ditto, {})
    nobody = judged(ditto, {site: Limits(consent=False) for site in n})
    assert all(m.value is None and "no consent" in m.reason for m in nobody.values())


def test_a_site_that_never_took_part_is_named_as_such(fed_bn):
    _, held = load_checkpoint(next((fed_bn.folder / "trainings").glob("*/checkpoint.safetensors")))
    largest = personal(fed_bn).weights()
    own = personal(fed_bn, states={"site-0": held["site-0"]})
    assert any("2 of 3 sites never took part" in note for note in own.notes())
    assert any("is that of site-0" in note for note in own.notes())
    assert torch.equal(own.weights()[0], largest[0]) == any("of site-0" in note for note in personal(fed_bn).notes())


def test_models_that_stayed_at_the_sites_have_no_figures_here(ditto, fed_bn):
    """In a deployment only updates and assessments come back."""
    states = {site: SiteState() for site in ("site-0", "site-1", "site-2")}
    own = personal(ditto, states=states)
    assert own.store({}) == {} and own.notes() == []
    figures = own.judge(own.network.module_at(*own.weights()))
    assert all(m.value is None and "stay where they were made" in m.reason for m in figures)
    with pytest.raises(Failed, match="no model for everyone"):
        personal(fed_bn, states=states).weights()


def test_an_algorithm_that_gives_a_site_no_model_fails(ditto):
    class Empty(Ditto):
        def model_for(self, server, kept):
            return None

    with pytest.raises(Failed, match="no model for site"):
        personal(ditto, made=Empty()).weights()


def test_an_own_model_that_diverged_is_not_blamed_on_the_module(tmp_path):
    """Reading back what is not finite gave other answers: NaN is no NaN's equal."""
    results = study(vary={}, federation={"kind": "ditto", "rounds": 2, "lr": 0.3, "lam": 1e6}).run(tmp_path, quiet=True)
    found = json.loads(next(results.folder.glob("cells/*/evidence.json")).read_text())
    assert found["status"] == "failed" and "does not answer as" not in found["error"]
    assert "the own model of site-" in found["error"] and "its training under ditto diverged" in found["error"]
    assert read_study(results.folder).evidence[0].status == "failed", "none of its files was changed by anybody"
