"""Shadows of a study: the same defended training on other records, made once, shared, and gone on with after a kill."""

import json

import pytest
import torch

import consilium
from consilium import Study
from consilium.core.errors import Failed, Refused
from consilium.core.random import Stream
from consilium.core.update import Update
from consilium.federate.client.participant import Participant
from consilium.study.evaluate import shadow_training as module
from consilium.study.evaluate.shadow_training import Retraining
from consilium.study.plan.shadow_pool import ShadowPool
from consilium.study.run.plan_summary import plan_summary
from consilium.study.store.store import Store

DEFENDED = {
    "labels": [{"kind": "label-randomised-response", "epsilon": 3.0}],
    "privacy": [{"kind": "dp-sgd", "noise-multiplier": 1.0, "delta": 1e-3}],
    "norm": [{"kind": "norm-bound", "bound": 0.5}],
    "merge": [{"kind": "median"}],
    "compression": [{"kind": "static-int8"}],
    "answer": [{"kind": "round-answer", "digits": 2}],
}


@pytest.fixture
def study(tables):
    """One arm, clean, on small tables, with two attacks that share shadows."""
    tables["federation"] |= {"rounds": 2, "local-epochs": 1, "workers": 1}
    attacks = [{"kind": "lira", "shadows": 4}, {"kind": "rmia", "shadows": 3}]
    return {**tables, "vary": {}, "attacks": attacks, "corruptions": []}


class Made:
    """A finished study, and the shadows of one of its cells."""

    def __init__(self, study, out, pick):
        results = Study.of(study).run(out, quiet=True)
        assert not results.outcome.failed, results.outcome.failed
        self.folder, self.plan = results.folder, Study.of(study).plan()
        self.cell = next(cell for cell in self.plan.cells if pick(cell))
        self.evidence = json.loads((self.folder / "cells" / self.cell.digest / "evidence.json").read_text())
        self.data = self.plan.materials.consortium(self.cell.seed)
        honest = [s.id for s in self.data.sites if s.id not in self.evidence["corrupted"]]
        self.trained = []
        done = lambda: self.trained.append(1)  # noqa: E731
        self.shadows = Retraining(self.plan, self.cell, Store(self.folder), tuple(honest), done)
        train = torch.cat([s.records.train.ids for s in self.data.sites if s.id in honest])
        self.members = torch.isin(self.shadows.pool.records.ids, train)

    def twin(self):
        """The shadow that learned from what the target did, from its seed."""
        return self.shadows.fit(self.members[None], [self.cell.seed])[0]

    def differs(self):
        """By how much the twin's answers differ from the target's, at most."""
        target = consilium.load(self.folder / "cells" / self.cell.digest)
        x = self.data.test.x
        with torch.no_grad():
            return float((self.twin().module(x) - target(x)).abs().max())


def undefended(monkeypatch):
    """From now on shadows are trained as if there were no defences: the stub that must be caught."""
    exchange = module.exchange

    def stub(spec, arm, *rest):
        return exchange(spec, type(arm)(arm.name, arm.choices, ()), *rest)

    monkeypatch.setattr(module, "exchange", stub)


def test_a_shadow_of_the_targets_own_records_and_seed_is_the_target(study, tmp_path):
    """Through every moment of defence: data, training, update, merge, model, answer."""
    vary = {axis: choice for axis, choice in DEFENDED.items() if axis != "labels"}
    made = Made({**study, "vary": vary, "attacks": []}, tmp_path, lambda cell: "none" not in cell.arm.choices.values())
    assert len(made.cell.arm.defences) == 5
    assert made.differs() == 0


def test_a_shadow_ends_as_the_target_does(study, tmp_path):
    """With the average of the server's models, and before the round that the budget does not allow."""
    study["federation"] |= {"rounds": 4, "ema": 0.5}
    budget = {"kind": "dp-sgd", "noise-multiplier": 1.0, "epsilon": 4.0, "delta": 1e-3}
    study |= {"vary": {"privacy": [budget]}, "attacks": []}
    made = Made(study, tmp_path, lambda cell: cell.arm.training)
    rounds = (made.folder / "trainings" / made.cell.training / "rounds.jsonl").read_text().splitlines()
    assert 1 < len(rounds) < 4
    assert made.differs() == 0


def test_the_servers_noise_is_a_shadows_own(study):
    """Noise that all shadows share with the target would be no noise to whoever compares them."""
    site = {"kind": "dp-fed-avg", "noise-multiplier": 1.0, "delta": 1e-3, "clip": 0.5}
    study["data"] |= {"sites": 40, "partition": "iid"}
    study["federation"] |= {"batch": 4, "fraction": 0.5, "participation": {"sampling": "poisson"}}
    plan = Study.of({**study, "vary": {"privacy": [site]}, "attacks": [], "max-epsilon": 1000.0}).plan()
    arm, seed = next(a for a in plan.arms if a.update), plan.spec.seeds[0]
    data, net = plan.materials.consortium(seed), plan.materials.network(seed)

    def merged(*stream):
        merge = module.exchange(plan.spec, arm, seed, None, data, net, *stream).half.merge
        zeros = {name: torch.zeros(shape) for name, shape in {"delta": (net.size,), **merge.expects()}.items()}
        return merge.merge([Update("site-0", 1, 1.0, zeros)], {})[0].payload["delta"]

    assert merged().equal(merged(Stream(seed).child("train")))
    assert not merged().equal(merged(Stream(seed + 1).child("train")))


@pytest.mark.parametrize("kind", ["noise", "mislabelled"])
def test_an_audits_canaries_are_in_no_pool_and_in_every_shadow(study, tmp_path, kind):
    """A pool that holds those whose coin fell on one side would tell every attack the coins."""
    study |= {"attacks": [], "audit": {"canaries": 30, "kind": kind}}
    made = Made(study, tmp_path, lambda cell: True)
    canaries = made.data.canaries
    assert not canaries.among(made.shadows.pool.records).any()
    some = made.members.clone()
    some[made.members.nonzero()[::2]] = False
    for site in made.shadows.pool.divided(made.data, some).sites:
        inside = canaries.among(site.records.train)
        held = next(s.records.train for s in made.data.sites if s.id == site.id)
        assert site.records.train.ids[inside].equal(held.ids[canaries.among(held)]) and inside.any()
    assert made.differs() == 0


def test_data_defences_are_in_a_shadow_too(study, tmp_path):
    study |= {"vary": {"labels": DEFENDED["labels"]}, "attacks": []}
    assert Made(study, tmp_path, lambda cell: cell.arm.data).differs() == 0


def test_shadows_that_ignore_the_defences_are_caught(study, tmp_path, monkeypatch):
    """The test above can fail: without the cell's defences the twin is another model."""
    undefended(monkeypatch)
    study |= {"vary": {"privacy": DEFENDED["privacy"]}, "attacks": []}
    assert Made(study, tmp_path, lambda cell: cell.arm.training).differs() > 0.01


def test_shadows_of_an_infected_model_are_infected(study, tmp_path):
    """The colluders collude in them as they did, on their own records."""
    study |= {"attacks": [], "corruptions": [{"kind": "label-flip", "sites": 1}]}
    made = Made(study, tmp_path, lambda cell: cell.corruption is not None)
    assert len(made.evidence["corrupted"]) == 1 and len(made.shadows.pool.names) == 2
    assert made.differs() == 0


def test_masks_are_honoured_exactly(study, tmp_path, monkeypatch):
    """What a site's gradient rule gets is what the mask includes: neither more nor less, at every site."""
    seen, work = [], Participant.work
    monkeypatch.setattr(
        Participant,
        "work",
        lambda self, *rest: seen.append((self.site.id, self.train.ids.tolist())) or work(self, *rest),
    )
    made = Made({**study, "attacks": []}, tmp_path, lambda cell: True)
    pool, mask = made.shadows.pool, torch.rand(len(made.members), generator=Stream(1).generator()) < 0.4
    seen.clear()
    shadow = made.shadows.fit(mask[None], [7])[0]
    assert torch.equal(shadow.included, mask) and len(seen) == 2 * 3  # rounds x sites
    for site, ids in seen:
        assert sorted(ids) == sorted(pool.records.ids[mask & (pool.site == pool.names.index(site))].tolist())


def test_the_pool_is_members_and_non_members_in_no_order(study):
    data = Study.of(study).plan().materials.consortium(0)
    pool = ShadowPool.of(data, [s.id for s in data.sites], Stream(0))
    train = torch.cat([s.records.train.ids for s in data.sites])
    member = torch.isin(pool.records.ids, train)
    assert pool.sizes.tolist() == [len(s.records.train) for s in data.sites]
    assert len(pool.records) == sum(len(s.records.train) + len(s.records.non_members) for s in data.sites)
    half = len(member) // 2
    assert abs(member[:half].double().mean() - member[half:].double().mean()) < 0.15
    for k, site in enumerate(data.sites):
        own = pool.records.ids[pool.site == k]
        assert set(own.tolist()) == {*site.records.train.ids.tolist(), *site.records.non_members.ids.tolist()}


def test_attacks_share_shadows_and_a_second_run_makes_none(study, tmp_path, monkeypatch):
    made = Made(study, tmp_path, lambda cell: True)
    files = sorted((made.folder / "trainings" / made.cell.training / "shadows").iterdir())
    assert len(files) == 4 and all(f.suffix == ".safetensors" for f in files), "four serve lira's 4 and rmia's 3"
    assert {f["status"] for f in made.evidence["findings"].values()} == {"ok"}
    monkeypatch.setattr(module, "_trained", None)  # whoever trains one now fails
    study["attacks"] = [{"kind": "shokri", "shadows": 4, "examples": 60}]
    results = Study.of(study).run(tmp_path, quiet=True)
    assert not results.outcome.failed and results.outcome.attacks_run == 1


def test_a_killed_run_goes_on_with_the_shadows_that_are_missing(study, tmp_path, monkeypatch):
    class Killed(BaseException):
        pass

    trained, count = module._trained, []

    def dies(*arguments):
        if len(count) == 2:
            raise Killed
        count.append(1)
        return trained(*arguments)

    monkeypatch.setattr(module, "_trained", dies)
    with pytest.raises(Killed):
        Study.of(study).run(tmp_path, quiet=True)
    again = []
    monkeypatch.setattr(module, "_trained", lambda *a: again.append(1) or trained(*a))
    made = Made(study, tmp_path, lambda cell: True)
    assert len(again) == 2
    monkeypatch.setattr(module, "_trained", trained)
    whole = Made(study, tmp_path / "whole", lambda cell: True)
    for name in ("lira", "rmia"):
        assert made.evidence["findings"][name]["measures"] == whole.evidence["findings"][name]["measures"]


def test_workers_make_the_same_shadows(study, tmp_path):
    one = Made(study, tmp_path / "one", lambda cell: True)
    study["federation"]["workers"] = 2
    two = Made(study, tmp_path / "two", lambda cell: True)
    assert one.evidence["findings"]["lira"]["measures"] == two.evidence["findings"]["lira"]["measures"]


def test_every_attack_has_the_same_candidates(study, tmp_path):
    study["attacks"] = [
        {"kind": "loss-threshold"},
        {"kind": "label-gap"},
        {"kind": "blind"},
        {"kind": "lira", "shadows": 2},
    ]
    made = Made(study, tmp_path, lambda cell: True)
    held = {
        name: consilium.core.tensor_files.read_tensors(made.folder / "cells" / made.cell.digest / f"{name}.safetensors")
        for name in made.evidence["findings"]
    }
    for tensors in held.values():
        assert torch.equal(tensors["member"], held["lira"]["member"])
        assert torch.equal(tensors["known"], held["lira"]["known"])


def test_a_claim_bounds_the_figures_beside_it(study, tmp_path):
    study["vary"] = {"privacy": [{"kind": "dp-sgd", "epsilon": 1.0, "delta": 1e-3}]}
    study["attacks"] = [{"kind": "loss-threshold"}, {"kind": "blind"}]
    made = Made(study, tmp_path, lambda cell: cell.arm.training)
    found = {m["name"]: m for m in made.evidence["findings"]["loss-threshold"]["measures"]}
    epsilon, delta = made.evidence["privacy"]["epsilon"], made.evidence["privacy"]["delta"]
    grown = 2.718281828459045**epsilon
    assert found["advantage_bound"]["value"] == pytest.approx((grown - 1 + 2 * delta) / (grown + 1))
    assert found["advantage_bound"]["n"] == found["advantage"]["n"] > 0
    assert "tpr_at_fpr_1_bound" not in found, "no bound beside a figure that is not resolvable"
    assert not any("bound" in m["name"] for m in made.evidence["findings"]["blind"]["measures"])
    clean = Made(study, tmp_path, lambda cell: not cell.arm.training)
    assert not any("bound" in m["name"] for m in clean.evidence["findings"]["loss-threshold"]["measures"])


def test_a_claim_of_sites_bounds_a_record_at_the_epsilon_of_replacing_one(study, tmp_path):
    study["data"] = {**study["data"], "sites": 12}
    study["vary"] = {"privacy": [{"kind": "dp-fed-avg", "noise-multiplier": 8.0, "delta": 1e-2, "clip": 0.5}]}
    study["attacks"] = [{"kind": "loss-threshold"}]
    made = Made(study, tmp_path, lambda cell: cell.arm.merge)
    found = {m["name"]: m for m in made.evidence["findings"]["loss-threshold"]["measures"]}
    privacy = made.evidence["privacy"]
    grown = 2.718281828459045 ** privacy["record_epsilon"]
    assert privacy["record_epsilon"] > 1.5 * privacy["epsilon"]
    assert found["advantage_bound"]["value"] == pytest.approx((grown - 1 + 0.02) / (grown + 1))


def test_a_plan_counts_the_shadows_and_their_time(study, tmp_path):
    plan = Study.of(study).plan()
    before, without = plan_summary(plan, None), plan_summary(Study.of({**study, "attacks": []}).plan(), None)
    assert (before["shadows"], before["shadows_to_do"], without["shadows"]) == (4, 4, 0)
    many = plan_summary(Study.of({**study, "attacks": [{"kind": "lira", "shadows": 2000}]}).plan(), None)
    assert many["expected_seconds"] > 2 * without["expected_seconds"]  # figures are rounded, and a probe is noisy
    made = Made(study, tmp_path, lambda cell: True)
    assert plan_summary(plan, Store(made.folder))["shadows_to_do"] == 0


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"data": {"non-members": 0.0}}, "no non-members"),
        ({"federation": {"kind": "ditto"}}, "ditto leaves a model at every site"),
    ],
    ids=["no non-members", "personal"],
)
def test_what_cannot_be_retrained_is_refused_before_anything_trains(study, change, said):
    for table, knobs in change.items():
        study[table] |= knobs
    with pytest.raises(Refused, match=said) as error:
        Study.of(study).plan()
    assert error.value.where.startswith("attacks[0]") and error.value.remedy


def test_an_audit_is_refused(study, tmp_path):
    made = Made({**study, "attacks": []}, tmp_path, lambda cell: True)
    weights = made.folder / "models" / made.cell.model / "model.safetensors"
    audit = {k: v for k, v in study.items() if k not in ("federation", "corruptions")}
    audit["model"] = {"kind": "file", "path": str(weights), "architecture": study["model"]}
    with pytest.raises(Refused, match="nothing was trained here"):
        Study.of(audit).plan()


def test_a_mask_that_empties_a_site_is_refused(study, tmp_path):
    made = Made({**study, "attacks": []}, tmp_path, lambda cell: True)
    with pytest.raises(Refused, match="leaves site-1 without records"):
        made.shadows.fit((made.shadows.pool.site != 1)[None], [0])


def test_a_shadow_that_was_changed_or_stands_in_anothers_place_is_refused(study, tmp_path):
    made = Made(study, tmp_path, lambda _: True)
    first, second = sorted(made.folder.glob("trainings/*/shadows/*.safetensors"))[:2]
    whole = first.read_bytes()
    for content, why in (
        (whole[:-1] + bytes([whole[-1] ^ 1]), "was changed after it was written"),
        (second.read_bytes(), f"is of shadow '{second.stem}', not of '{first.stem}'"),
    ):
        first.write_bytes(content)
        with pytest.raises(Failed, match=f"{why}.*Delete it to train it again"):
            made.shadows.shadow(first.stem)
    first.write_bytes(whole)
    released = next(made.folder.glob(f"models/*/shadows/{first.stem}.safetensors"))
    kept = released.read_bytes()
    released.write_bytes(kept[:-1] + bytes([kept[-1] ^ 1]))
    with pytest.raises(Failed, match=r"was changed after it was written.*Delete it to store it again"):
        made.shadows.shadow(first.stem)
    released.unlink()
    made.shadows.shadow(first.stem)
    assert released.read_bytes() == kept
