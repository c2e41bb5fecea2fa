"""The studies of generated findings and masks of the repository, made small: trained, attacked, judged."""

import json
import tomllib
from pathlib import Path

import pytest

from consilium import Study

STUDIES = Path(__file__).parents[2] / "studies"
SMALL = {
    "multi-label": {"data": {"patients": 120}, "federation": {"rounds": 1, "batch": 16}},
    "masks": {"data": {"patients": 80, "size": 16}, "federation": {"rounds": 1, "batch": 8}},
}


def small(name):
    given = tomllib.loads((STUDIES / f"{name}.toml").read_text())
    for table, knobs in SMALL[name].items():
        given[table] |= knobs
    for attack in given["attacks"]:
        attack |= {knob: 1 for knob in ("steps", "restarts") if knob in attack}
    given["vary"].pop("robustness", None)
    given["vary"]["privacy"][0]["batch"] = 8
    return Study.of(given)


# torch quantises the two inputs of a U-Net's cat by ranges of their own; its kernels are compared with their reference
@pytest.mark.filterwarnings("ignore:All inputs of this cat operator:UserWarning")
@pytest.mark.parametrize(("name", "score"), [("multi-label", "macro_auroc"), ("masks", "dice")])
def test_the_study_runs_per_patient_with_int8_attacks_and_figures(tmp_path, name, score):
    if name == "masks":
        pytest.importorskip("monai", reason="the extra medical is not installed")
    results = small(name).run(tmp_path, quiet=True)
    assert not results.outcome.failed and len(results.plan.cells) == 4
    for cell in results.plan.cells:
        evidence = json.loads((results.folder / "cells" / cell.digest / "evidence.json").read_text())
        assert {m["name"]: m for m in evidence["utility"]}[score]["value"] is not None
        assert {f["status"] for f in evidence["findings"].values()} == {"ok"}
        if "dp-sgd" in cell.arm.name:
            assert {claim["unit"] for claim in evidence["privacy"]["claims"]} == {"patient"}
