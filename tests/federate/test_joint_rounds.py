"""Assessments that travel with the next round end in the same log as assessments that are asked for by themselves."""

import json
from dataclasses import replace

import pytest
import torch

from consilium.core.charge import Composed, Gaussian
from consilium.core.gradient import Schedule
from consilium.federate.client.charges_paid import entered
from consilium.federate.engines.loop import Loop
from consilium.federate.round.federated_evaluation import Assessing
from consilium.federate.round.round import RoundState
from consilium.federate.train import train
from consilium.learn.tasks.single_label import SingleLabel

ROUNDS = 4
SITES = ("site-0", "site-1", "site-2")


class Stop(Exception):
    """Whoever pulled the plug."""


class Folded(Loop):
    """As a deployment does it: who is asked to train also judges what it received."""

    joins = True

    def __init__(self, exchange, stop_in=0):
        self.exchange, self.stop_in, self.asked = exchange, stop_in, []

    def carry(self, work):
        joint = isinstance(work.inbox, tuple)
        if work.phase == "round" and (work.inbox[1] if joint else work.inbox).round == self.stop_in:
            raise Stop
        self.asked.append((work.phase, joint))
        return super().carry(work)


def run(folder, federation, network, made=None, seen=None, **more):
    exchange = federation(schedule=Schedule(ROUNDS, 1, 7), **more)
    engine = Loop() if made is None else made(exchange)
    start = RoundState(exchange.half.algorithm.start(network, 3))
    judging = Assessing(exchange.half.algorithm, exchange.sites, SingleLabel())
    seen = [] if seen is None else seen
    done = train(engine, exchange, judging, start, ROUNDS, folder, lambda report, _: seen.append(dict(report)))
    return done, engine, seen


def lines(folder):
    found = [json.loads(line) for line in (folder / "rounds.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if k != "seconds"} for line in found]


def test_the_log_and_the_model_are_those_of_the_loop_with_fewer_exchanges(tmp_path, federation, network):
    plain, _, told = run(tmp_path / "loop", federation, network)
    folded, engine, seen = run(tmp_path / "folded", federation, network, Folded)
    assert torch.equal(plain.state.server.params, folded.state.server.params)
    assert lines(tmp_path / "folded") == lines(tmp_path / "loop")
    assert [r["round"] for r in seen] == [r["round"] for r in told] == [1, 2, 3, 4]
    assert [r["sites"] for r in seen] == [r["sites"] for r in told]
    assert engine.asked == [("round", False), *[("round", True)] * 3, ("assess", False)]


@pytest.mark.parametrize("stop", [2, 3, 4])
def test_a_killed_one_goes_on_and_no_line_is_left_without_its_assessments(tmp_path, federation, network, stop):
    run(tmp_path / "loop", federation, network)
    with pytest.raises(Stop):
        run(tmp_path / "cut", federation, network, lambda e: Folded(e, stop))
    assert lines(tmp_path / "cut")[-1]["sites"] == [], "the model of the last round was not judged yet"
    run(tmp_path / "cut", federation, network, Folded)
    assert lines(tmp_path / "cut") == lines(tmp_path / "loop")


def test_where_not_everybody_takes_part_nothing_is_folded(tmp_path, federation, network):
    run(tmp_path / "loop", federation, network, fraction=0.67)
    _, engine, _ = run(tmp_path / "folded", federation, network, Folded, fraction=0.67)
    assert lines(tmp_path / "folded") == lines(tmp_path / "loop")
    assert not any(folded for _, folded in engine.asked)


def test_what_was_paid_by_a_round_does_not_hold_the_next_one(tmp_path, federation, network):
    """A round is judged with the next one: the ledgers that are told with it were those of both."""

    def told(folder, made):
        exchange = federation(schedule=Schedule(ROUNDS, 1, 7))
        start = RoundState(exchange.half.algorithm.start(network, 3))
        judging, seen = Assessing(exchange.half.algorithm, exchange.sites, SingleLabel()), []

        def tell(report, states):
            seen.append((report["round"], {site: paid(states[site].ledger) for site in states}))

        train(made(exchange), exchange, judging, start, ROUNDS, folder, tell)
        return seen

    assert told(tmp_path / "folded", Charging) == [(k, dict.fromkeys(SITES, k)) for k in range(1, ROUNDS + 1)]


class Charging(Folded):
    """Each round costs a site one charge."""

    def carry(self, work):
        for site, out, state in super().carry(work):
            worked = work.phase == "round"
            yield site, out, replace(state, ledger=entered(state.ledger, Gaussian(1.0))) if worked else state


def paid(ledger):
    return sum(charge.count if isinstance(charge, Composed) else 1 for charge in ledger)
