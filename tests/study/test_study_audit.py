"""An audit: stored weights and data, nothing trained; attacked and judged as any cell."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

import consilium
from consilium import Study

AUDIT = {"name": "audit", "threads": 1, "data": {"kind": "breast-cancer", "sites": 3, "partition": "unbalanced"}}


@pytest.fixture(scope="module")
def weights(tiny):
    """The safetensors of the tiny study's undefended model."""
    return tiny.folder / "models" / tiny.cells()["none", "none", 0]["model"] / "model.safetensors"


def audit(weights, **changes):
    model = {"kind": "file", "path": str(weights), "architecture": {"kind": "mlp", "hidden": 16}}
    attacks = [{"kind": "fgsm", "radius": 0.05}, "loss-threshold"]
    return {**AUDIT, "model": model, "attacks": attacks, **changes}


@pytest.fixture(scope="module")
def audited(weights, run_study):
    return run_study(audit(weights, vary={"compression": ["static-int8"], "answer": ["round-answer"]}))


def accuracy(evidence):
    return next(m["value"] for m in evidence["utility"] if m["name"] == "accuracy")


def test_nothing_is_trained_and_every_attack_runs(audited, tiny):
    assert audited.done.json["trained"] == 0 and audited.done.json["attacks_run"] == 8
    assert list((audited.folder / "trainings").iterdir()) == []
    cells = audited.cells()
    assert {arm for arm, *_ in cells} == {"none", "static-int8", "round-answer", "static-int8 + round-answer"}
    for evidence in cells.values():
        assert evidence["status"] == "ok" and evidence["training"] is None and evidence["engine"] is None
        assert all(f["status"] == "ok" for f in evidence["findings"].values())
        assert "says nothing of safety" in evidence["findings"]["loss-threshold"]["notes"][-1]
        assert evidence["findings"]["fgsm"]["notes"] == []
        assert evidence["privacy"]["epsilon"] is None
        assert "nothing is known of how it was trained" in evidence["privacy"]["notes"][0]
        sent = {m["name"]: m for m in evidence["cost"]}["bytes_up_per_round_site"]
        assert sent["value"] is None and sent["reason"] == "nothing was trained"
    plain, before = cells["none", "none", 0], tiny.cells()["none", "none", 0]
    assert accuracy(plain) == accuracy(before)
    assert plain["findings"]["fgsm"]["measures"] == before["findings"]["fgsm"]["measures"]


def test_int8_and_answers_work_in_an_audit(audited):
    """The int8 model is what was stored and judged."""
    for key in audited.cells():
        model, test = consilium.load(audited.cell(*key)), consilium.test_set(audited.cell(*key))
        right = model(test.x).argmax(1) == test.y
        assert int(right.sum()) / len(right) == accuracy(audited.cells()[key])
    stored = load_file(
        audited.folder / "models" / audited.cells()["static-int8", "none", 0]["model"] / "model.safetensors"
    )
    assert stored["int8"].dtype == torch.int8


def test_a_second_call_does_nothing(audited, consilium_cli):
    done = consilium_cli("run", audited.file, "--out", audited.folder.parent, "--json").json
    assert (done["trained"], done["attacks_run"], done["attacks_reused"]) == (0, 0, 8)


def test_other_weights_at_the_same_path_are_another_model(weights, tmp_path):
    path = tmp_path / "model.safetensors"
    path.write_bytes(weights.read_bytes())
    before = Study.of(audit(path)).run(tmp_path / "out", quiet=True)
    tensors = load_file(path)
    save_file({name: -t for name, t in tensors.items()}, path)
    after = Study.of(audit(path)).run(tmp_path / "out", quiet=True)
    assert before.plan.cells[0].digest != after.plan.cells[0].digest
    assert after.outcome.attacks_run == 2
    found = [
        json.loads((r.folder / "cells" / r.plan.cells[0].digest / "evidence.json").read_text()) for r in (before, after)
    ]
    assert accuracy(found[0]) != accuracy(found[1])


def pickled(weights, path):
    torch.save(load_file(weights), path)


def without_one(weights, path):
    tensors = load_file(weights)
    tensors.pop(min(tensors))
    save_file(tensors, path)


def one_too_many(weights, path):
    save_file({**load_file(weights), "extra": torch.zeros(1)}, path)


def wrong_shape(weights, path):
    save_file({name: t[:1].clone() for name, t in load_file(weights).items()}, path)


def not_finite(weights, path):
    save_file({name: t * float("nan") for name, t in load_file(weights).items()}, path)


def wrapped(weights, path, prefix="module.", extra=()):
    tensors = {f"{prefix}{name}": t.clone() for name, t in load_file(weights).items()}
    save_file(tensors | {f"{prefix}{name}": torch.zeros(1) for name in extra}, path)


def cut(weights, path):
    path.write_bytes(weights.read_bytes()[:-8])


@pytest.mark.parametrize(
    ("write", "line"),
    [
        (pickled, "model.path: cannot read .*weights.safetensors as safetensors.*pickled .pt files are never read"),
        (cut, "model.path: cannot read"),
        (lambda weights, path: path.mkdir(), "model.path: cannot read"),
        (lambda weights, path: None, "model.path: cannot read .*No such file"),
        (without_one, r"model.architecture: .* lacks 2.bias: it does not fit the architecture"),
        (one_too_many, r"model.architecture: .* has extra too many: it does not fit the architecture"),
        (
            lambda weights, path: wrapped(weights, path, extra=["extra"]),
            r"has extra too many \(without the prefix 'module\.' of torch\.nn\.DataParallel\)",
        ),
        (wrong_shape, r"model.architecture: 2.bias has shape \(1,\), the architecture \(16,\)"),
        (not_finite, r"model.path: .* is not finite"),
    ],
    ids=["pickle", "cut", "folder", "missing", "lacks", "extra", "wrapped", "shape", "nan"],
)
def test_a_file_that_cannot_be_audited_is_one_line(weights, tmp_path, as_toml, consilium_cli, write, line):
    import re

    path = tmp_path / "weights.safetensors"
    write(weights, path)
    (tmp_path / "audit.toml").write_text(as_toml(audit(path)))
    done = consilium_cli("run", "audit.toml", cwd=tmp_path)
    assert done.code == 2 and len(done.err.strip().splitlines()) == 1
    assert re.search(line, done.err), done.err


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"federation": "fed-avg"}, "federation: an audit trains nothing"),
        ({"corruptions": ["label-flip"]}, "corruptions[0]: an audit trains nothing, so nothing can be infected"),
        (
            {"vary": {"p": [{"kind": "dp-sgd", "epsilon": 3.0}]}},
            "vary.p: an audit trains nothing, so dp-sgd cannot",
        ),
        ({"vary": {"merge": ["median"]}}, "vary.merge: an audit trains nothing, so median cannot act"),
    ],
)
def test_what_needs_a_training_is_refused(weights, tmp_path, as_toml, consilium_cli, changes, line):
    (tmp_path / "audit.toml").write_text(as_toml(audit(weights, **changes)))
    done = consilium_cli("plan", "audit.toml", "--json", cwd=tmp_path)
    assert done.code == 2 and line in done.err, done.err


def test_an_architecture_of_a_file_is_no_file(weights, tmp_path, as_toml, consilium_cli):
    table = audit(weights)
    table["model"]["architecture"] = dict(table["model"])
    (tmp_path / "audit.toml").write_text(as_toml(table))
    done = consilium_cli("plan", "audit.toml", cwd=tmp_path)
    assert done.code == 2 and "a file cannot be the architecture of a file" in done.err


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod."])
def test_the_prefix_that_a_wrapper_puts_before_every_name_is_taken_off(weights, tmp_path, prefix):
    path = tmp_path / "wrapped.safetensors"
    wrapped(weights, path, prefix)
    nets = [Study.of(audit(p)).plan().materials.network(0) for p in (weights, path)]
    assert torch.equal(nets[0].start()[0], nets[1].start()[0])
