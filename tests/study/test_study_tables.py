"""Tables from file to figures for every task that has them, a claim per patient, and words that are written nowhere."""

import json

import numpy as np
import pytest

from consilium import Study

pytest.importorskip("pandas", reason="the extra 'tables' is not installed")

RNG = np.random.default_rng(0)
N = 240
X = RNG.random((N, 4)).round(3)
EFFUSION, NODULE = X[:, 0] > 0.5, X[:, 1] > 0.5
BP = (80 + 100 * X[:, 2]).round(1)
MONTHS = (0.5 + 20 * X[:, 3]).round(1)
WORDS = ("SCANNER-NORTH", "SCANNER-SOUTH")
TASKS = {
    "multi-label": {"task": "multi-label", "target": ["effusion", "nodule"], "drop": ["bp", "months", "died"]},
    "regression": {
        "task": {"kind": "regression", "low": 50.0, "high": 250.0, "tolerance": 20.0},
        "target": "bp",
        "drop": ["effusion", "nodule", "months", "died"],
    },
    "survival": {
        "task": {"kind": "survival", "cuts": [6.0, 12.0, 18.0], "horizon": 12.0},
        "time": "months",
        "event": "died",
        "drop": ["effusion", "nodule", "bp"],
    },
}


@pytest.fixture
def study(tmp_path):
    lines = ["a,b,c,d,effusion,nodule,bp,months,died,patient,scanner"]
    for k in range(N):
        gap = "" if k % 10 == 0 else f"{X[k, 0]:.3f}"
        values = [f"{v:.3f}" for v in X[k, 1:]]
        answers = [int(EFFUSION[k]), ("no", "yes")[int(NODULE[k])], BP[k], MONTHS[k], ("false", "true")[k % 3 > 0]]
        lines.append(",".join(map(str, [gap, *values, *answers, f"p{k // 2}", WORDS[k // 2 % 2]])))
    (tmp_path / "mine.csv").write_text("\n".join(lines) + "\n")

    def make(name, **more):
        data = {
            "kind": "table",
            "path": str(tmp_path / "mine.csv"),
            "patient": "patient",
            "attributes": ["scanner"],
            "ranges": [[column, 0.0, 1.0] for column in "abcd"],
            "fill": {"a": 0.5},
            "sites": 2,
            **TASKS[name],
            **more,
        }
        return Study.of(
            {
                "name": name,
                "threads": 1,
                "data": data,
                "model": "logistic",
                "federation": {"kind": "fed-avg", "rounds": 2, "lr": 0.5, "batch": 16},
                "vary": {"privacy": [{"kind": "dp-sgd", "epsilon": 8.0, "delta": 1e-3, "unit": "patient"}]},
                "attacks": [{"kind": "pgd", "steps": 3, "radius": 0.1}, {"kind": "loss-threshold"}],
            }
        )

    return make


@pytest.mark.parametrize("name", TASKS)
def test_a_table_runs_from_the_file_to_the_figures(study, tmp_path, name):
    results = study(name).run(tmp_path / "out", quiet=True)
    assert not results.outcome.failed
    task = results.plan.materials.consortium(0).task
    for cell in results.plan.cells:
        evidence = json.loads((results.folder / "cells" / cell.digest / "evidence.json").read_text())
        figures = {measure["name"]: measure for measure in evidence["utility"]}
        assert figures[task.score]["value"] is not None
        assert all(finding["status"] == "ok" for finding in evidence["findings"].values())
        if evidence["cell"]["arm"] == "dp-sgd":
            assert evidence["privacy"]["claims"][0]["unit"] == "patient"
    omitted = json.loads((results.folder / "study.json").read_text())["data"]["omitted"]
    assert any(one["count"] == N // 10 and "filled by constants" in one["what"] for one in omitted)


def test_the_words_of_an_attribute_are_in_no_file_of_the_study(study, tmp_path):
    results = study("regression", partition={"kind": "by-key", "attribute": "scanner"}).run(
        tmp_path / "out", quiet=True
    )
    files = [path for path in results.folder.rglob("*") if path.is_file()]
    assert files and not any(word.encode() in path.read_bytes() for path in files for word in WORDS)
    assert any(b'"scanner"' in path.read_bytes() for path in files)  # the name is: the study states it
    sites = [site.id for site in results.plan.materials.consortium(0).sites]
    assert sites == ["site-0", "site-1"]


def test_training_does_not_see_an_attribute(study, tmp_path):
    """Bit for bit the same model with and without one."""
    released = []
    for knobs in ({}, {"attributes": [], "drop": [*TASKS["regression"]["drop"], "scanner"]}):
        results = study("regression", **knobs).run(tmp_path / f"out{len(released)}", quiet=True)
        cells = [results.folder / "cells" / cell.digest / "evidence.json" for cell in results.plan.cells]
        models = [json.loads(cell.read_text())["model"] for cell in cells]
        released.append([(results.folder / "models" / m / "model.safetensors").read_bytes() for m in models])
    assert released[0] == released[1]
