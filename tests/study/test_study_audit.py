"""An audit: stored weights and data, nothing trained; attacked and judged as any cell."""

import json
import sys

import numpy
import pytest
import torch
from safetensors.torch import load_file, save_file

import consilium
from consilium import Study
from consilium.core.errors import Refused

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
        ({"federation": "fed-avg"}, "federation: a study of a trained model trains nothing"),
        (
            {"corruptions": ["label-flip"]},
            "corruptions[0]: a study of a trained model trains nothing: nothing can be infected",
        ),
        (
            {"vary": {"p": [{"kind": "dp-sgd", "epsilon": 3.0}]}},
            "vary.p: a study of a trained model trains nothing, so dp-sgd cannot",
        ),
        (
            {"vary": {"merge": ["median"]}},
            "vary.merge: a study of a trained model trains nothing, so median",
        ),
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


# ---- whose division of the data


def seeded(weights, seeds, **changes):
    table = audit(weights, seeds=seeds, **changes)
    table["data"] = {"kind": "digits", "sites": 1, "non-members": 0.3}
    table["model"]["architecture"] = {"kind": "logistic"}
    return table


@pytest.fixture
def strange(tmp_path):
    """Weights for the digits, of no known training."""
    torch.manual_seed(0)
    plan = Study(name="blank", data={"kind": "digits", "sites": 1}, model="logistic").plan()
    save_file(plan.materials.network(0).template.state_dict(), tmp_path / "strange.safetensors")
    return tmp_path / "strange.safetensors"


def test_several_seeds_of_an_audit_would_judge_on_training_records(strange):
    blind = [{"kind": "fgsm", "radius": 0.05}]
    for attacks in (blind, ["loss-threshold"]):
        with pytest.raises(
            Refused, match=r"seed 1 divides the data anew: \d+ of its held-out records are training"
        ) as e:
            Study.of(seeded(strange, [0, 1], attacks=attacks)).plan()
        assert e.value.where == "seeds"
    assert len(Study.of(seeded(strange, [1])).plan().cells) == 1


def test_seeds_of_a_source_with_a_split_of_its_own_move_draws_alone(tmp_path):
    """The test set is the source's; members are drawn anew all the same."""
    generator = torch.Generator().manual_seed(0)
    arrays = {}
    for split, n in (("train", 60), ("test", 30)):
        arrays[f"{split}_images"] = torch.rand(n, 4, generator=generator).numpy()
        arrays[f"{split}_labels"] = (torch.arange(n) % 2).numpy()
    numpy.savez(tmp_path / "own.npz", **arrays)
    save_file(torch.nn.Sequential(torch.nn.Linear(4, 2)).state_dict(), tmp_path / "w.safetensors")
    (tmp_path / "own_split_net.py").write_text(OWN)
    table = audit(tmp_path / "w.safetensors", seeds=[0, 1], attacks=[{"kind": "fgsm", "radius": 0.05}])
    table["data"] = {"kind": "npz", "path": str(tmp_path / "own.npz"), "sites": 1}
    table["model"]["architecture"] = {"kind": "module", "path": "own_split_net:small", "allow-code": True}
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(tmp_path)
        assert len(Study.of(table).plan().cells) == 2
        with pytest.raises(Refused, match="seed 1 divides the data anew"):
            Study.of({**table, "attacks": ["loss-threshold"]}).plan()


OWN = """from torch import nn


def small():
    return nn.Sequential(nn.Linear(4, 2))
"""


def test_a_model_of_consilium_names_the_seed_and_the_division_of_its_training(weights, tiny):
    with pytest.raises(Refused, match=r"trained on seed 0's division .* not on that of seed 1") as e:
        Study.of(audit(weights, seeds=[1])).plan()
    assert e.value.remedy == "write seeds = [0]"
    other = audit(weights, data={**AUDIT["data"], "sites": 2})
    with pytest.raises(Refused, match=r"trained with sites = 3 .*, not 2: members and non-members are others"):
        Study.of(other).plan()
    assert Study.of({**other, "attacks": [{"kind": "fgsm", "radius": 0.05}]}).plan().cells


def test_whose_division_it_is_stands_in_plan_evidence_and_record(audited, consilium_cli):
    said = "are those of seed 0's division of these data: right only if the model was trained on that division"
    assert all(said in evidence["notes"][-1] for evidence in audited.cells().values())
    assert said in json.loads((audited.folder / "study.json").read_text())["data"]["notes"][-1]
    finding = audited.cells()["none", "none", 0]["findings"]["loss-threshold"]
    assert "of seed 0's division" in finding["notes"][-1]
    assert said in consilium_cli("plan", audited.file).out
    assert said in consilium_cli("plan", audited.file, "--json").json["notes"][0]


# ---- what the file does not hold

ODD = """
import torch
from torch import nn


class Plain(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer, self.shift = nn.Linear(30, 2), torch.rand(30)

    def forward(self, x):
        return self.layer(x - self.shift)


class Closure(nn.Module):
    def __init__(self):
        super().__init__()
        hidden, self.layer = nn.Linear(30, 30), nn.Linear(30, 2)
        self.first = lambda x: hidden(x)

    def forward(self, x):
        return self.layer(self.first(x))


class Volatile(Plain):
    def __init__(self):
        super().__init__()
        del self.shift
        self.register_buffer("shift", torch.rand(30), persistent=False)


class Fixed(Plain):
    def __init__(self):
        super().__init__()
        self.shift = torch.linspace(0, 1, 30)


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.c, self.b = nn.Linear(30, 30), nn.Linear(30, 30), nn.Linear(30, 2)
        self.c.weight = self.a.weight

    def forward(self, x):
        return self.b(self.c(self.a(x).relu()))


class Viewed(Tied):
    def __init__(self):
        super().__init__()
        self.c.weight = nn.Parameter(self.a.weight.detach().t())


class Normed(nn.Module):
    def __init__(self):
        super().__init__()
        self.n, self.b = nn.BatchNorm1d(30), nn.Linear(30, 2)

    def forward(self, x):
        return self.b(self.n(x))
"""


@pytest.fixture
def odd(tmp_path, monkeypatch):
    """The plan of an audit of an odd architecture, whose weights were ``changed`` on the way into the file."""
    (tmp_path / "odd_audited.py").write_text(ODD)
    monkeypatch.syspath_prepend(tmp_path)
    import odd_audited

    def plan(name, changed=lambda tensors: tensors):
        torch.manual_seed(5)
        tensors = {n: t.clone().contiguous() for n, t in getattr(odd_audited, name)().state_dict().items()}
        save_file(changed(tensors), tmp_path / "odd.safetensors")
        architecture = {"kind": "module", "path": f"odd_audited:{name}", "allow-code": True}
        model = {"kind": "file", "path": str(tmp_path / "odd.safetensors"), "architecture": architecture}
        return Study.of({**AUDIT, "model": model, "attacks": []}).plan()

    yield plan
    sys.modules.pop("odd_audited", None)


@pytest.mark.parametrize("name", ["Plain", "Closure", "Volatile"])
def test_an_architecture_that_draws_parts_of_its_own_is_refused(odd, name):
    with pytest.raises(Refused, match="two builds of the architecture with these weights answer differently"):
        odd(name)


@pytest.mark.parametrize("name", ["Fixed", "Tied"])
def test_what_the_code_fixes_or_ties_is_audited(odd, name):
    assert odd(name).cells


@pytest.mark.parametrize("name", ["Tied", "Viewed"])
def test_two_entries_of_one_tensor_must_agree(odd, name):
    with pytest.raises(Refused) as e:
        odd(name, lambda tensors: {**tensors, "c.weight": tensors["c.weight"] + 0.5})
    assert "a.weight differs by up to 0.5 from c.weight, and they are one tensor" in str(e.value)


@pytest.mark.parametrize("kind", [torch.int8, torch.uint8, torch.int64, torch.bool])
def test_integers_are_no_weights(odd, kind):
    with pytest.raises(Refused, match=rf"b.weight is {str(kind)[6:]}, .*float32\. Give dequantised weights"):
        odd("Normed", lambda tensors: {**tensors, "b.weight": (tensors["b.weight"] * 100).to(kind)})
    with pytest.raises(Refused, match=r"n\.running_var is "):
        odd("Normed", lambda tensors: {**tensors, "n.running_var": tensors["n.running_var"].to(kind)})


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float64])
def test_other_floats_are_weights_and_a_count_may_be_one(odd, kind):
    plan = odd("Normed", lambda tensors: {name: t.to(kind) for name, t in tensors.items()})
    assert plan.materials.network(0).start()[0].dtype == torch.float32
    with pytest.raises(Refused, match=r"n\.num_batches_tracked .* holds numbers that int64 of the architecture cannot"):
        odd("Normed", lambda tensors: {**tensors, "n.num_batches_tracked": torch.tensor(1.5)})
