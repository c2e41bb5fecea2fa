"""What a whole study leaves behind: arms, twins, evidence, the table, and what a second call does."""

import csv
import hashlib
import itertools
import json
import shutil

import pytest

from consilium import Study

ARMS = {
    " + ".join(label for label in labels if label) or "none"
    for labels in itertools.product(["", "dp-sgd"], ["", "static-int8"], ["", "adversarial-training"])
}
COLUMNS = {
    *("arm", "seed", "infected_by", "status", "cell", "accuracy", "balanced_accuracy", "auroc", "epsilon", "delta"),
    *("bytes", "latency_ratio", "seconds", "robust_accuracy:fgsm", "robust_accuracy:transfer", "mia_advantage"),
    "mia_auc",
}
CLAIM = {
    *("site", "unit", "adjacency", "epsilon", "delta", "sampler", "accountant", "n", "batch_size"),
    *("noise_multiplier", "steps"),
}


def rows(ran):
    with (ran.folder / "table.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def read(path):
    return json.loads(path.read_text(encoding="utf-8"))


def sha(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def copied(ran, tmp_path):
    """The finished study in a folder of its own, to go on from."""
    shutil.copytree(ran.folder, tmp_path / "out" / ran.folder.name)
    return tmp_path / "out"


def test_eight_arms_each_clean_and_infected_each_with_evidence(tiny):
    cells = tiny.cells()
    assert set(cells) == {(arm, by, 0) for arm in ARMS for by in ("none", "label-flip")}
    for (arm, infected_by, seed), evidence in cells.items():
        assert evidence["schema"] == 2 and evidence["status"] == "ok" and evidence["error"] is None
        assert evidence["cell"] == {
            "digest": tiny.cell(arm, infected_by, seed).name,
            "arm": arm,
            "choices": evidence["cell"]["choices"],
            "seed": 0,
            "infected_by": infected_by,
        }
        assert list(evidence["findings"]) == ["fgsm", "transfer", "loss-threshold"]
        assert {m["name"] for m in evidence["utility"]} >= {"accuracy", "balanced_accuracy", "auroc", "majority_rate"}
        assert {m["name"] for m in evidence["cost"]} >= {"bytes", "latency_ratio", "bytes_up_per_round_site"}
        for name in ("given", "resolved", "code", "packages", "hardware", "engine", "seeds", "seconds"):
            assert evidence[name], name
        assert evidence["code"].keys() == {"version", "revision", "dirty"}
        assert evidence["hardware"].keys() >= {"cpu", "capability", "cores", "threads", "device"}


def test_every_figure_has_n_or_a_reason(tiny):
    for evidence in tiny.cells().values():
        found = [m for f in evidence["findings"].values() for m in f["measures"]]
        for m in [*evidence["utility"], *evidence["cost"], *found]:
            assert m.keys() >= {"name", "value", "low", "high", "chance", "n", "unit", "reason"}
            assert (m["value"] is None) == bool(m["reason"]), m
            assert m["value"] is None or m["n"] > 0, m


def test_every_choice_says_which_risks_its_defences_lower_and_need(tiny):
    fields = ("axis", "phase", "mitigates", "uses")
    declared = {one["kind"]: tuple(one[field] for field in fields) for one in tiny.study()["defences"]}
    assert declared == {
        "dp-sgd": ("privacy", "in-training", ["membership", "reconstruction"], []),
        "static-int8": ("compression", "post-training", [], []),
        "adversarial-training": ("robustness", "in-training", ["evasion"], []),
    }


def test_the_command_says_what_it_did(tiny):
    said = tiny.done.json
    assert said["trained"] == 8 and said["reused"] == 0 and said["failed"] == {}
    assert said["attacks_run"] == 16 * 3 and said["attacks_reused"] == 0
    assert len(said["arms"]) == 8 and len(said["cells"]) == 16
    assert {cell["status"] for cell in said["cells"]} == {"ok"}


def test_arms_that_differ_only_after_training_share_it(tiny):
    cells = tiny.cells()
    for infected_by in ("none", "label-flip"):
        trainings = {arm: cells[arm, infected_by, 0]["training"] for arm in ARMS}
        assert len(set(trainings.values())) == 4
        for arm in ARMS:
            assert trainings[arm] == trainings[arm.replace("static-int8 + ", "").replace(" + static-int8", "")] or (
                arm == "static-int8" and trainings[arm] == trainings["none"]
            )
    assert len(list((tiny.folder / "trainings").iterdir())) == 8
    assert len(list((tiny.folder / "models").iterdir())) == 16


def test_the_infected_twin_is_never_its_clean_twin(tiny):
    cells = tiny.cells()
    for arm in ARMS:
        clean, infected = cells[arm, "none", 0], cells[arm, "label-flip", 0]
        for name in ("training", "model"):
            assert clean[name] != infected[name]
        assert clean["cell"]["digest"] != infected["cell"]["digest"]
        weights = [tiny.folder / "models" / e["model"] / "model.safetensors" for e in (clean, infected)]
        assert sha(weights[0]) != sha(weights[1])
        states = [tiny.folder / "trainings" / e["training"] / "checkpoint.safetensors" for e in (clean, infected)]
        assert sha(states[0]) != sha(states[1])
        assert clean["corrupted"] == [] and len(infected["corrupted"]) == 1
        assert infected["resolved"]["training"]["corruption"]["kind"] == "label-flip"
        assert clean["resolved"]["training"]["corruption"] is None


def test_the_table_has_one_row_per_arm_seed_and_infection(tiny):
    table = rows(tiny)
    assert {(r["arm"], r["seed"], r["infected_by"]) for r in table} == {
        (arm, "0", by) for arm in ARMS for by in ("none", "label-flip")
    }
    assert len(table) == 16
    assert table[0].keys() >= COLUMNS
    for row in table:
        evidence = tiny.cells()[row["arm"], row["infected_by"], 0]
        measures = {m["name"]: m["value"] for m in [*evidence["utility"], *evidence["cost"]]}
        for name in ("accuracy", "balanced_accuracy", "auroc", "bytes", "latency_ratio"):
            assert float(row[name]) == measures[name], name
        assert row["epsilon"] == ("" if "dp-sgd" not in row["arm"] else str(evidence["privacy"]["epsilon"]))
        assert row["cell"] == evidence["cell"]["digest"] and row["status"] == "ok"
        assert all(row[name] for name in ("seconds", "robust_accuracy:fgsm", "mia_advantage", "mia_auc"))


def test_the_claims_say_everything(tiny):
    for (arm, infected_by, _), evidence in tiny.cells().items():
        privacy = evidence["privacy"]
        if "dp-sgd" not in arm:
            assert privacy["epsilon"] is None and privacy["claims"] == []
            continue
        assert len(privacy["claims"]) == (3 if infected_by == "none" else 2)
        for claim in privacy["claims"]:
            assert claim.keys() >= CLAIM
            assert all(claim[name] not in (None, "") for name in CLAIM)
        assert privacy["epsilon"] == max(c["epsilon"] for c in privacy["claims"])


def test_rounds_and_checkpoint_lie_with_the_training(tiny):
    for folder in (tiny.folder / "trainings").iterdir():
        lines = [json.loads(line) for line in (folder / "rounds.jsonl").read_text().splitlines()]
        assert [line["round"] for line in lines] == [1, 2, 3]
        assert all(line["bytes_up"] > 0 and len(line["sites"]) == 3 for line in lines)
        assert read(folder / "training.json")["status"] == "ok"
        assert not list(folder.glob("*.draft"))


def test_a_second_call_trains_nothing_says_so_and_touches_nothing(tiny, consilium_cli, tmp_path):
    out = copied(tiny, tmp_path)
    held = [p for name in ("trainings", "models", "cells") for p in (out / "tiny" / name).rglob("*") if p.is_file()]
    before = {p: (sha(p), p.stat().st_mtime_ns) for p in held}
    assert len(before) > 60
    done = consilium_cli("run", tiny.file, "--out", out, "--json")
    assert done.code == 0 and done.json["trained"] == 0 and done.json["reused"] == 8
    assert done.json["attacks_run"] == 0 and done.json["attacks_reused"] == 48
    assert before == {p: (sha(p), p.stat().st_mtime_ns) for p in before}
    done = consilium_cli("run", tiny.file, "--out", out)
    assert done.code == 0 and "trained nothing" in done.out and "8 done already" in done.out


def test_one_attack_more_runs_that_attack_alone(tiny, consilium_cli, tmp_path, tables, as_toml):
    out = copied(tiny, tmp_path)
    file = tmp_path / "more.toml"
    tables["attacks"].append({"kind": "pgd", "radius": 0.05, "steps": 3})
    file.write_text(as_toml(tables))
    before = tiny.cells()
    done = consilium_cli("run", file, "--out", out, "--json")
    assert done.json["trained"] == 0 and done.json["attacks_run"] == 16 and done.json["attacks_reused"] == 48
    for evidence in (read(p) for p in (out / "tiny" / "cells").glob("*/evidence.json")):
        old = before[evidence["cell"]["arm"], evidence["cell"]["infected_by"], 0]
        assert list(evidence["findings"]) == ["fgsm", "transfer", "loss-threshold", "pgd"]
        assert {k: evidence["findings"][k] for k in old["findings"]} == old["findings"]
        assert evidence["utility"] == old["utility"] and evidence["training"] == old["training"]
        assert len(evidence["given"]["attacks"]) == 4


def test_another_seed_trains_only_that_seed(tiny, consilium_cli, tmp_path, tables, as_toml):
    out = copied(tiny, tmp_path)
    del tables["vary"], tables["corruptions"]
    tables["attacks"] = tables["attacks"][2:]
    (tmp_path / "seeds.toml").write_text(as_toml({**tables, "seeds": [0, 1]}))
    done = consilium_cli("run", tmp_path / "seeds.toml", "--out", out, "--json")
    assert done.json["trained"] == 1 and done.json["reused"] == 1
    with (out / "tiny" / "table.csv").open() as file:
        assert [(r["arm"], r["seed"]) for r in csv.DictReader(file)] == [("none", "0"), ("none", "1")]


def test_it_is_the_same_study_twice(tiny, run_study, tables):
    """The same file in another folder gives the same digests, weights and figures."""
    del tables["vary"]["robustness"], tables["vary"]["compression"], tables["attacks"][1]
    again = run_study(tables).cells()
    for key in (("none", "none", 0), ("dp-sgd", "label-flip", 0)):
        one, other = tiny.cells()[key], again[key]
        assert one["training"] == other["training"] and one["cell"]["digest"] == other["cell"]["digest"]
        assert one["utility"] == other["utility"] and one["privacy"] == other["privacy"]
        assert one["findings"]["fgsm"]["measures"] == other["findings"]["fgsm"]["measures"]


@pytest.mark.parametrize(
    "change",
    [
        lambda t: t.update(seeds=[1]),
        lambda t: t["data"].update(sites=4),
        lambda t: t["data"].update(partition="iid"),
        lambda t: t["model"].update(hidden=8),
        lambda t: t["federation"].update(rounds=4),
        lambda t: t["federation"].update(lr=0.2),
        lambda t: t["vary"]["privacy"][0].update(clip=2.0),
        lambda t: t["corruptions"][0].update(share=0.5),
        lambda t: t.update(threads=2),
    ],
)
def test_whatever_a_training_depends_on_changes_its_digest(tables, change):
    before = set(Study.of(tables).plan().trainings)
    change(tables)
    after = set(Study.of(tables).plan().trainings)
    assert before != after


def test_what_a_training_does_not_depend_on_leaves_its_digest(tables):
    before = set(Study.of(tables).plan().trainings)
    tables |= {"name": "other", "question": "", "attacks": [], "max-epsilon": 19.0}
    del tables["vary"]["compression"]
    assert set(Study.of(tables).plan().trainings) == before
