"""The deployment engine without its wire: what answers count, and where the others are remembered."""

import json
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from consilium.core.algorithm import Server
from consilium.core.errors import Failed, Refused
from consilium.core.update import Update
from consilium.deploy.protocol import messages as wire
from consilium.deploy.transport.flower import Caller, Deployment, Flower, _Poll, message_bytes
from consilium.federate.client.assessment import assess
from consilium.federate.client.participant import SiteState
from consilium.federate.engines.loop import Loop
from consilium.federate.round.federated_evaluation import Assessing, AssessState
from consilium.federate.round.round import RoundState
from consilium.federate.round.run_exchange import run_exchange
from consilium.federate.train import train
from consilium.learn.tasks.single_label import SingleLabel

REQUEST = wire.StudyRequest("s", 3, 3, 1, 8, {"kind": "fed-avg"}, {"kind": "mlp"})
STUDY = REQUEST.digest()
NODES = {"site-0": 10, "site-1": 11, "site-2": 12}


class Machines:
    """Sites that answer over bytes; ``faulty`` says what some of them send instead."""

    def __init__(self, exchange, faulty):
        self.exchange, self.faulty, self.nodes, self.deadline, self.said = exchange, faulty, NODES, 9.0, []
        self.say = self.said.append

    def ask(self, sites, parts, read, name):
        assert wire.decode_request(parts["request"]) == REQUEST
        came, refused = {}, {}
        for site in sites:
            answers = self.answers(site, parts)
            if answers["answer"] is None:
                continue
            try:
                came[site] = read(site, reply(**answers))
            except Refused as error:
                refused[site] = str(error)
        return came, refused

    def answers(self, site, parts):
        if wire.kind_of(parts["question"]) == "model":
            return {"answer": self.judged(site, wire.decode_model(parts["question"], wire.Context(STUDY)))}
        inbox = wire.decode_broadcast(parts["question"], wire.Context(STUDY))
        update, _ = self.exchange.site_half.site("round", site, inbox, SiteState())
        data = self.faulty.get(site, lambda update: wire.encode_update(update, STUDY))(update)
        before = Server(inbox.round - 1, inbox.params, inbox.buffers)
        return {"answer": data} | ({"assessment": self.judged(site, before)} if "assess" in parts else {})

    def judged(self, site, model):
        person = self.exchange.sites[site]
        assessment = assess(person.site, person.network, SingleLabel(), model.params, model.buffers)
        return wire.encode_assessment(assessment, STUDY, model.round)


def start(exchange):
    net = exchange.sites["site-0"].network
    return RoundState(exchange.half.algorithm.start(net, 3))


def carried(exchange, faulty):
    machines = Machines(exchange, faulty)
    weights = {site: person.weight for site, person in exchange.sites.items()}
    engine = Flower(machines, Deployment(REQUEST, weights, {}))
    state = run_exchange(engine, exchange, start(exchange), {}, SiteState, "round 1")
    return state.with_rejections(engine.rejections()), machines


def changed(**fields):
    return lambda update: wire.encode_update(Update(**{**vars(update), **fields}), STUDY)


FAULTS = {
    "claims to be from 'site-0'": changed(site="site-0"),
    "is of round 7, not 1": changed(round=7),
    "weighs 1e+06": changed(weight=1e6),
    "is not finite": lambda u: holding(u, delta=u.payload["delta"] / 0),
    "not a message of Consilium": lambda _: b"\x80\x04\x95 a pickle",
    "truncated": lambda u: wire.encode_update(u, STUDY)[:99],
    "is of the study": lambda u: wire.encode_update(u, "f" * 64),
    "3.1 of 5 is left": lambda _: wire.encode_refusal(
        wire.RefusalMessage("site-1", 1, "budget", "3.1 of 5 is left"), STUDY
    ),
    "has not the shape": lambda u: holding(u, delta=u.payload["delta"][:3]),
    "the server did not request": lambda u: holding(u, accuracy=torch.ones(1)),
    "delta is of int64, not of float32": lambda u: holding(u, delta=u.payload["delta"].long()),
    "delta is of float64, not of float32": lambda u: holding(u, delta=u.payload["delta"].double()),
    "buffers is of bool, not of float32": lambda u: holding(u, buffers=u.payload["buffers"].bool()),
    "float32 has no square of that": lambda u: holding(u, delta=torch.full_like(u.payload["delta"], 3e38)),
    "breaks the merged model": lambda u: holding(u, delta=torch.full_like(u.payload["delta"], -1e15)),
}


def holding(update, **tensors):
    return changed(payload={**update.payload, **tensors})(update)


def test_without_faults_it_is_the_loop(federation):
    exchange = federation()
    wanted = run_exchange(Loop(), exchange, start(exchange), {}, SiteState, "round 1")
    state, machines = carried(exchange, {})
    assert torch.equal(state.server.params, wanted.server.params)
    assert state.refused == {} and machines.said == []


@pytest.mark.parametrize("reason", FAULTS)
def test_a_faulty_answer_is_named_and_the_model_is_that_of_the_others(federation, reason):
    exchange = federation()
    state, _ = carried(exchange, {"site-1": FAULTS[reason]})
    silent, _ = carried(exchange, {"site-1": lambda _: None})
    assert torch.equal(state.server.params, silent.server.params)
    assert list(state.refused) == ["site-1"] and reason in state.refused["site-1"]
    assert (state.dropped, silent.dropped, silent.refused) == ((), ("site-1",), {})
    assert state.lost() == silent.lost() == ("site-1",)


NAN = FAULTS["is not finite"]


def busy(update):
    return wire.encode_refusal(wire.RefusalMessage(update.site, 1, "budget", "3.1 of 5 is left"), STUDY)


def test_what_the_desk_turns_away_counts_as_divergence(federation):
    """A simulation stops where nobody's update can be used, and so does a deployment: it is never called ok."""
    with pytest.raises(Failed, match=r"round 1\.server: no update of round 1 could be used \(site-0: .*not finite"):
        carried(federation(), dict.fromkeys(NODES, NAN))


def test_sites_that_say_themselves_that_they_take_no_part_diverge_from_nothing(federation):
    state, _ = carried(federation(), dict.fromkeys(NODES, busy))
    assert state.aborted == "0 of 1 updates" and list(state.refused) == list(NODES)


def test_an_assessment_weighs_no_more_than_the_site_declared(federation):
    """The mean accuracy of a round is over records: a site that claims 10^15 of them would be all of it."""
    exchange = federation()
    machines = Machines(exchange, {})
    true = machines.judged
    many = lambda site, model: wire.encode_assessment(  # noqa: E731
        replace(wire.decode_assessment(true(site, model), wire.Context(STUDY)), n=10**15), STUDY, model.round
    )
    machines.judged = lambda site, model: (many if site == "site-1" else true)(site, model)
    weights = {site: person.weight for site, person in exchange.sites.items()}
    held_out = {site: len(person.site.records.validation) for site, person in exchange.sites.items()}
    engine = Flower(machines, Deployment(REQUEST, weights, {}, held_out=held_out))
    judging = Assessing(exchange.sites["site-0"].algorithm, exchange.sites, SingleLabel())
    assessments = run_exchange(
        engine, judging, AssessState(start(exchange).server, tuple(NODES)), {}, SiteState, "round 0"
    ).assessments
    assert [one.site for one in assessments] == ["site-0", "site-2"]
    assert "over 1000000000000000 records; the site declared 6" in engine.refusals["site-1"]


def test_the_comparison_can_fail(federation):
    exchange = federation()
    state, _ = carried(exchange, {})
    silent, _ = carried(exchange, {"site-1": lambda _: None})
    assert not torch.equal(state.server.params, silent.server.params)


def test_who_was_turned_away_stands_in_the_log_of_rounds(federation, tmp_path):
    exchange = federation()
    person = exchange.sites["site-0"]
    machines = Machines(exchange, {"site-1": changed(site="site-0")})
    engine = Flower(machines, Deployment(REQUEST, {s: p.weight for s, p in exchange.sites.items()}, {}))
    judging = Assessing(person.algorithm, exchange.sites, SingleLabel())
    train(engine, exchange, judging, start(exchange), 3, tmp_path, lambda report, held: None)
    rounds = [json.loads(line) for line in (tmp_path / "rounds.jsonl").read_text().splitlines()]
    assert [line["round"] for line in rounds] == [1, 2, 3]
    for line in rounds:
        (refused,) = line["refused"]
        assert refused["site"] == "site-1" and "claims to be from 'site-0'" in refused["reason"]
        assert line["dropped"] == [] and line["cohort"] == ["site-0", "site-1", "site-2"]
    assert len(rounds[-1]["sites"]) == 3


@pytest.mark.parametrize(("node", "token"), [(12, b"t" * 16), (11, b"f" * 16)])
def test_an_answer_from_another_node_is_not_read_and_the_true_one_still_counts(node, token):
    said = []
    asking = _Poll(Caller(None, NODES, 9.0, say=said.append), {}, lambda site, reply: message_bytes(reply, "answer"))
    asking.pending["m"] = "site-1", b"t" * 16
    asking._take(reply(node, token=token, answer=b"forged"))
    assert asking.came == {} == asking.refused and "in the place of site-1" in said[0]
    asking._take(reply(11, token=b"t" * 16, answer=b"true"))
    assert asking.came == {"site-1": b"true"} and asking.pending == {}


def reply(node=11, **parts):
    """A message of Flower, as far as it is looked at."""
    return SimpleNamespace(
        metadata=SimpleNamespace(reply_to_message_id="m", src_node_id=node),
        content=SimpleNamespace(config_records={"short": parts}, array_records={}),
        has_content=lambda: True,
        has_error=lambda: False,
    )
