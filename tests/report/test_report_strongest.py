"""Several membership attacks: no figure depends on which stands first, and arms are compared under one of them."""

import csv
import io
import json
from dataclasses import asdict

import pytest
import torch
from rich.console import Console
from safetensors.torch import save_file

from consilium.core.random import Stream
from consilium.measure.membership import membership
from consilium.report.analyse.effects import changed, effects
from consilium.report.analyse.highlights import highlights
from consilium.report.analyse.summary import rows
from consilium.report.load.read import read_study
from consilium.report.render.page import write_page
from consilium.report.render.table import terminal_table, write_csv

N = 400
RATES = {
    "loss-threshold": {"none": (0.60, 0.30), "dp-sgd": (0.52, 0.50), "static-int8": (0.60, 0.32)},
    "label-gap": {"none": (0.55, 0.50), "dp-sgd": (0.55, 0.45), "static-int8": (0.55, 0.49)},
    "rmia": {"none": (0.60, 0.40), "dp-sgd": (0.50, 0.50), "static-int8": (0.60, 0.40)},
}
"""True and false positive rates by attack and arm: rmia stands first where it is put first, and is never strongest."""


def findings(folder, kind, told, mistaken, seed):
    """The evidence of an attack with these rates on the judged half, and the scores behind it."""
    member, known = torch.arange(2 * N) % 2 == 0, torch.arange(2 * N) < N
    score = member.double()
    for truth, rate in ((True, told), (False, mistaken)):
        places = torch.nonzero(~known & (member == truth))[:, 0]
        places = places[torch.randperm(len(places), generator=torch.Generator().manual_seed(seed))]
        score[places] = (torch.arange(len(places)) < round(rate * len(places))).double()
    tensors = {"score": score, "member": member, "known": known, "id": torch.arange(2 * N), "unit": torch.arange(2 * N)}
    save_file(tensors, folder / f"{kind}.safetensors")
    return {
        **{"kind": kind, "status": "ok", "error": None, "seconds": 0.1, "notes": [], "configuration": {}},
        "threat": {"actor": "outsider", "moment": "inference", "knowledge": "black-box", "aim": "membership"},
        "measures": [asdict(m) for m in membership(score, member, Stream(0), known=known)],
        "scores": f"{kind}.safetensors",
    }


def write(write_study, home, order, failed=None, rates=RATES):
    """A study whose cells hold these attacks in this order; ``failed`` is (attack, arm) without a figure."""
    folder = write_study(home, seeds=(0,), trouble=False)
    for path in folder.glob("cells/*/evidence.json"):
        record = json.loads(path.read_text())
        arm = record["cell"]["arm"]
        others = {k: v for k, v in record["findings"].items() if v["threat"]["aim"] != "membership"}
        for kind in order:
            others[kind] = findings(path.parent, kind, *rates[kind].get(arm, (0.5, 0.5)), seed=len(kind))
            if (kind, arm) == failed:
                others[kind] |= {"status": "failed", "error": "out of memory", "measures": [], "scores": None}
        path.write_text(json.dumps({**record, "findings": others}))
    return folder


def shown(folder):
    """All that a reader sees of leakage."""
    study = read_study(folder)
    every = rows(study)
    text = Console(width=200, file=io.StringIO())
    text.print(terminal_table(folder))
    with write_csv(folder).open(newline="") as file:
        lines = [{k: v for k, v in row.items() if "mia" in k} for row in csv.DictReader(file)]
    return {
        "rows": {(r.arm.name, r.infected_by): (r.figures["mia_advantage"], r.figures["mia_auc"]) for r in every},
        "terminal": text.file.getvalue(),
        "csv": lines,
        "card": next(c for c in highlights(study, every) if c.title == "Leaks least"),
        "effects": [(e.label, {k: v for k, v in e.changes.items() if "mia" in k}) for e in effects(study)],
        "page": write_page(folder).read_text(encoding="utf-8"),
    }


@pytest.fixture(scope="module")
def one_way(write_study, tmp_path_factory):
    return write(write_study, tmp_path_factory.mktemp("one"), ["rmia", "loss-threshold", "label-gap"])


def test_the_order_of_attacks_changes_no_figure(one_way, write_study, tmp_path):
    other = write(write_study, tmp_path, ["label-gap", "loss-threshold", "rmia"])
    one, two = shown(one_way), shown(other)
    for what in ("rows", "terminal", "card", "effects"):
        assert one[what] == two[what], what
    assert [dict(sorted(row.items())) for row in one["csv"]] == [dict(sorted(row.items())) for row in two["csv"]]


def test_each_arm_shows_the_attack_that_tells_most_of_it_by_name(one_way):
    seen = shown(one_way)
    told = {arm: seen["rows"][arm, "none"][0] for arm in ("none", "dp-sgd", "static-int8")}
    assert {arm: (f.attack, f.among) for arm, f in told.items()} == {
        "none": ("loss-threshold", 3), "dp-sgd": ("label-gap", 3), "static-int8": ("loss-threshold", 3)
    }  # fmt: skip
    assert {arm: f.value for arm, f in told.items()} == pytest.approx({"none": 0.3, "dp-sgd": 0.1, "static-int8": 0.28})
    assert all(f.low < f.value < f.high for f in told.values())
    assert "label-gap" in seen["terminal"] and "strongest of 3 attacks" in " ".join(seen["terminal"].split())
    assert "Of “label-gap”, which tells most of this arm among 3 attacks" in seen["page"]
    first = seen["csv"][0]
    assert float(first["mia_advantage"]) == pytest.approx(0.3) and first["mia_advantage_attack"] == "loss-threshold"
    assert float(first["mia_advantage:rmia"]) == pytest.approx(0.2)


def test_arms_are_compared_under_one_attack_on_both_sides(one_way):
    """loss-threshold tells most on average; the largest figures of none and of dp-sgd are of two attacks."""
    seen = shown(one_way)
    assert "“loss-threshold”, the strongest of 3 attacks over all arms" in seen["card"].text
    change = dict(seen["effects"])["dp-sgd"]["mia_advantage:loss-threshold"]
    assert change.low == pytest.approx(-0.28), "0.30 to 0.02 under loss-threshold; not 0.30 to 0.10"
    assert [c.label for c in changed(read_study(one_way)) if "mia" in c.key] == ["advantage: loss-threshold"]


def test_no_arm_leaks_least_that_another_attack_finds_to_leak_more(write_study, tmp_path):
    rates = {"loss-threshold": {}, "label-gap": {}}
    arms = {a["name"] for a in json.loads((write_study(tmp_path / "names") / "study.json").read_text())["arms"]}
    rates["loss-threshold"] = dict.fromkeys(arms, (0.9, 0.3)) | {"dp-sgd": (0.5, 0.48)}
    alone = shown(write(write_study, tmp_path / "alone", ["loss-threshold"], rates=rates))
    assert (alone["card"].arm, alone["card"].crowned) == ("dp-sgd", True)
    rates["label-gap"] = {"dp-sgd": (0.8, 0.3)}
    card = shown(write(write_study, tmp_path / "both", ["label-gap", "loss-threshold"], rates=rates))["card"]
    assert not card.crowned and "by advantage: label-gap" in card.text


def test_an_attack_that_failed_in_one_arm_is_replaced_in_all(write_study, tmp_path):
    """Else one arm's figure would be the stand-in's, and look better for it."""
    order = ["loss-threshold", "label-gap", "rmia"]
    seen = shown(write(write_study, tmp_path, order, failed=("loss-threshold", "dp-sgd")))
    assert "“rmia”, the strongest" in seen["card"].text
    assert all("mia_advantage:rmia" in found for _, found in seen["effects"])
    assert seen["rows"]["dp-sgd", "none"][0].attack == "label-gap"


def test_a_study_with_one_attack_names_none(one_seed):
    assert not [row for row in rows(one_seed) if row.figures["mia_advantage"].attack]
    assert [c.key for c in changed(one_seed) if "mia" in c.key] == ["mia_advantage"]
