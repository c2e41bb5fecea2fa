"""A site at work without a network: what it answers, what it refuses, and what it never does twice."""

import json
import re
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import save_file

pytest.importorskip("flwr", reason="the extra flower is not installed")

from consilium.deploy.protocol import messages as wire
from consilium.deploy.protocol.description import describe, understand
from consilium.deploy.protocol.enrolment import decode_enrolment
from consilium.deploy.site.policy import SiteLimits
from consilium.deploy.site.policy_enforcement import Guard
from consilium.deploy.site.site_data import holding_of
from consilium.deploy.site.worker import Worker
from consilium.deploy.transport.flower import message_bytes
from consilium.study.build.factory import assessing, exchange, start
from consilium.study.plan.plan import Materials
from consilium.study.spec.arms import arms
from consilium.study.spec.parse import parse

STUDY = {
    "name": "worked",
    "threads": 1,
    "data": {"kind": "digits", "sites": 3, "partition": "iid"},
    "model": "logistic",
    "federation": {"kind": "fed-avg", "rounds": 3},
}
NAMES = ["site-0", "site-1", "site-2"]


class Case:
    """A study, its request, and what a simulation answers."""

    def __init__(self, **more):
        self.spec = parse({**STUDY, **more})
        self.data = Materials(self.spec).consortium(0)
        self.net = Materials(self.spec).network(0)
        self.arm = arms(self.spec)[-1]
        self.request = describe(self.spec, self.arm, 0, "a training", self.data, NAMES)
        self.whole = exchange(self.spec, self.arm, 0, None, self.data, self.net)
        self.state = start(self.spec, self.arm, self.data, self.net)
        self.digest = self.request.digest()

    def ask(self, worker, question, **more):
        parts = {"request": wire.encode_request(self.request), "question": question, "token": b"t", **more}
        reply = SimpleNamespace(content=worker(arrived(parts)))
        assert message_bytes(reply, "token") == b"t"
        return reply

    def broadcast(self):
        return wire.encode_broadcast(self.whole.open(self.state)[1], self.digest)


def arrived(parts):
    """A message as the node hands it over."""
    return SimpleNamespace(content=SimpleNamespace(config_records={"short": parts}), has_content=lambda: True)


@pytest.fixture(scope="module")
def case():
    return Case()


@pytest.fixture
def worker(tmp_path):
    return Worker("site-1", holding_of("study"), tmp_path / "studies", Guard(SiteLimits(), tmp_path / "ledger"))


def paid(tmp_path):
    lines = (tmp_path / "ledger" / "journal.jsonl").read_text().splitlines()
    return [entry["round"] for entry in map(json.loads, lines) if "charges" in entry]


def test_it_declares_what_it_has(case, worker):
    reply = case.ask(worker, wire.encode_request(case.request))
    made = decode_enrolment(message_bytes(reply, "answer"), case.digest, "site-1")
    site = case.data.sites[1].records
    assert (made.train, made.validation, made.weight, made.own) == (
        len(site.train), len(site.validation), float(len(site.train)), False,
    )  # fmt: skip


def test_its_update_is_that_of_the_simulation(case, worker):
    update = wire.decode_update(
        message_bytes(case.ask(worker, case.broadcast()), "answer"), wire.Context(case.digest, 1)
    ).update
    _, inbox = case.whole.open(case.state)
    wanted, _ = case.whole.sites["site-1"].work(inbox, worker._studies[case.digest].store.state(1))
    assert torch.equal(update.payload["delta"], wanted.payload["delta"])
    assert update.weight == wanted.weight


def test_asked_twice_it_sends_the_same_bytes_and_pays_once(case, worker, tmp_path):
    first = message_bytes(case.ask(worker, case.broadcast()), "answer")
    again = Worker("site-1", worker.holding, worker.state, worker.guard)  # the program died and was started again
    assert message_bytes(case.ask(again, case.broadcast()), "answer") == first
    assert paid(tmp_path) == [1]


def test_a_crash_between_paying_and_storing_pays_again(case, worker, tmp_path, monkeypatch):
    monkeypatch.setattr("consilium.deploy.site.site_store.SiteStore.keep", lambda *_: 1 / 0)
    assert wire.kind_of(message_bytes(case.ask(worker, case.broadcast()), "answer")) == "refusal"
    monkeypatch.undo()
    case.ask(worker, case.broadcast())
    assert paid(tmp_path) == [1, 1]


def test_assessments_ride_with_the_update(case, worker):
    reply = case.ask(worker, case.broadcast(), assess=b"-")
    told_now = wire.decode_assessment(message_bytes(reply, "assessment"), wire.Context(case.digest, 0))
    judging = assessing(case.whole)
    wanted, _ = judging.site_half.site(
        "assess", "site-1", case.state.server, worker._studies[case.digest].store.state(1)
    )
    assert told_now == wanted


def test_more_rounds_than_it_allows_are_refused_by_name(case, tmp_path):
    worker = Worker("site-1", holding_of("study"), tmp_path, Guard(SiteLimits(max_rounds=2), tmp_path / "ledger"))
    answer = message_bytes(case.ask(worker, wire.encode_request(case.request)), "answer")
    refusal = wire.decode_refusal(answer, wire.Context(case.digest))
    assert (refusal.site, refusal.where) == ("site-1", "limits.max-rounds")
    assert "the study asks for 3; at most 2 are allowed" in refusal.reason


@pytest.mark.parametrize("question", [b"", b"not a message", b"\x80\x04pickle"])
def test_what_is_no_message_is_refused_and_nothing_breaks(case, worker, question):
    assert wire.kind_of(message_bytes(case.ask(worker, question), "answer")) == "refusal"


def twisted(**fields):
    """A case whose server asks for something else."""
    made = Case()
    made.request = wire.StudyRequest(**{**made.request.to_json(), "defences": (), **fields})
    made.digest = made.request.digest()
    return made


def tables(**more):
    plan = Case().request.plan
    return {**plan, "tables": {**plan["tables"], **more}}


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        (lambda: {"rounds": 1}, "two values for rounds"),
        (lambda: {"plan": tables(model={"kind": "module", "path": "os:abort"})}, "two values for"),
        (lambda: {"plan": tables(data={"kind": "npz", "path": "/etc/passwd"})}, "does not open files"),
        (lambda: {"plan": {}}, "describes no study"),
        (lambda: {"plan": {**Case().request.plan, "roster": 4}}, "describes no study"),
        (lambda: {"plan": {**Case().request.plan, "arm": ["none"]}}, "names no arm of its study"),
        (lambda: {"plan": {**Case().request.plan, "roster": ["site-9"]}, "sites": 1}, "limits|no site|required"),
    ],
    ids=["rounds", "module", "file", "nothing", "no-roster", "no-arm", "roster"],
)
def test_a_request_that_says_one_thing_and_means_another_is_refused(worker, fields, reason):
    case = twisted(**fields())
    answer = message_bytes(case.ask(worker, wire.encode_request(case.request)), "answer")
    assert re.search(reason, wire.decode_refusal(answer, wire.Context(case.digest)).reason)


def test_a_message_that_says_nothing_is_answered_with_nothing(worker):
    assert message_bytes(SimpleNamespace(content=worker(arrived({"hold": b"x"}))), "hold")


def test_what_is_described_is_understood(case):
    made = understand(case.request)
    assert (made.seed, made.arm.name, made.shape, made.roster) == (0, case.arm.name, case.data.shape, tuple(NAMES))


def test_of_weights_that_do_not_fit_at_the_site_only_the_fact_is_sent(worker, tmp_path, caplog):
    path = tmp_path / "weights.safetensors"
    save_file({"2.weight": torch.zeros(10, 64), "2.bias": torch.zeros(10)}, path)
    case = Case(model={"kind": "logistic", "weights": str(path), "train": "head"})
    first = message_bytes(case.ask(worker, wire.encode_request(case.request)), "answer")
    assert decode_enrolment(first, case.digest, "site-1").site == "site-1"
    save_file({"names.of.another.hospital": torch.zeros(3)}, path)
    worker._studies.clear()
    answer = message_bytes(case.ask(worker, wire.encode_request(case.request)), "answer")
    refusal = wire.decode_refusal(answer, wire.Context(case.digest))
    assert refusal.where == "model.weights" and refusal.remedy == "see the site's log"
    assert "another" not in refusal.reason and str(tmp_path) not in refusal.reason
    assert "names.of.another.hospital" in caplog.text
