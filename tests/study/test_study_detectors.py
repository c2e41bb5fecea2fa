"""A study of detectors: figures in evidence, table and report, and a stored model that rejects as it did."""

import json

import pytest
import torch

import consilium
from consilium import Study, load
from consilium.core.detection import detector_of

ARMS = ["feature-squeezing", "mahalanobis"]


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    study = Study.of(
        {
            "name": "detected",
            "threads": 1,
            "data": {"kind": "digits", "sites": 2, "public": 0.15},
            "model": {"kind": "mlp", "hidden": 16},
            "federation": {"kind": "fed-avg", "rounds": 3, "lr": 0.3},
            "vary": {"detector": [*ARMS, ["static-int8", "feature-squeezing"]]},
            "attacks": [{"kind": "detection", "radius": 0.15, "steps": 6, "restarts": 0}],
        }
    )
    results = study.run(tmp_path_factory.mktemp("detected"), quiet=True)
    assert not results.outcome.failed
    return results


def cells(results):
    for cell in results.plan.cells:
        folder = results.folder / "cells" / cell.digest
        measures = json.loads((folder / "evidence.json").read_text())["findings"]["detection"]["measures"]
        yield cell.arm.name, folder, {measure["name"]: measure for measure in measures}


def test_each_detector_has_its_rates_and_the_undefended_model_the_reason(results):
    names = [name for name, _, _ in cells(results)]
    assert names == ["none", *ARMS, "static-int8+feature-squeezing"]
    for name, _, measures in cells(results):
        plain, adaptive = measures["detection_auc_plain"], measures["detection_auc_adaptive"]
        if name == "none":
            assert plain["value"] is None and "no detector" in plain["reason"]
            continue
        assert 0 <= adaptive["value"] <= plain["value"] + 0.02 and plain["chance"] == 0.5
        assert plain["low"] <= plain["value"] <= plain["high"] and plain["n"] > 20
        assert measures["false_positive_rate"]["value"] < 0.15
        assert measures["robust_accuracy_with_rejection"]["n"] == measures["robust_accuracy"]["n"]


def test_a_loaded_model_rejects_as_it_was_judged(results):
    for name, folder, measures in cells(results):
        detecting = detector_of(load(folder))
        assert (detecting is None) == (name == "none")
        if detecting is not None:
            rejected = float(detecting.rejects(consilium.test_set(folder).x).float().mean())
            assert rejected == pytest.approx(measures["false_positive_rate"]["value"])


def test_a_detector_changes_no_answer(results):
    by_name = {name: folder for name, folder, _ in cells(results)}
    x = consilium.test_set(by_name["none"]).x[:50]
    assert torch.equal(load(by_name["none"])(x), load(by_name["mahalanobis"])(x))


def test_report_and_table_have_the_figures(results):
    page = (results.folder / "report.html").read_text()
    assert "AUC of the detector, attacker knows it" in page and "clean records rejected" in page
    header = (results.folder / "table.csv").read_text().splitlines()[0].split(",")
    assert {"detection_auc_plain:detection", "detection_auc_adaptive:detection"} <= set(header)
