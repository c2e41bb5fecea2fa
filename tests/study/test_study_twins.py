"""A clean model and its infected twin are judged on the same records, and each record is in the same half (LAWS 22)."""

import json

import pytest
import torch
from safetensors.torch import load_file

from consilium import Study
from consilium.core.errors import Refused
from consilium.core.random import Stream
from consilium.core.seal import unsealed
from consilium.study.build.factory import colluders, ever_corrupted
from consilium.study.evaluate.views import candidates
from consilium.study.plan.plan import make_plan
from consilium.study.spec.parse import parse
from consilium.study.store.store import read_stored

STREAM = Stream(0).child("candidates")


def consortium(tables, seed=0):
    return make_plan(parse(tables)).materials.consortium(seed)


def halves(data, asked, stream=STREAM):
    """Which half each record is in, and whether it is a member, by its id."""
    records, member, known = candidates(data, asked, stream)
    return dict(zip(records.ids.tolist(), zip(member.tolist(), known.tolist(), strict=True), strict=True))


def attacked(folder, name):
    found = {}
    for path in (folder / "cells").glob("*/evidence.json"):
        evidence = json.loads(path.read_text())
        key = evidence["cell"]["arm"], evidence["cell"]["infected_by"], evidence["cell"]["seed"]
        found[key] = evidence, load_file(path.parent / f"{name}.safetensors")
    return found


def test_twins_are_asked_about_the_same_records_in_the_same_halves(tiny):
    """Before, the clean ones were asked about all sites' records and the infected about the honest sites' alone."""
    found = attacked(tiny.folder, "loss-threshold")
    (bad,) = {name for evidence, _ in found.values() for name in evidence["corrupted"]}
    (_, first), *others = found.values()
    assert len(first["id"]) == len(first["score"]) == len(first["unit"])
    for evidence, held in others:
        for part in ("id", "unit", "member", "known"):
            assert torch.equal(held[part], first[part]), part
        finding = evidence["findings"]["loss-threshold"]
        assert bad not in finding["asked"] and len(finding["asked"]) == 2
        told = any(f"Not asked about: {bad}" in note for note in finding["notes"])
        assert told == (evidence["cell"]["infected_by"] == "none")
    evasion = [evidence["findings"]["fgsm"] for evidence, _ in found.values()]
    assert all(finding["asked"] is None for finding in evasion)


def test_the_half_of_a_record_follows_from_its_id_whoever_is_asked(tables):
    data = consortium(tables)
    names = [site.id for site in data.sites]
    everyone, some = halves(data, names), halves(data, names[1:])
    assert 0 < len(some) < len(everyone)
    assert {i: everyone[i] for i in some} == some
    assert halves(data, names[1:], Stream(1).child("candidates")) != some  # another seed draws others
    for truth in (True, False):
        known = [half for member, half in everyone.values() if member == truth]
        assert sum(known) == len(known) // 2


def test_the_members_asked_about_are_drawn_by_id_too(tables, monkeypatch):
    from consilium.study.evaluate import views

    monkeypatch.setattr(views, "_MOST_MEMBERS", 60)
    data = consortium(tables)
    names = [site.id for site in data.sites]
    everyone, some = halves(data, names), halves(data, names[1:])
    inside = {i for i, (member, _) in everyone.items() if member}
    home = {i for site in data.sites[1:] for i in site.records.train.ids.tolist()}
    assert len(inside) == 60
    assert inside & home <= {i for i, (member, _) in some.items() if member}


def test_a_patient_is_in_one_half(tables):
    """Her other records would tell of her: a model that nobody has seen would be "known" by them."""
    data = consortium(tables)
    for site in data.sites:
        pools = site.records
        for pool in (pools.train, pools.non_members):
            pool.units.copy_(pool.ids // 4 * 4)
    records, member, known = candidates(data, [site.id for site in data.sites], STREAM)
    for truth in (True, False):
        of = member == truth
        assert not set(records.units[of & known].tolist()) & set(records.units[of & ~known].tolist())
        assert 0.3 < float(known[of].double().mean()) < 0.7


def test_a_keyed_draw_knows_its_address_and_the_id_alone():
    ids = torch.tensor([5, -1, 2**62, 0])
    drawn = STREAM.keyed(ids)
    assert torch.equal(STREAM.keyed(ids.flip(0)).flip(0), drawn) and len(set(drawn.tolist())) == 4
    assert not torch.equal(STREAM.child("other").keyed(ids), drawn)
    assert torch.equal(STREAM.keyed(ids[:0]), ids[:0])
    many = STREAM.keyed(torch.arange(4000)).argsort().double()
    assert abs(float(torch.corrcoef(torch.stack([many, torch.arange(4000).double()]))[0, 1])) < 0.05


def test_without_infections_all_sites_that_took_part_are_asked_about(tables, tmp_path):
    tables |= {"vary": {}, "attacks": ["loss-threshold"], "corruptions": []}
    folder = Study.of(tables).run(tmp_path, quiet=True).folder
    ((evidence, held),) = attacked(folder, "loss-threshold").values()
    finding = evidence["findings"]["loss-threshold"]
    assert finding["asked"] == ["site-0", "site-1", "site-2"] and not finding["notes"]
    data = consortium(tables)
    assert len(held["id"]) == sum(len(s.records.train) + len(s.records.non_members) for s in data.sites)


def test_an_infection_more_asks_again_and_trains_nothing_again(tables, tmp_path):
    """The finding's digest knows whom it asked; the clean training is the one that is there."""
    tables |= {"vary": {}, "attacks": ["loss-threshold", {"kind": "fgsm", "radius": 0.05}], "corruptions": []}
    Study.of(tables).run(tmp_path, quiet=True)
    tables["corruptions"] = [{"kind": "label-flip", "sites": 1}]
    outcome = Study.of(tables).run(tmp_path, quiet=True).outcome
    assert (outcome.trained, outcome.reused) == (1, 1)
    assert (outcome.attacks_run, outcome.attacks_reused) == (3, 1)  # fgsm asks about nobody's records


def test_with_two_infections_nobody_is_asked_about_whom_either_owns(tables):
    tables["corruptions"] = [{"kind": "label-flip", "sites": 1}, {"kind": "adversarial-poisoning", "sites": 2}]
    spec = parse(tables)
    sites = make_plan(spec).materials.consortium(0).sites
    each = [set(colluders(made, sites, 0)) for made in spec.corruptions]
    assert ever_corrupted(spec, sites, 0) == each[0] | each[1] and len(each[0] | each[1]) == 2


def test_a_watcher_that_names_a_site_of_some_infection_is_refused_before_training(tables, tmp_path):
    sites = consortium(tables).sites
    (bad,) = ever_corrupted(parse(tables), sites, 0)
    tables["attacks"] = [{"kind": "update-alignment", "site": bad}]
    with pytest.raises(Refused, match=f"'{bad}' is no honest site"):
        Study.of(tables).plan()
    tables["attacks"][0]["site"] = next(site.id for site in sites if site.id != bad)
    Study.of(tables).plan()


def test_personal_figures_are_of_the_same_sites_in_both_twins(tables, tmp_path):
    tables |= {"vary": {}, "attacks": [], "federation": {**tables["federation"], "kind": "ditto"}}
    folder = Study.of(tables).run(tmp_path, quiet=True).folder
    found = [json.loads(path.read_text()) for path in (folder / "cells").glob("*/evidence.json")]
    counted = [{m["name"]: m["n"] for m in evidence["utility"]} for evidence in found]
    assert len(found) == 2
    assert counted[0]["personal_accuracy"] == counted[1]["personal_accuracy"] > 0
    clean = next(e for e in found if e["cell"]["infected_by"] == "none")
    assert any(note.startswith("Not in those figures: ") for note in clean["notes"])


def test_the_answers_lie_beside_the_evidence_and_give_its_figures(tiny, tables):
    data = consortium(tables)
    for key, evidence in tiny.cells().items():
        assert evidence["scores"] == "scores.safetensors"
        held = load_file(tiny.cell(*key) / "scores.safetensors")
        assert torch.equal(held["id"], data.test.ids) and torch.equal(held["label"], data.test.y)
        assert torch.equal(held["unit"], data.test.units)
        assert torch.equal(held["correct"], held["predicted"] == held["label"])
        accuracy = next(m["value"] for m in evidence["utility"] if m["name"] == "accuracy")
        assert float(held["correct"].double().mean()) == pytest.approx(accuracy, abs=1e-12)


def test_a_cell_of_an_older_run_is_judged_again_and_nothing_else(tables, tmp_path):
    tables |= {"vary": {}, "corruptions": []}
    tables["attacks"] = tables["attacks"][:1]
    folder = Study.of(tables).run(tmp_path, quiet=True).folder
    (path,) = folder.glob("cells/*/evidence.json")
    before, scores = read_stored(path), path.with_name("scores.safetensors")
    held = scores.read_bytes()
    old = {name: value for name, value in unsealed(before).items() if name not in ("scores", "scores_sha256")}
    path.write_text(json.dumps(old))
    (folder / "study.json").unlink()  # which has the seals of its cells
    scores.unlink()
    outcome = Study.of(tables).run(tmp_path, quiet=True).outcome
    assert (outcome.trained, outcome.attacks_run, outcome.attacks_reused) == (0, 0, 1)
    after = read_stored(path)
    assert scores.read_bytes() == held and after["scores"] == before["scores"]
    assert after["utility"] == before["utility"] and after["findings"] == before["findings"]


def test_an_attack_may_not_take_the_name_of_the_cells_own_answers(tables):
    tables["attacks"][0]["name"] = "scores"
    with pytest.raises(Refused, match="names the file of the cell's own answers") as refused:
        Study.of(tables).plan()
    assert refused.value.where == "attacks[0].name"


def test_the_evidence_of_an_infected_private_cell_says_why_it_may_answer_better(tiny):
    for (arm, infected_by, _), evidence in tiny.cells().items():
        said = " ".join(evidence["privacy"]["notes"])
        explained = "obeys no site half" in said and "may answer better" in said and "honest sites only" in said
        assert explained == ("dp-sgd" in arm and infected_by != "none")
