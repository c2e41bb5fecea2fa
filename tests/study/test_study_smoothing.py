"""A study of answer defences: the certificate stands in the evidence, and no attack breaks what it proves."""

import json

import pytest

from consilium import Study, load

SIGMA = 0.4


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    smoothing = {"kind": "randomised-smoothing", "sigma": SIGMA, "samples": 200, "certificate-samples": 200}
    study = Study.of(
        {
            "name": "smoothed",
            "threads": 1,
            "data": {"kind": "digits", "sites": 2},
            "model": {"kind": "mlp", "hidden": 32},
            "federation": {"kind": "fed-avg", "rounds": 6, "lr": 0.3},
            "vary": {
                "training": [{"kind": "gaussian-augmentation", "sigma": SIGMA}],
                "answer": [smoothing, {"kind": "bit-depth", "bits": 2}, {"kind": "median-smoothing"}],
            },
            "attacks": [{"kind": "pgd", "norm": "l2", "radius": SIGMA, "steps": 4}, {"kind": "loss-threshold"}],
        }
    )
    results = study.run(tmp_path_factory.mktemp("smoothed"), quiet=True)
    assert not results.outcome.failed
    return results


def cells(results):
    for cell in results.plan.cells:
        folder = results.folder / "cells" / cell.digest
        yield cell.arm.name, folder, json.loads((folder / "evidence.json").read_text())


def test_what_is_certified_withstands_every_attack_of_that_size(results):
    certified = 0
    for name, _, evidence in cells(results):
        utility = {m["name"]: m for m in evidence["utility"]}
        assert ("average_certified_radius" in utility) == ("randomised-smoothing" in name)
        if "randomised-smoothing" not in name:
            continue
        measures = evidence["findings"]["pgd"]["measures"]
        robust = next(m for m in measures if m["name"] == "robust_accuracy")
        assert utility["certified_accuracy_at_sigma"]["value"] <= robust["value"] + 0.02
        assert utility["certified_accuracy"]["value"] <= utility["accuracy"]["value"] + 0.02
        assert utility["certified_accuracy"]["n"] == robust["n"]
        certified += 1
    assert certified == 2


def test_noise_while_training_is_what_makes_it_provable(results):
    radius = {
        name: m["value"]
        for name, _, evidence in cells(results)
        for m in evidence["utility"]
        if m["name"] == "average_certified_radius"
    }
    plain, noisy = (radius[name] for name in sorted(radius, key=lambda name: "gaussian" in name))
    assert noisy > plain


def test_a_loaded_model_answers_as_it_was_judged(results):
    for name, folder, evidence in cells(results):
        accuracy = next(m["value"] for m in evidence["utility"] if m["name"] == "accuracy")
        assert accuracy > 0.3, name
        assert load(folder) is not None


def test_the_report_has_the_certified_figures(results):
    page = (results.folder / "report.html").read_text()
    assert "certified" in page
