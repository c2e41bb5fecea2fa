"""Attacks that watch, in a whole study: live, or at a replay that must end in the stored model."""

import hashlib
import json

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from consilium import Study
from consilium.core.errors import Refused
from consilium.core.seal import file_digest, sealed, unsealed
from consilium.core.sealed_tensors import write_sealed
from consilium.federate.checkpoint import load_checkpoint
from consilium.study.progress.callbacks import Watch

WATCHERS = [{"kind": "update-alignment"}, {"kind": "loss-trajectory"}]
PLAIN = [{"kind": "loss-threshold"}]


class Stop(BaseException):
    """Whoever pulled the plug."""


@pytest.fixture
def study(tables):
    """Two arms, clean and infected; ``int8`` shares its training with the arm without."""
    del tables["vary"]["robustness"], tables["vary"]["privacy"]
    return tables


def run(study, out, attacks, **changes):
    return Study.of({**study, "attacks": attacks, **changes}).run(
        out, quiet=True, executor="serial"
    )  # where it can be cut


def evidence(folder):
    found = [json.loads(path.read_text()) for path in (folder / "cells").glob("*/evidence.json")]
    return {(e["cell"]["arm"], e["cell"]["infected_by"]): e for e in found}


def figures(folder):
    return {
        (*cell, name): (f["status"], f["error"], f["measures"], f["digest"])
        for cell, e in evidence(folder).items()
        for name, f in e["findings"].items()
    }


def files(folder):
    """Every file of trainings and models but what watching adds, by content."""
    paths = [p for room in ("trainings", "models") for p in (folder / room).rglob("*") if p.is_file()]
    return {
        p.relative_to(folder): hashlib.sha256(p.read_bytes()).hexdigest() for p in paths if "watched" not in p.parts
    }


@pytest.fixture(scope="module")
def live(tmp_path_factory, request):
    """One run in which the observers are there from the start, and what it was made of."""
    made = {}

    def get(study):
        key = json.dumps(study, sort_keys=True)
        if key not in made:
            made[key] = run(study, tmp_path_factory.mktemp("live"), PLAIN + WATCHERS)
        return made[key]

    return get


def test_added_later_they_find_what_they_would_have_found_and_change_nothing(study, live, tmp_path):
    there = live(study)
    first = run(study, tmp_path, PLAIN)
    before = files(first.folder)
    later = run(study, tmp_path, PLAIN + WATCHERS)
    assert (later.outcome.trained, later.outcome.attacks_run, later.outcome.attacks_reused) == (0, 8, 4)
    assert figures(later.folder) == figures(there.folder)
    assert {status for status, *_ in figures(there.folder).values()} == {"ok"}
    assert files(later.folder) == before
    watched = [p.name for p in later.folder.glob("trainings/*/watched/*")]
    assert len(watched) == 4 and all(name.endswith(".safetensors") for name in watched)  # two attacks, two trainings
    assert not list(there.folder.glob("trainings/*/watched"))


def test_watching_changes_no_training(study, live, tmp_path):
    alone = run(study, tmp_path, PLAIN)
    seen = live(study)
    assert {p: h for p, h in files(alone.folder).items() if p.name == "model.safetensors"} == {
        p: h for p, h in files(seen.folder).items() if p.name == "model.safetensors"
    }
    plain = [e["findings"]["loss-threshold"]["measures"] for e in evidence(alone.folder).values()]
    assert all(
        m in [e["findings"]["loss-threshold"]["measures"] for e in evidence(seen.folder).values()] for m in plain
    )


def test_killed_and_resumed_they_find_the_same(study, live, tmp_path, monkeypatch):
    call = Watch.__call__

    def cut(watch, report, sites):
        call(watch, report, sites)
        if report["round"] == 2:
            raise Stop

    monkeypatch.setattr(Watch, "__call__", cut)
    with pytest.raises(Stop):
        run(study, tmp_path, PLAIN + WATCHERS)
    monkeypatch.setattr(Watch, "__call__", call)
    resumed = run(study, tmp_path, PLAIN + WATCHERS)
    assert resumed.outcome.resumed == 1
    assert figures(resumed.folder) == figures(live(study).folder)
    assert not list(resumed.folder.glob("trainings/*/watched"))  # nothing had to be replayed


def test_an_attack_added_while_a_training_was_down_is_shown_a_replay(study, live, tmp_path, monkeypatch):
    call = Watch.__call__

    def cut(watch, report, sites):
        call(watch, report, sites)
        if report["round"] == 2:
            raise Stop

    monkeypatch.setattr(Watch, "__call__", cut)
    with pytest.raises(Stop):
        run(study, tmp_path, PLAIN)
    monkeypatch.setattr(Watch, "__call__", call)
    resumed = run(study, tmp_path, PLAIN + WATCHERS)
    assert figures(resumed.folder) == figures(live(study).folder)
    assert len(list(resumed.folder.glob("trainings/*/watched/*.safetensors"))) == 2


def tampered(folder):
    """Change the stored end of every training in one bit, and seal it anew, as one of another machine would be."""
    for path in folder.glob("trainings/*/checkpoint.safetensors"):
        with safe_open(path, framework="pt") as file:
            about, tensors = file.metadata(), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        tensors["server/params"][0] = torch.nextafter(tensors["server/params"][0], torch.tensor(9.0))
        about = {k: v for k, v in unsealed(json.loads(about["about"])).items() if k != "tensors"}
        write_sealed(path, tensors, about)
        record = json.loads(path.with_name("training.json").read_text())
        record["seals"][path.name] = file_digest(path)
        path.with_name("training.json").write_text(json.dumps(sealed(record)))
    top = json.loads((folder / "study.json").read_text())
    for path in folder.glob("cells/*/evidence.json"):
        record = json.loads(path.read_text())
        seals = json.loads((folder / "trainings" / record["training"] / "training.json").read_text())["seals"]
        top["trainings"][record["training"]] = seals
        path.write_text(json.dumps(sealed({**record, "trained": seals})))
    top["cells"] = [{**cell, "seal": None} for cell in top["cells"]]
    (folder / "study.json").write_text(json.dumps(sealed(top)))


def test_a_replay_that_ends_elsewhere_is_a_failed_finding(study, live, tmp_path):
    shape = {**study["federation"], "engine": "loop"}
    first = run(study, tmp_path, PLAIN, federation=shape)
    tampered(first.folder)
    later = run(study, tmp_path, PLAIN + WATCHERS, federation=shape)
    for e in evidence(later.folder).values():
        assert e["status"] == "failed"
        assert e["findings"]["loss-threshold"]["status"] == "ok"
        error = e["findings"]["update-alignment"]["error"]
        assert "the replay of the training ended in another model" in error and "Train in a new folder" in error
        assert e["findings"]["update-alignment"]["measures"] == []
    assert not list(later.folder.glob("trainings/*/watched/*.safetensors"))


def test_the_stacked_engine_agrees_within_its_tolerance(study, live, tmp_path):
    shape = {**study["federation"], "engine": "stacked"}
    first = run(study, tmp_path, PLAIN, federation=shape)  # with its infection: it decides who is asked about
    tampered(first.folder)  # far below the tolerance
    later = run(study, tmp_path, PLAIN + WATCHERS, federation=shape)
    stacked = figures(later.folder)
    assert {status for status, *_ in stacked.values()} == {"ok"}
    for key, (_, _, measures, _) in figures(live(study).folder).items():
        if key in stacked:
            for ours, theirs in zip(stacked[key][2], measures, strict=True):
                assert ours["value"] == pytest.approx(theirs["value"], abs=0.03)


def test_candidates_are_of_the_targets_and_counted(study, live):
    sizes, held = {}, {}
    for path in live(study).folder.glob("cells/*/[!s]*.safetensors"):
        held[path.parent.name, path.stem] = len(load_file(path)["score"])
    record = json.loads((live(study).folder / "study.json").read_text())["data"]
    pools = record["pools"]
    sizes = [a + b for a, b in zip(pools["train"], pools["non_members"], strict=True)]
    corrupted = {name for e in evidence(live(study).folder).values() for name in e["corrupted"]}
    assert len(corrupted) == 1
    for e in evidence(live(study).folder).values():  # a clean model and its twin are asked about the same sites
        honest = [n for name, n in zip(record["sites"], sizes, strict=True) if name not in corrupted]
        assert held[e["cell"]["digest"], "update-alignment"] == sum(honest)
        assert held[e["cell"]["digest"], "loss-trajectory"] == sum(honest) - min(honest)
        for finding in e["findings"].values():
            assert all(m["n"] > 0 for m in finding["measures"])


def test_only_sites_in_the_model_are_asked_about(study, tmp_path):
    """A site that was in no cohort has no members; named as the target, the finding says so."""
    shape = {**study["federation"], "rounds": 1, "fraction": 0.34}
    results = run(study, tmp_path, [{"kind": "update-alignment"}], federation=shape, corruptions=[], vary={})
    (e,) = evidence(results.folder).values()
    cohort = json.loads(next(results.folder.glob("trainings/*/rounds.jsonl")).read_text().splitlines()[0])["cohort"]
    record = json.loads((results.folder / "study.json").read_text())["data"]
    where = record["sites"].index(cohort[0])
    (path,) = results.folder.glob("cells/*/update-alignment.safetensors")
    assert len(load_file(path)["score"]) == record["pools"]["train"][where] + record["pools"]["non_members"][where]
    away = next(name for name in record["sites"] if name not in cohort)
    attacks = [{"kind": "update-alignment", "site": away}]
    results = run(study, tmp_path, attacks, federation=shape, corruptions=[], vary={})
    (e,) = evidence(results.folder).values()
    assert f"no update of {away} is in the model" in e["error"]


def test_what_cannot_watch_is_refused_before_training(study, tmp_path):
    with pytest.raises(Refused, match="'nowhere' is no honest site") as refused:
        run(study, tmp_path, [{"kind": "update-alignment", "site": "nowhere"}])
    assert refused.value.where == "attacks[0].site"
    one = {**study["data"], "sites": 1, "partition": "iid"}
    with pytest.raises(Refused, match="no other honest site"):
        run(study, tmp_path, [{"kind": "loss-trajectory"}], data=one, corruptions=[])


def test_an_audit_has_no_rounds(study, live, tmp_path):
    model = next(live(study).folder.glob("models/*/model.safetensors"))
    audit = {
        "name": "audit", "threads": 1, "data": study["data"],
        "model": {"kind": "file", "path": str(model), "architecture": {"kind": "mlp", "hidden": 16}},
    }  # fmt: skip
    with pytest.raises(Refused, match="a study of a trained model trains nothing"):
        Study.of({**audit, "attacks": WATCHERS}).run(tmp_path, quiet=True)


def test_layers_that_are_not_shared_fail_the_finding_and_nothing_else(tmp_path):
    study = {
        "name": "own-layers", "threads": 1,
        "data": {"kind": "digits", "sites": 2, "public": 0.02, "test": 0.8},
        "model": {"kind": "resnet9", "width": 2, "norm": "batch"},
        "federation": {"kind": "fed-bn", "rounds": 1, "batch": 64, "lr": 0.1},
    }  # fmt: skip
    results = run(study, tmp_path, PLAIN + WATCHERS)
    (e,) = evidence(results.folder).values()
    assert e["findings"]["loss-threshold"]["status"] == "ok"
    assert "no change of a whole model" in e["findings"]["update-alignment"]["error"]
    assert "what is broadcast is no whole model" in e["findings"]["loss-trajectory"]["error"]


def test_the_memory_in_a_checkpoint_is_small(study, live):
    for path in live(study).folder.glob("trainings/*/checkpoint.safetensors"):
        state, _ = load_checkpoint(path)
        assert state.observed
        assert all(t.dim() <= 1 and len(state.observed) == 7 for t in state.observed.values())
