"""Recipes for accuracy under DP, in whole studies: they change the model and never the claim."""

import json

import pytest
import torch

import consilium
from consilium import Study
from consilium.core.errors import Refused
from consilium.federate.checkpoint import load_checkpoint
from consilium.federate.round.model_ema import ModelEMA

DP = {"kind": "dp-sgd", "epsilon": 6.0, "delta": 1e-4, "clip": 0.1}
TABLES = {
    "name": "recipes",
    "data": {"kind": "digits", "sites": 2},
    "model": {"kind": "scattering", "scale": 1, "angles": 4, "groups": 5},
    "federation": {"kind": "fed-avg", "rounds": 2, "batch": 128, "lr": 8.0, "momentum": 0.9, "engine": "loop"},
    "vary": {"privacy": [DP]},
}


def run(out, **federation):
    tables = {**TABLES, "federation": {**TABLES["federation"], **federation}}
    results = Study.of(tables).run(out, quiet=True)
    assert not results.outcome.failed
    cells = [path.parent for path in (results.folder / "cells").glob("*/evidence.json")]
    (private,) = [c for c in cells if json.loads((c / "evidence.json").read_text())["privacy"]["epsilon"] is not None]
    return results.folder, private, json.loads((private / "evidence.json").read_text())


@pytest.fixture(scope="module")
def averaged(tmp_path_factory):
    return run(tmp_path_factory.mktemp("averaged"), ema=0.5, **{"lr-schedule": "cosine"})


def test_what_is_released_is_the_average_on_raw_images(averaged):
    folder, cell, evidence = averaged
    module = consilium.load(cell)
    released = torch.cat([p.detach().flatten() for p in module.parameters()])
    state, _ = load_checkpoint(folder / "trainings" / evidence["training"] / "checkpoint.safetensors")
    torch.testing.assert_close(released, ModelEMA(0.5).released(state.server).params)
    assert not torch.allclose(released, state.server.params)
    assert consilium.test_set(cell).x.shape[1:] == (1, 8, 8)


def test_it_learns_and_costs_what_it_cost(averaged, tmp_path):
    _, _, evidence = averaged
    _, _, plain = run(tmp_path)
    assert evidence["privacy"]["claims"] == plain["privacy"]["claims"]
    assert evidence["privacy"]["epsilon"] <= 6.0


def test_a_personal_algorithm_has_no_average_to_release():
    tables = {**TABLES, "federation": {"kind": "ditto", "rounds": 2, "ema": 0.5}}
    with pytest.raises(Refused, match="model for each site"):
        Study.of(tables).plan()


def test_views_and_layers_for_dp_go_together(tmp_path):
    """One round of all of them at once, on the smallest network."""
    tables = {
        **TABLES,
        "data": {"kind": "digits", "sites": 1},
        "model": {"kind": "resnet9", "width": 2, "weight-standardisation": True, "scale-norm": True},
        "federation": {"kind": "fed-avg", "rounds": 1, "batch": 512, "lr": 0.5, "engine": "loop"},
        "vary": {"privacy": [[DP, {"kind": "augmentation", "copies": 2, "shift": 1}]]},
    }
    results = Study.of(tables).run(tmp_path, quiet=True)
    assert not results.outcome.failed
    assert results.outcome.trained == 2
