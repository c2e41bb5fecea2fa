"""A study of patients with many records each, in which nothing is learned: no attack finds a signal."""

import json
import re

import numpy as np
import pytest

from consilium import Study

PATIENTS, RECORDS = 40, 25


@pytest.fixture(scope="module")
def evidence(tmp_path_factory):
    folder = tmp_path_factory.mktemp("patients")
    rng = np.random.default_rng(3)
    units = np.repeat(np.arange(PATIENTS), RECORDS)
    labels, base = rng.integers(0, 2, PATIENTS), rng.normal(0, 1, (PATIENTS, 4))
    x = np.clip(0.5 + 0.08 * base[units] + 0.0005 * rng.normal(0, 1, (len(units), 4)), 0, 1).astype("float32")
    np.savez(folder / "p.npz", x=x, y=labels[units], units=units, columns=list("abcd"))
    table = {
        "name": "patients",
        "seeds": [7],
        "threads": 1,
        "model": "logistic",
        "data": {"kind": "npz", "path": str(folder / "p.npz"), "sites": 1},
        "federation": {"kind": "fed-avg", "rounds": 1, "lr": 1e-9},
        "attacks": ["loss-threshold", {"kind": "pgd", "radius": 0.01, "steps": 1}],
    }
    return Study.of(table).run(folder / "out", quiet=True).folder


def test_no_signal_is_seen_and_the_patients_are_counted(evidence):
    cell = json.loads(next(evidence.glob("cells/*/evidence.json")).read_text())
    utility = {m["name"]: m for m in cell["utility"]}
    figures = {m["name"]: m for f in cell["findings"].values() for m in f["measures"]}
    assert figures["advantage"]["low"] <= 0 <= figures["advantage"]["high"]
    assert figures["auc"]["low"] <= 0.5 <= figures["auc"]["high"]
    assert (utility["accuracy"]["n"], utility["accuracy"]["unit_count"]) == (200, 8)
    assert figures["robust_accuracy"]["unit_count"] == 8
    assert utility["accuracy"]["high"] - utility["accuracy"]["low"] > 0.3
    assert "The 200 test records are of 8 patients (units): intervals are by patient, not by record." in cell["notes"]


def test_the_page_says_so(evidence):
    page = re.sub(r"\s+", " ", re.sub("<[^>]+>", " ", (evidence / "report.html").read_text()))
    assert "No membership attack found a signal" in page
    assert "200 test records of 8 patients" in page
