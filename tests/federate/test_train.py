"""Rounds resume exactly: the same parameters, ledgers and log as a run that was not stopped."""

from __future__ import annotations

import json

import pytest
import torch

from consilium.core.charge import Composed, Gaussian, PoissonSampled
from consilium.core.errors import Failed
from consilium.core.gradient import Schedule
from consilium.core.records import Limits
from consilium.defend.training.dp_sgd import DPSGD
from consilium.federate.checkpoint import load_checkpoint
from consilium.federate.client.assessment import assess
from consilium.federate.engines.loop import Loop
from consilium.federate.round.federated_evaluation import Assessing, mean_accuracy
from consilium.federate.round.round import RoundState
from consilium.federate.round.round_log import RoundLog
from consilium.federate.train import train
from consilium.learn.mean_gradient import MeanGradient
from consilium.learn.objectives import TaskLoss
from consilium.learn.tasks.single_label import SingleLabel

ROUNDS = 5


class Stop(Exception):
    """Whoever pulled the plug."""


def run(folder, federation, network, sites, stop_after=None, private=True):
    rule = DPSGD(noise_multiplier=2.0, delta=1e-3).rule(MeanGradient()) if private else MeanGradient()
    exchange = federation(schedule=Schedule(ROUNDS, 1, 7), rule=rule)

    def progress(report, _):
        if report["round"] == stop_after:
            raise Stop

    start = RoundState(exchange.half.algorithm.start(network, 3))
    return train(
        Loop(),
        exchange,
        Assessing(exchange.half.algorithm, exchange.sites, SingleLabel()),
        start,
        ROUNDS,
        folder,
        progress,
    )


def lines(folder):
    return [json.loads(line) for line in (folder / "rounds.jsonl").read_text().splitlines()]


def test_resumed_training_is_the_uninterrupted_one(tmp_path, federation, network, sites) -> None:
    whole = run(tmp_path / "whole", federation, network, sites)
    for stop in (1, 3, 4):
        with pytest.raises(Stop):
            run(tmp_path / "cut", federation, network, sites, stop_after=stop)
    resumed = run(tmp_path / "cut", federation, network, sites)
    assert resumed.resumed_from == 4
    assert torch.equal(resumed.state.server.params, whole.state.server.params)
    assert {k: v.ledger for k, v in resumed.sites.items()} == {k: v.ledger for k, v in whole.sites.items()}
    logs = [lines(tmp_path / name) for name in ("whole", "cut")]
    for line in (*logs[0], *logs[1]):
        del line["seconds"]
    assert logs[0] == logs[1]


def test_the_ledger_counts_every_step_of_every_round(tmp_path, federation, network, sites) -> None:
    done = run(tmp_path, federation, network, sites)
    for site in sites:
        n = len(site.records.train)
        ledger = done.sites[site.id].ledger
        assert len(ledger) == 1
        assert isinstance(ledger[0], Composed) and ledger[0].count == ROUNDS * -(-n // 7)
        assert all(c.inner == PoissonSampled(7 / n, Gaussian(2.0)) for c in ledger)


def test_a_log_line_whose_round_was_not_kept_is_dropped(tmp_path, federation, network, sites) -> None:
    with pytest.raises(Stop):
        run(tmp_path, federation, network, sites, stop_after=2)
    with (tmp_path / "rounds.jsonl").open("a") as log:
        log.write('{"round": 3, "seconds": 0}\n{"round": 4, "sec')
    run(tmp_path, federation, network, sites)
    assert [line["round"] for line in lines(tmp_path)] == [1, 2, 3, 4, 5]


def test_a_broken_checkpoint_is_named(tmp_path, federation, network, sites) -> None:
    (tmp_path / "checkpoint.safetensors").write_bytes(b"not tensors")
    with pytest.raises(Failed, match="checkpoint"):
        run(tmp_path, federation, network, sites)


def test_checkpoint_holds_everything(tmp_path, federation, network, sites) -> None:
    done = run(tmp_path, federation, network, sites)
    state, held = load_checkpoint(tmp_path / "checkpoint.safetensors")
    assert state.server.round == ROUNDS
    assert torch.equal(state.server.params, done.state.server.params)
    assert held["site-1"].ledger == done.sites["site-1"].ledger


class Exploding(TaskLoss):
    """Losses past what float32 can hold."""

    def losses(self, predict, batch):
        return super().losses(predict, batch) * 1e38 * 1e38


def test_divergence_is_a_failure_with_a_remedy(tmp_path, federation, network, sites) -> None:
    exchange = federation(objective=Exploding(SingleLabel()))
    start = RoundState(exchange.half.algorithm.start(network, 3))
    with pytest.raises(Failed, match=r"no update of round 1 could be used \(site-0: not finite"):
        train(
            Loop(),
            exchange,
            Assessing(exchange.half.algorithm, exchange.sites, SingleLabel()),
            start,
            3,
            tmp_path,
            lambda *_: None,
        )
    assert not (tmp_path / "checkpoint.safetensors").exists()


def test_only_aggregates_over_enough_records_leave_a_site(sites, network) -> None:
    params, buffers = network.start()
    told = assess(sites[0], network, SingleLabel(), params, buffers)
    assert told.n == 6
    assert told.accuracy is not None
    from dataclasses import replace

    few = replace(sites[0], limits=Limits(minimum_count=7))
    assert assess(few, network, SingleLabel(), params, buffers).accuracy is None
    silent = replace(sites[0], limits=Limits(consent=False))
    assert assess(silent, network, SingleLabel(), params, buffers).reason == "the site gives no consent"
    mean, worst, _ = mean_accuracy([told, assess(few, network, SingleLabel(), params, buffers)])
    assert mean == worst == told.accuracy
    assert mean_accuracy([assess(silent, network, SingleLabel(), params, buffers)]) == (None, None, None)


@pytest.mark.parametrize("changed", [{"seconds": "1.0"}, {"round": "2"}, {"cohort": None}, {"refused": {}}], ids=str)
def test_a_line_with_a_field_of_another_type_is_no_line_of_its_round(tmp_path, changed):
    lines = [{"round": k, "seconds": k / 2, "sites": [], "cohort": ["a"], "refused": []} for k in (1, 2)]
    log = RoundLog(tmp_path / "rounds.jsonl")
    for line in lines:
        log.append(line)
    assert log.settle(2) == [0.5, 1.0] and log.last() == lines[1]
    log.amend({**lines[1], **changed})
    with pytest.raises(Failed, match="no readable line of round 2"):
        log.settle(2)
