"""Studies of words, from file to figures; what moves numbers in [0, 1] is refused by name, before anything trains."""

import json

import numpy as np
import pytest
import torch

import consilium
from consilium import Study
from consilium.core.errors import Refused
from consilium.data.sources.generated_notes import GeneratedNotes
from consilium.data.sources.npz import NPZ

NOTES = {"kind": "generated-notes", "records": 400, "length": 12, "partition": "by-key", "sites": 4, "public": 0.1}
DP = [{"kind": "dp-sgd", "epsilon": 8.0, "delta": 1e-3, "unit": "patient"}]
NET = """
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.words, self.out = nn.Embedding(300, 4), nn.Linear(4, 5)

    def forward(self, x):
        return self.out(self.words(x).mean(1))


class Mixed(Net):
    def forward(self, x):
        return self.out(self.words(x).mean(1) + self.words(x).mean((0, 1)))
"""


def study(**more):
    federation = {"kind": "fed-avg", "rounds": 2, "lr": 1.0, "batch": 16}
    model = {"kind": "text-cnn", "width": 4, "channels": 4}
    return Study.of({"name": "words", "data": NOTES, "model": model, "federation": federation, **more})


@pytest.fixture
def own_net(tmp_path, monkeypatch):
    (tmp_path / "word_net.py").write_text(NET)
    monkeypatch.syspath_prepend(tmp_path)
    return lambda name="Net": {"kind": "module", "path": f"word_net:{name}", "allow-code": True}


GRU = {"kind": "gru", "width": 4, "hidden": 4}
INT8, PRUNE = {"kind": "static-int8"}, {"kind": "prune", "sparsity": 0.3}
CASES = {
    "text-cnn": ({"compression": [INT8, PRUNE]}, ["blind", "label-gap"]),
    "bag-of-embeddings": ({"privacy": DP}, [{"kind": "rmia", "shadows": 2}, "one-run-audit", "one-run-gradient"]),
    "gru": ({"privacy": DP}, ["loss-trajectory", "update-alignment", {"kind": "lira", "shadows": 2}]),
}


@pytest.mark.parametrize("name", CASES)
def test_a_study_of_notes_runs_from_the_grammar_to_the_figures_and_is_loaded_again(tmp_path, name):
    vary, attacks = CASES[name]
    model = {"gru": GRU, "text-cnn": {"kind": name, "width": 4, "channels": 4}}.get(name, {"kind": name, "width": 4})
    results = study(model=model, vary=vary, attacks=attacks, audit={"canaries": 16}).run(tmp_path, quiet=True)
    assert not results.outcome.failed
    sizes = {}
    for cell in results.plan.cells:
        folder = results.folder / "cells" / cell.digest
        evidence = json.loads((folder / "evidence.json").read_text())
        accuracy = next(m["value"] for m in evidence["utility"] if m["name"] == "accuracy")
        test = consilium.test_set(folder)
        assert test.x.dtype == torch.int64
        with torch.no_grad():
            right = consilium.load(folder)(test.x).argmax(1) == test.y
        assert float(right.double().mean()) == pytest.approx(accuracy)
        assert {finding["status"] for finding in evidence["findings"].values()} == {"ok"}
        sizes[evidence["cell"]["arm"]] = next(m["value"] for m in evidence["cost"] if m["name"] == "bytes")
        recipe = json.loads((results.folder / "models" / evidence["model"] / "recipe.json").read_text())
        assert recipe["tokens"] == 263
    assert name != "text-cnn" or sizes["static-int8"] < sizes["none"]


def test_words_are_learned(tmp_path):
    """Of a note without other kinds' sentences its words tell the kind."""
    notes, bag = {**NOTES, "mix": 0.0, "records": 600, "length": 32}, {"kind": "bag-of-embeddings", "width": 8}
    results = study(
        data=notes, model=bag, federation={"kind": "fed-avg", "rounds": 8, "lr": 5.0, "local-epochs": 4, "batch": 32}
    ).run(tmp_path, quiet=True)
    (cell,) = results.plan.cells
    evidence = json.loads((results.folder / "cells" / cell.digest / "evidence.json").read_text())
    accuracy = next(m for m in evidence["utility"] if m["name"] == "accuracy")
    assert accuracy["low"] > 0.9 > 2 * accuracy["chance"]


def test_engines_agree_on_words(tmp_path):
    deltas = []
    for engine in ("loop", "stacked"):
        shape = {"kind": "fed-avg", "rounds": 2, "lr": 1.0, "batch": 16, "engine": engine}
        results = study(federation=shape).run(tmp_path / engine, quiet=True)
        (cell,) = results.plan.cells
        model = consilium.load(results.folder / "cells" / cell.digest)
        deltas.append(torch.cat([p.flatten() for p in model.parameters()]))
    torch.testing.assert_close(*deltas, rtol=1e-4, atol=1e-5)


REFUSED = [
    ({"attacks": ["pgd"]}, r"attacks\[0\]: pgd has no meaning for records of words .*: it moves every number"),
    ({"attacks": ["fgsm"]}, r"attacks\[0\]: fgsm has no meaning for records of words"),
    ({"attacks": ["label-boundary"]}, r"attacks\[0\]: label-boundary has no meaning for records of words"),
    ({"attacks": [{"kind": "transfer", "from": {}}]}, r"attacks\[0\]: transfer has no meaning for records of words"),
    ({"attacks": [{"kind": "lira", "queries": 2}]}, "only images can be flipped"),
    ({"corruptions": ["adversarial-poisoning"]}, r"corruptions\[0\]: adversarial-poisoning has no meaning"),
    ({"vary": {"r": ["adversarial-training"]}}, "adversarial-training has no meaning for records of words"),
    ({"vary": {"r": ["augmentation"]}}, "augmentation|images"),
    ({"model": "cnn"}, "model cnn reads numbers in .*, and these records are words: 12 ids below 263 each"),
    ({"model": "mlp"}, "model mlp reads numbers"),
    ({"data": {"kind": "digits", "sites": 2}}, "model text-cnn reads words .*the data are numbers"),
]


@pytest.mark.parametrize(("more", "reason"), REFUSED, ids=[str(more) for more, _ in REFUSED])
def test_what_has_no_meaning_for_words_is_refused_in_the_plan(more, reason):
    with pytest.raises(Refused, match=reason) as caught:
        study(**more).plan()
    assert "\n" not in str(caught.value)


def test_an_attack_on_words_is_possible(monkeypatch):
    """The refusal is the entry's own: one that knows what to do with words overrides it."""
    from consilium.attack.evasion.pgd import PGD

    monkeypatch.setattr(PGD, "check_inputs", lambda self, inputs: None)
    assert study(attacks=["pgd"]).plan().cells


def test_a_users_module_reads_words_and_is_proved_to_keep_records_apart(own_net, tmp_path):
    results = study(model=own_net(), vary={"privacy": DP}).run(tmp_path, quiet=True)
    assert not results.outcome.failed
    with pytest.raises(Refused, match="depends on the other examples"):
        study(model=own_net("Mixed"), vary={"privacy": DP}).plan()


def test_canaries_are_random_words(tmp_path):
    data = study(audit={"canaries": 30}, attacks=["one-run-audit"]).plan().materials.consortium(0)
    x = data.canaries.records.x
    assert x.dtype == torch.int64
    assert int(x.max()) < data.inputs.tokens
    assert len(torch.unique(x, dim=0)) == 30
    with pytest.raises(Refused, match=r"only .* differ: the vocabulary or the length is too small"):
        study(data={**NOTES, "length": 1}, audit={"canaries": 200}, attacks=["one-run-audit"]).plan()


def saved(tmp_path, **arrays):
    np.savez(tmp_path / "ids.npz", **arrays)
    return str(tmp_path / "ids.npz")


IDS, Y = np.random.default_rng(0).integers(1, 9, (60, 5)), np.arange(60) % 2


@pytest.mark.parametrize("kind", ["int64", "int16", "uint16", ">i4"])
def test_arrays_of_ids(tmp_path, kind):
    path = saved(tmp_path, x=IDS.astype(kind), y=Y)
    data = NPZ(path, tokens=9).load()
    assert data.records.x.tolist() == IDS.tolist()
    assert data.inputs.tokens == 9
    plan = study(data={"kind": "npz", "path": path, "tokens": 9, "sites": 2}).plan()
    assert plan.materials.consortium(0).sites[0].records.train.x.dtype == torch.int64


@pytest.mark.parametrize(
    ("arrays", "tokens", "reason"),
    [
        ({"x": IDS, "y": Y}, 0, "inputs are of type int64. Store .* set tokens to the size of the vocabulary"),
        ({"x": IDS, "y": Y}, 8, r"record \d+ and \d+ more have ids outside 0..7 \(they run from 1 to 8\)"),
        ({"x": IDS - 3, "y": Y}, 9, "outside 0..8"),
        ({"x": np.full((60, 5), 2**63, dtype=np.uint64), "y": Y}, 9, "ids run up to 9223372036854775808"),
        ({"x": IDS.astype(float), "y": Y}, 9, "type float64 and shape"),
        ({"x": IDS[:, :, None], "y": Y}, 9, "and shape .60, 5, 1."),
        ({"x": np.vstack([0 * IDS[:1], IDS[1:]]), "y": Y}, 9, "record 0 has no word"),
        ({"x": IDS, "y": Y, "columns": np.array(list("abcde"))}, 9, "ids of words have none"),
        ({"x": IDS, "y": Y}, 2, "tokens: 2 is out of range"),
    ],
)
def test_ids_are_checked(tmp_path, arrays, tokens, reason):
    with pytest.raises(Refused, match=reason):
        NPZ(saved(tmp_path, **arrays), tokens=tokens).load()


def test_what_was_named_before_there_were_tokens_has_the_same_digest():
    assert NPZ("a.npz").configuration() == {"kind": "npz", "path": "a.npz", "classes": None, "max-bytes": 4_000_000_000}
    assert NPZ("a.npz", tokens=7).configuration()["tokens"] == 7


def test_generated_notes_are_the_same_everywhere():
    data, again = GeneratedNotes(60).load(), GeneratedNotes(60).load()
    assert torch.equal(data.records.x, again.records.x)
    assert not (data.records.x == 1).any()
    assert data.inputs.tokens == 263
    longer = GeneratedNotes(80).load()
    assert torch.equal(longer.records.x[:60], data.records.x)
    assert data.names_units
    assert int(data.records.x.sum()) == 176_686


def test_words_of_the_records_are_refused_under_dp(tmp_path):
    rows = [f"{'pain' if k % 2 else 'none'} here {k},{k % 2}" for k in range(200)]
    (tmp_path / "notes.csv").write_text("text,label\n" + "\n".join(rows) + "\n")
    data = {"kind": "text", "path": str(tmp_path / "notes.csv"), "vocabulary": "records", "sites": 2, "length": 4}
    private = [{"kind": "dp-sgd", "epsilon": 8.0, "delta": 1e-3}]
    assert study(data=data).plan().cells
    with pytest.raises(Refused, match=r"the words of text were read from private records \(LAWS 9\)"):
        study(data=data, vary={"privacy": private}).plan()
