"""table.csv and the terminal: every row is there, and the numbers are those of the evidence."""

import csv
import io
import json
from dataclasses import replace

from rich.console import Console

from consilium.core.finding import Measure
from consilium.report.analyse.columns import measure_of
from consilium.report.analyse.outcomes import _seeing
from consilium.report.render.table import header, table_rows, terminal_table, write_csv

REQUIRED = [
    "arm", "seed", "infected_by", "status", "cell", "accuracy", "balanced_accuracy", "auroc", "epsilon", "delta",
    "bytes", "latency_ratio", "seconds", "robust_accuracy:fgsm", "robust_accuracy:pgd", "robust_accuracy:transfer",
]  # fmt: skip


def written(folder):
    return list(csv.DictReader(io.StringIO(write_csv(folder).read_text(encoding="utf-8"))))


def shown(folder, width=120):
    console = Console(width=width, file=io.StringIO(), color_system=None)
    console.print(terminal_table(folder))
    return console.file.getvalue()


def test_one_row_per_arm_seed_and_infection(folder, study):
    rows = written(folder)
    names = [(r["arm"], r["seed"], r["infected_by"]) for r in rows]
    assert len(rows) == len(set(names)) == len(study.arms) * len(study.seeds) * len(study.infections) == 36
    assert {r["status"] for r in rows} == {"ok", "failed", "missing", "refused"}


def test_the_columns_stand_in_the_agreed_order(study):
    names = header(study)
    assert list(names[: len(REQUIRED)]) == REQUIRED
    assert {"mia_advantage", "mia_auc"} <= set(names)


def test_the_figures_are_those_of_the_evidence(folder):
    for row in written(folder):
        if row["status"] != "ok":
            continue
        held = json.loads((folder / "cells" / row["cell"] / "evidence.json").read_text())
        utility = {m["name"]: m["value"] for m in held["utility"]}
        told = {m["name"]: m["value"] for m in held["findings"]["loss-threshold"]["measures"]}
        assert float(row["accuracy"]) == utility["accuracy"]
        assert float(row["mia_advantage"]) == told["advantage"]
        assert (float(row["epsilon"]) if row["epsilon"] else None) == held["privacy"]["epsilon"]
        assert float(row["seconds"]) == sum(held["seconds"].values())
        if row["robust_accuracy:pgd"]:
            assert float(row["robust_accuracy:pgd"]) == held["findings"]["pgd"]["measures"][0]["value"]


def test_what_is_not_known_is_empty_never_zero(folder):
    rows = written(folder)
    refused = next(r for r in rows if r["status"] == "refused")
    assert {refused[name] for name in REQUIRED[5:]} == {""}
    assert next(r for r in rows if r["arm"] == "none")["epsilon"] == ""
    unadapted = next(r for r in rows if r["arm"] == "dp-sgd + static-int8")
    assert (unadapted["robust_accuracy:pgd"], unadapted["robust_accuracy:transfer"] != "") == ("", True)


def test_a_collapsed_cell_says_so(study):
    rows = table_rows(study)
    assert {r["arm"] for r in rows if r.get("collapsed") == "true"} == {"dp-sgd + static-int8 + adversarial-training"}


def test_the_terminal_shows_clean_beside_infected(folder):
    text = shown(folder)
    lines = [line.split() for line in text.splitlines()]
    assert ["none", "none", "0.958", "0.918"] in [words[:4] for words in lines]  # arm, epsilon, clean, infected
    assert "collapsed" in text and "refused" in text and "≤" in text
    assert "Mean over 2 seeds" in text


def test_a_figure_that_no_attack_has_is_called_a_loose_bound(folder, write_study, tmp_path):
    """The clean accuracy stood in its place, as if it were a robust one; the page says what it is."""
    whole = write_study(tmp_path, seeds=(0,), trouble=False)
    for path in whole.glob("cells/*/evidence.json"):
        record = json.loads(path.read_text())
        if record["cell"]["arm"] == "none":
            for finding in record["findings"].values():
                if finding["threat"]["aim"] == "evasion":
                    undefined = {
                        "value": None,
                        "low": None,
                        "high": None,
                        "reason": "not adaptively evaluated: no gradient",
                    }
                    finding["measures"] = [{**m, **undefined} for m in finding["measures"]]
                    finding["scores"] = None
            path.write_text(json.dumps(record))
    said = shown(whole)
    rows = [line.split() for line in said.splitlines()]
    at = next(i for i, words in enumerate(rows) if words[:2] == ["none", "none"])
    assert "≤" in rows[at] and "loose" in rows[at + 1]
    assert "Loose bound: some attack has no figure" in " ".join(said.split())
    row = next(r for r in written(whole) if (r["arm"], r["infected_by"]) == ("none", "none"))
    assert row["worst_case"] == ""


def test_a_narrow_terminal_folds_names_and_keeps_numbers(folder):
    assert "0.958" in shown(folder, width=80)


def test_an_attack_that_sees_no_model_gives_no_figure_of_one(study):
    """Whatever its kind: its evidence says so."""
    cell = next(cell for cell in study.evidence if measure_of(cell, "mia_advantage") is not None)
    (seeing,) = cell.aimed("membership")
    for sees, value in ((False, measure_of(cell, "mia_advantage").value), (True, 0.9)):
        other = replace(seeing, name="a", kind="a", sees_model=sees, measures=(Measure("advantage", 0.9),))
        both = replace(cell, attacks=(other, *cell.attacks))
        assert measure_of(both, "mia_advantage").value == value
        assert _seeing(both, "mia_advantage") is (other if sees else seeing)
