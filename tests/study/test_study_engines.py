"""An engine in a study: chosen, recorded, kept on resume; one that cannot carry an arm is refused before training."""

from __future__ import annotations

import json

import pytest
import torch

from consilium import Study
from consilium.core.errors import Refused
from consilium.federate.checkpoint import load_checkpoint
from consilium.federate.engines.pool import why_no_fork
from consilium.study.build.engine_choice import engine_record

pooled = pytest.mark.skipif(why_no_fork() is not None, reason=f"no pool here: {why_no_fork()}")
DP = {"kind": "dp-sgd", "noise-multiplier": 2.0, "delta": 1e-3}


def tables(engine, **federation):
    return {
        "name": "carried",
        "data": {"kind": "digits", "sites": 3},
        "model": {"kind": "mlp", "hidden": 8},
        "federation": {"kind": "fed-avg", "rounds": 2, "lr": 0.2, "engine": engine, **federation},
    }


def trained(out, made):
    results = Study.of(made).run(out, quiet=True)
    assert not results.outcome.failed
    (folder,) = (results.folder / "trainings").iterdir()
    (cell,) = (results.folder / "cells").iterdir()
    state, _ = load_checkpoint(folder / "checkpoint.safetensors")
    return state.server.params, folder, json.loads((cell / "evidence.json").read_text())


@pooled
def test_what_carried_a_training_stands_in_its_evidence_and_changes_nothing(tmp_path) -> None:
    params, folder, evidence = trained(tmp_path / "loop", tables("loop"))
    assert evidence["engine"] == engine_record(folder)
    assert evidence["engine"]["kind"] == "loop"
    for engine in ("pool", "stacked"):
        other, _, told = trained(tmp_path / engine, tables(engine, workers=2))
        assert (told["engine"]["kind"], told["engine"]["workers"]) == (engine, 2)
        assert float((other - params).norm() / params.norm()) < 1e-5
        assert told["utility"][0]["value"] == evidence["utility"][0]["value"]


@pooled
def test_the_number_of_workers_is_in_no_digest(tmp_path) -> None:
    one, two = (trained(tmp_path / str(n), tables("pool", workers=n)) for n in (1, 2))
    assert one[1].name == two[1].name
    assert torch.equal(one[0], two[0])


def test_auto_says_what_it_took_and_why_and_a_resumed_training_keeps_it(tmp_path) -> None:
    _, folder, evidence = trained(tmp_path, tables("auto"))
    assert evidence["engine"]["asked"] == "auto"
    assert evidence["engine"]["kind"] == "loop"
    assert evidence["engine"]["seconds_per_site"]["loop"] > 0
    (folder / "checkpoint.safetensors").unlink()
    (folder / "training.json").unlink()
    record = {**engine_record(folder), "why": "remembered"}
    (folder / "engine.json").write_text(json.dumps(record))
    trained(tmp_path, tables("auto"))
    assert engine_record(folder)["why"] == "remembered"


@pytest.mark.parametrize(
    ("defence", "reason"), [(DP, "mean gradients"), ({"kind": "adversarial-training"}, "prepares no batches")]
)
def test_an_engine_that_cannot_carry_an_arm_is_refused_before_training(defence, reason) -> None:
    with pytest.raises(Refused, match=rf"federation\.engine: arm .*{reason}.*engine = \"pool\" or \"loop\""):
        Study.of({**tables("stacked"), "vary": {"a": [defence]}}).plan()
