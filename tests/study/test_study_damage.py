"""Every kind of file in a study's folder, deleted, changed in one byte, or replaced by its like: nothing is silent.

Report, run and ``consilium.load`` say so by name, make it again, or give what they gave before.
"""

import json
import shutil

import pytest
import torch

import consilium
from consilium import Study
from consilium.core.errors import ConsiliumError
from consilium.report.load.read import read_study
from consilium.study.progress.callbacks import Watch

KINDS = {
    "study.json": "study.json",
    "evidence": "cells/*/evidence.json",
    "answers": "cells/*/scores.safetensors",
    "evasion": "cells/*/pgd.safetensors",
    "membership": "cells/*/loss-threshold.safetensors",
    "model": "models/*/model.safetensors",
    "recipe": "models/*/recipe.json",
    "training": "trainings/*/training.json",
    "checkpoint": "trainings/*/checkpoint.safetensors",
    "rounds": "trainings/*/rounds.jsonl",
    "engine": "trainings/*/engine.json",
    "shadow": "trainings/*/shadows/*.safetensors",
    "watched": "trainings/*/watched/*.safetensors",
}
UNREAD = {"shadow", "watched"}
"""What only a new attack reads, and the report never."""
MORE = ({"kind": "shokri", "shadows": 2}, {"kind": "update-alignment"})


def spec(*attacks):
    return Study(
        name="damage",
        data={"kind": "breast-cancer", "sites": 3, "non-members": 0.3},
        model="logistic",
        federation={"kind": "fed-avg", "rounds": 2},
        vary={"privacy": [{"kind": "dp-sgd", "noise-multiplier": 1.0, "delta": 1e-3}]},
        corruptions=[{"kind": "label-flip", "sites": 1}],
        attacks=[{"kind": "pgd", "radius": 0.05, "steps": 2}, {"kind": "loss-threshold"}, *attacks],
        options={"threads": 1},
    )


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    out = tmp_path_factory.mktemp("ran")
    spec().run(out, quiet=True)
    return spec(*MORE).run(out, quiet=True).folder  # what is added watches a replay


@pytest.fixture
def folder(ran, tmp_path):
    return shutil.copytree(ran, tmp_path / "damage")


def damage(how, path, folder, pattern):
    if how == "gone":
        path.unlink()
    elif how == "byte":
        data = bytearray(path.read_bytes())
        data[len(data) * 2 // 3] ^= 1
        path.write_bytes(data)
    else:
        others = [p for p in sorted(folder.glob(pattern)) if p.read_bytes() != path.read_bytes()]
        if not others:
            pytest.skip("all of this kind are the same")
        shutil.copy(others[0], path)


def figures(folder):
    """Everything that is measured, by cell, but for what is timed."""
    told = {}
    for cell in read_study(folder).evidence:
        found = {f.name: [m.value for m in f.measures] for f in cell.attacks}
        cost = [m.value for m in cell.cost if m.name != "latency_ratio"]
        told[cell.digest] = ([m.value for m in cell.utility], cell.privacy.epsilon, cost, found)
    return told


def curves(folder):
    drawn = read_study(folder).rounds
    return {digest: [(r.mean_accuracy, r.bytes_up, r.cohort) for r in rounds] for digest, rounds in drawn.items()}


def answers(folder):
    """What every cell's model answers; the refusal where there is one."""
    x, told = torch.linspace(0, 1, 60).reshape(2, 30), {}
    for cell in sorted((folder / "cells").iterdir()):
        try:
            told[cell.name] = consilium.load(cell)(x).tolist()
            assert len(consilium.test_set(cell)) > 0
        except ConsiliumError as error:
            told[cell.name] = str(error)
    return told


def refused(answered):
    return [one for one in answered.values() if isinstance(one, str)]


def is_readable(path):
    try:
        return path.exists() and bool(json.loads(path.read_text()))
    except ValueError:
        return False


@pytest.mark.parametrize("how", ["gone", "byte", "like"])
@pytest.mark.parametrize("kind", KINDS)
def test_no_file_is_damaged_in_silence(folder, kind, how, capsys, consilium_cli):
    before, drawn, loaded = figures(folder), curves(folder), answers(folder)
    assert not refused(loaded) and not read_study(folder).altered
    path = sorted(folder.glob(KINDS[kind]))[0]
    damage(how, path, folder, KINDS[kind])
    if kind == "study.json" and not is_readable(path):
        with pytest.raises(ConsiliumError, match=r"study\.json"):
            read_study(folder)
    else:
        told = read_study(folder).altered
        assert (path.name.partition(".")[0] in " ".join(told)) != (kind in UNREAD), told
        assert consilium_cli("report", folder, "--json").json.get("altered", []) == list(told)
    for cell, answer in answers(folder).items():
        assert answer == loaded[cell] or (isinstance(answer, str) and path.name in answer), answer
    capsys.readouterr()
    outcome = spec(*MORE).run(folder.parent).outcome
    said = capsys.readouterr().err + " ".join(outcome.failed.values())
    after, ok = figures(folder), {cell.digest for cell in read_study(folder).evidence if cell.ok}
    assert {digest: after[digest] for digest in ok} == {digest: before[digest] for digest in ok}
    assert all(curve in ([], drawn[digest]) for digest, curve in curves(folder).items())
    whole = len(ok) == len(before) and curves(folder) == drawn
    assert whole or str(path) in said, said
    if kind not in {"study.json", "model", "recipe", *UNREAD}:
        assert path.name in said, said


@pytest.mark.parametrize("evidence", [True, False], ids=["evidence", "study.json alone"])
def test_a_faked_curve_without_the_record_of_its_training_is_never_sealed(folder, evidence):
    for path in folder.glob("trainings/*/rounds.jsonl"):
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        path.write_text("".join(json.dumps({**line, "mean_accuracy": 0.999}) + "\n" for line in lines))
        path.with_name("training.json").unlink()
    if not evidence:
        shutil.rmtree(folder / "cells")
    study = read_study(folder)
    assert set(study.rounds.values()) == {()} and set(study.unread.values()) == {"was changed after it was written"}
    assert "rounds.jsonl of its training was changed" in " ".join(study.altered)
    outcome = spec(*MORE).run(folder.parent, quiet=True).outcome
    assert len(outcome.failed) == 4 and all("rounds.jsonl" in why for why in outcome.failed.values())
    assert not list(folder.glob("trainings/*/training.json"))
    assert set(read_study(folder).rounds.values()) == {()}


def test_a_training_that_is_run_again_may_be_killed_and_ends_as_what_was_judged(folder, monkeypatch):
    class Stop(BaseException):
        """Whoever pulled the plug."""

    def killed(watch, report, sites):
        raise Stop

    before, drawn, call = figures(folder), curves(folder), Watch.__call__
    for path in folder.glob("trainings/*/checkpoint.safetensors"):
        path.unlink()
    monkeypatch.setattr(Watch, "__call__", killed)
    with pytest.raises(Stop):
        spec().run(folder.parent, quiet=True, executor="serial")
    monkeypatch.setattr(Watch, "__call__", call)
    outcome = spec().run(folder.parent, quiet=True, executor="serial").outcome
    assert (outcome.failed, outcome.trained, outcome.resumed, outcome.attacks_run) == ({}, 4, 1, 0)
    assert curves(folder) == drawn and read_study(folder).altered == ()
    outcome = spec(*MORE).run(folder.parent, quiet=True).outcome
    assert (outcome.failed, outcome.trained, outcome.reused) == ({}, 0, 4)
    assert figures(folder) == before and not refused(answers(folder))


def test_a_training_that_is_run_again_and_ends_otherwise_is_refused(folder):
    """Its weights are not those that were judged: the watching attack changed what its checkpoint holds."""
    for path in folder.glob("trainings/*/checkpoint.safetensors"):
        path.unlink()
    other = Study(**{**vars(spec(*MORE)), "attacks": [*spec(*MORE).attacks, {"kind": "loss-trajectory"}]})
    outcome = other.run(folder.parent, quiet=True).outcome
    assert len(outcome.failed) == 4
    assert all("did not end as the one that was judged" in why for why in outcome.failed.values())


def test_evidence_is_passed_on_without_its_trainings(folder):
    shutil.rmtree(folder / "trainings")
    study = read_study(folder)
    assert study.altered == () and set(study.unread.values()) == {"is not in this folder"}
    assert not refused(answers(folder))
