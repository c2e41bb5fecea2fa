"""What is finished stays finished, what failed is tried again, and one failure loses nothing else."""

import dataclasses
import json
import re
import shutil
import threading

import pytest
import torch

from consilium import Study
from consilium.attack.evasion.fgsm import FGSM
from consilium.attack.membership.loss_threshold import LossThreshold
from consilium.core.errors import Failed, Refused
from consilium.defend.model.static_int8 import StaticInt8
from consilium.study.store import store as store_module
from consilium.study.store.store import Store


@pytest.fixture
def study(tables):
    """Four arms, clean only, two attacks."""
    del tables["vary"]["robustness"], tables["attacks"][1]
    return {**tables, "corruptions": []}


def run(study, out):
    results = Study.of(study).run(out, quiet=True, executor="serial")  # what is patched is seen here alone
    return results.outcome, evidence(results.folder)


def evidence(folder):
    found = [json.loads(p.read_text()) for p in (folder / "cells").glob("*/evidence.json")]
    return {e["cell"]["arm"]: e for e in found}


EXPLODING = """
from torch import nn

class Exploding(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(30, 2)

    def forward(self, x):
        return (10 * self.layer(x)).exp()
"""


def break_attack(monkeypatch, error, arm_size=2408):
    """FGSM raises ``error`` where the model is the int8 one."""
    craft = FGSM.craft

    def breaks(self, view, x, y, generator):
        if view.surrogate is not view.module:
            raise error
        return craft(self, view, x, y, generator)

    monkeypatch.setattr(FGSM, "craft", breaks)


@pytest.mark.parametrize(
    "error", [ValueError("broken\nhere"), AssertionError(), AttributeError("x"), Failed("budget"), MemoryError()]
)
def test_a_failed_attack_fails_its_cell_and_no_other(study, tmp_path, monkeypatch, error):
    break_attack(monkeypatch, error)
    outcome, cells = run(study, tmp_path)
    assert {arm: e["status"] for arm, e in cells.items()} == {
        "none": "ok",
        "dp-sgd": "ok",
        "static-int8": "failed",
        "dp-sgd + static-int8": "failed",
    }
    failed = cells["static-int8"]
    assert failed["error"].startswith("fgsm: ") and "\n" not in failed["error"]
    assert failed["findings"]["fgsm"]["status"] == "failed" and failed["findings"]["fgsm"]["error"]
    assert failed["findings"]["loss-threshold"]["status"] == "ok" and failed["utility"]
    assert set(outcome.failed) == {"static-int8 (seed 0)", "dp-sgd + static-int8 (seed 0)"}


def test_a_failed_attack_is_tried_again_and_alone(study, tmp_path, monkeypatch):
    break_attack(monkeypatch, ValueError("broken"))
    _, before = run(study, tmp_path)
    monkeypatch.undo()
    outcome, after = run(study, tmp_path)
    assert (outcome.trained, outcome.attacks_run, outcome.attacks_reused, outcome.failed) == (0, 2, 6, {})
    for arm, cell in after.items():
        assert cell["status"] == "ok" and cell["error"] is None
        assert cell["utility"] == before[arm]["utility"]
        assert cell["findings"]["loss-threshold"] == before[arm]["findings"]["loss-threshold"]
    run(study, tmp_path / "fresh")
    for arm, cell in evidence(tmp_path / "fresh" / "tiny").items():
        assert list(cell["findings"]) == list(after[arm]["findings"])
        assert cell["findings"]["fgsm"]["measures"] == after[arm]["findings"]["fgsm"]["measures"]


def test_a_failed_defence_fails_its_cells_and_no_other(study, tmp_path, monkeypatch):
    def breaks(self, module, public, stream, task):
        raise RuntimeError("no such kernel")

    monkeypatch.setattr(StaticInt8, "apply", breaks)
    outcome, cells = run(study, tmp_path)
    assert len(outcome.failed) == 2 and cells["none"]["status"] == cells["dp-sgd"]["status"] == "ok"
    assert re.fullmatch(r"RuntimeError: no such kernel \(test_study_resume\.py:\d+\)", cells["static-int8"]["error"])


def test_a_training_that_diverges_fails_its_arms_and_says_what_to_do(study, consilium_cli, as_toml, tmp_path):
    study["federation"] |= {"lr": 50.0}
    study["model"] = {"kind": "module", "path": "exploding_net:Exploding", "allow-code": True}
    (tmp_path / "exploding_net.py").write_text(EXPLODING)
    del study["vary"]["compression"]
    (tmp_path / "s.toml").write_text(as_toml(study))
    done = consilium_cli("run", "s.toml", "--json", cwd=tmp_path, env={"PYTHONPATH": str(tmp_path)})
    assert done.code == 3 and "Traceback" not in done.err
    cells = evidence(tmp_path / "out" / "tiny")
    wrong = [e for e in cells.values() if e["status"] == "failed"]
    assert wrong and all("its training failed" in e["error"] for e in wrong)
    assert all("not finite" in e["error"] or "no update" in e["error"] for e in wrong)
    assert done.json["failed"] and {c["status"] for c in done.json["cells"]} <= {"ok", "failed"}


def test_one_broken_training_loses_no_other(study, tmp_path, monkeypatch):
    from consilium.defend.training._dp_sgd_rule import _PrivateOracle

    def breaks(self, params, buffers):
        raise RuntimeError("kernel panic")

    monkeypatch.setattr(_PrivateOracle, "__call__", breaks)
    outcome, cells = run(study, tmp_path)
    assert outcome.trained == 1 and len(outcome.failed) == 2
    assert cells["none"]["status"] == cells["static-int8"]["status"] == "ok"
    assert "round 1.site-0.step 1 of 21: kernel panic" in cells["dp-sgd"]["error"]
    monkeypatch.undo()
    outcome, cells = run(study, tmp_path)
    assert outcome.trained == 1 and outcome.reused == 1 and not outcome.failed
    assert all(e["status"] == "ok" for e in cells.values())


def test_an_attack_that_is_removed_is_set_aside_and_comes_back_for_free(study, finished, tmp_path):
    out = finished(study, tmp_path)
    before = evidence(out / "tiny")
    fewer = {**study, "attacks": study["attacks"][1:]}
    outcome, cells = run(fewer, out)
    assert outcome.attacks_run == 0 and outcome.attacks_reused == 4
    for arm, cell in cells.items():
        assert list(cell["findings"]) == ["loss-threshold"]
        assert cell["set_aside"] == {"fgsm": before[arm]["findings"]["fgsm"]}
        assert len(cell["given"]["attacks"]) == 1
    from consilium import write_csv

    assert "fgsm" not in write_csv(out / "tiny").read_text()
    outcome, cells = run(study, out)
    assert outcome.attacks_run == 0 and outcome.attacks_reused == 8
    assert cells == before


def test_a_removed_attack_that_had_failed_fails_nothing(study, tmp_path, monkeypatch):
    break_attack(monkeypatch, ValueError("broken"))
    run(study, tmp_path)
    outcome, cells = run({**study, "attacks": study["attacks"][1:]}, tmp_path)
    assert not outcome.failed and all(e["status"] == "ok" for e in cells.values())


def test_a_changed_knob_runs_that_attack_again(study, finished, tmp_path):
    out = finished(study, tmp_path)
    before = evidence(out / "tiny")
    study["attacks"][0]["radius"] = 0.1
    outcome, cells = run(study, out)
    assert outcome.attacks_run == 4 and outcome.attacks_reused == 4
    for arm, cell in cells.items():
        assert cell["findings"]["fgsm"]["digest"] != before[arm]["findings"]["fgsm"]["digest"]
        assert cell["findings"]["fgsm"]["configuration"]["radius"] == 0.1


def test_an_axis_that_is_removed_leaves_its_cells_and_the_study_without_them(study, finished, tmp_path):
    out = finished(study, tmp_path)
    del study["vary"]["compression"]
    outcome, _ = run(study, out)
    assert outcome.trained == 0 and outcome.attacks_run == 0
    assert len(list((out / "tiny" / "cells").iterdir())) == 4
    assert len(json.loads((out / "tiny" / "study.json").read_text())["cells"]) == 2


@pytest.mark.parametrize("name", ["evidence.json", "training.json", "recipe.json", "study.json"])
@pytest.mark.parametrize("text", ["", "{", "[]", "null"])
def test_a_record_that_was_damaged_is_made_again(study, finished, tmp_path, name, text):
    out = finished(study, tmp_path)
    before = evidence(out / "tiny")
    for path in out.rglob(name):
        path.write_text(text)
    outcome, cells = run(study, out)
    assert not outcome.failed and outcome.trained in (0, 2)
    for arm, cell in cells.items():
        assert cell["utility"] == before[arm]["utility"] and cell["status"] == "ok"


def test_what_was_deleted_is_made_again(study, finished, tmp_path):
    out = finished(study, tmp_path)
    before = evidence(out / "tiny")
    shutil.rmtree(out / "tiny" / "models")
    outcome, cells = run(study, out)
    assert outcome.trained == 0 and outcome.attacks_run == 0 and cells == before
    assert len(list((out / "tiny" / "models").glob("*/model.safetensors"))) == 4
    shutil.rmtree(out / "tiny" / "trainings")
    outcome, cells = run(study, out)
    assert outcome.trained == 2 and outcome.attacks_run == 0
    shutil.rmtree(out / "tiny" / "cells")
    outcome, cells = run(study, out)
    assert outcome.trained == 0 and outcome.attacks_run == 8
    assert {a: c["utility"] for a, c in cells.items()} == {a: c["utility"] for a, c in before.items()}


def test_a_model_file_that_was_swapped_is_noticed(study, finished, tmp_path):
    """The file must be the one that was stored."""
    out = finished(study, tmp_path)
    cells = evidence(out / "tiny")
    one, other = (out / "tiny" / "models" / cells[arm]["model"] / "model.safetensors" for arm in ("none", "dp-sgd"))
    one.write_bytes(other.read_bytes())
    study["attacks"].append({"kind": "pgd", "steps": 2})
    outcome, cells = run(study, out)
    assert list(outcome.failed) == ["none (seed 0)"]
    assert f"{one} is not the model that was stored" in cells["none"]["error"]
    assert list(cells["none"]["findings"]) == ["fgsm", "loss-threshold"]
    one.unlink()
    outcome, cells = run(study, out)
    assert not outcome.failed and cells["none"]["status"] == "ok"


def test_a_checkpoint_that_was_damaged_says_what_to_delete(study, finished, tmp_path):
    out = finished(study, tmp_path)
    (path,) = [
        p / "checkpoint.safetensors"
        for p in (out / "tiny" / "trainings").iterdir()
        if p.name == evidence(out / "tiny")["none"]["training"]
    ]
    path.write_bytes(path.read_bytes()[:100])
    shutil.rmtree(out / "tiny" / "cells")
    outcome, cells = run(study, out)
    assert set(outcome.failed) == {"none (seed 0)", "static-int8 (seed 0)"}
    assert f"checkpoint {path} is not readable" in cells["none"]["error"]
    assert "Delete it to train again" in cells["none"]["error"]
    path.unlink()
    outcome, _ = run(study, out)
    assert outcome.trained == 1 and not outcome.failed


def test_an_interrupted_attack_loses_only_itself(study, tmp_path, monkeypatch):
    def stops(self, view, memory, generator):
        raise KeyboardInterrupt

    monkeypatch.setattr(LossThreshold, "run", stops)
    with pytest.raises(KeyboardInterrupt):
        run(study, tmp_path)
    (cell,) = evidence(tmp_path / "tiny").values()
    assert cell["status"] == "started" and cell["findings"]["fgsm"]["status"] == "ok"
    monkeypatch.undo()
    outcome, cells = run(study, tmp_path)
    assert (outcome.trained, outcome.reused, outcome.attacks_run, outcome.attacks_reused) == (0, 2, 7, 1)
    assert cells["none"]["findings"]["fgsm"] == cell["findings"]["fgsm"]


def test_two_runs_in_one_folder_are_refused(study, tmp_path):
    store = Store.of(tmp_path, "tiny")
    with store.locked(), pytest.raises(Refused, match="another run is writing to"):
        run(study, tmp_path)
    run({**study, "vary": {}, "attacks": []}, tmp_path)


def test_one_model_under_two_names_is_refused(study):
    study["vary"] = {"x": [{"kind": "prune", "name": "one"}, {"kind": "prune", "name": "two"}]}
    with pytest.raises(Refused, match="one and the same model"):
        Study.of(study).plan()
    study["vary"] = {"x": ["prune"]}
    study["corruptions"] = ["label-flip", {"kind": "label-flip", "name": "again"}]
    with pytest.raises(Refused, match=r"infected by label-flip.*again.* are one and the same model"):
        Study.of(study).plan()


def test_what_a_corruption_cannot_do_is_refused_before_training(study):
    study["corruptions"] = [{"kind": "label-flip", "target": 7}]
    with pytest.raises(Refused, match=r"corruptions\[0\]\.target: target = 7 is no class"):
        Study.of(study).plan()
    study["corruptions"] = [{"kind": "label-flip", "sites": 3}]
    with pytest.raises(Refused, match=r"corruptions\[0\]\.sites: 3 corrupted of 3 sites leave no honest one"):
        Study.of(study).plan()


def test_a_resumed_training_gives_the_same_bits(study, tmp_path, monkeypatch):
    """Stopped after its first round and resumed, against one that was never stopped."""
    from consilium.study.stages import training as module

    study = {**study, "vary": {"privacy": study["vary"]["privacy"]}, "attacks": []}
    run(study, tmp_path / "whole")
    train = module.train

    def stops(*arguments, **knobs):
        *others, progress = arguments

        def after(report, sites):
            progress(report, sites)
            if report["round"] == 1:
                raise KeyboardInterrupt

        return train(*others, after, **knobs)

    monkeypatch.setattr(module, "train", stops)
    with pytest.raises(KeyboardInterrupt):
        run(study, tmp_path / "cut")
    monkeypatch.undo()
    outcome, _ = run(study, tmp_path / "cut")
    assert outcome.resumed == 1 and outcome.trained == 2
    files = sorted(p.relative_to(tmp_path / "whole") for p in (tmp_path / "whole").rglob("*.safetensors"))
    assert len(files) == 6  # two checkpoints, two models, and what each answered
    for file in files:
        assert (tmp_path / "whole" / file).read_bytes() == (tmp_path / "cut" / file).read_bytes()


def test_nothing_global_is_left_behind(study, tmp_path):
    state, frozen = torch.random.get_rng_state(), dataclasses.asdict(Study.of(study))
    threads, study["threads"] = torch.get_num_threads(), torch.get_num_threads() + 1
    run(study, tmp_path)
    assert torch.get_num_threads() == threads
    study["threads"] = 1
    assert torch.equal(torch.random.get_rng_state(), state)
    assert dataclasses.asdict(Study.of(study)) == frozen


def test_a_stop_that_was_swallowed_is_still_a_stop(study, tmp_path, monkeypatch):
    """Ctrl-C inside a lazy import comes back as another error, or not at all: it may not become a failure."""
    from consilium.monitor import interrupt as stop

    monkeypatch.setattr(stop, "_ASKED", threading.Event())

    def swallows(self, module, public, stream, task):
        stop._ASKED.set()
        raise AttributeError("partially initialized module 'sympy' has no attribute 'core'")

    monkeypatch.setattr(StaticInt8, "apply", swallows)
    with pytest.raises(KeyboardInterrupt):
        run(study, tmp_path)
    assert {e["status"] for e in evidence(tmp_path / "tiny").values()} == {"ok"}
    monkeypatch.undo()
    outcome, cells = run(study, tmp_path)
    assert not outcome.failed and len(cells) == 4


@pytest.mark.parametrize("damage", ["gone", "torn"])
def test_a_log_of_rounds_that_is_gone_says_what_to_do(study, finished, tmp_path, damage):
    """Who took part stands only there, and membership is judged by it."""
    out = finished(study, tmp_path)
    path = out / "tiny" / "trainings" / evidence(out / "tiny")["none"]["training"] / "rounds.jsonl"
    whole = path.read_bytes()
    path.unlink() if damage == "gone" else path.write_bytes(whole[:-20])
    shutil.rmtree(out / "tiny" / "cells")
    outcome, cells = run(study, out)
    assert set(outcome.failed) == {"none (seed 0)", "static-int8 (seed 0)"}
    said = "is not there" if damage == "gone" else "is not readable"
    assert f"{path}, the record of who took part in the training, {said}" in cells["none"]["error"]
    assert "Put it back, or delete checkpoint.safetensors beside it to train again" in cells["none"]["error"]
    path.with_name("checkpoint.safetensors").unlink()
    outcome, cells = run(study, out)
    assert outcome.trained == 1 and not outcome.failed and path.read_bytes().count(b"\n") == whole.count(b"\n")


def test_the_log_of_a_training_is_read_once_for_all_attacks(study, finished, tmp_path, monkeypatch):
    from consilium.study.stages import queried_sites as asking
    from consilium.study.stages import trained_here as judging
    from consilium.study.stages import training

    out = finished(study, tmp_path)
    shutil.rmtree(out / "tiny" / "cells")
    asked = []
    for room in (training, judging, asking):
        monkeypatch.setattr(
            room, "read_rounds", lambda store, training: asked.append(training) or read(store, training)
        )
    read = store_module.read_rounds
    outcome, cells = run(study, out)
    assert outcome.attacks_run == 8 and len(cells) == 4
    assert sorted(asked) == sorted([c["training"] for c in cells.values()] + [*{c["training"] for c in cells.values()}])
