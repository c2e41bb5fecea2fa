"""A site's worker and its ledger: a study that costs too much is refused, a crash is charged, a retry is not."""

import json
from types import SimpleNamespace

import pytest
import torch

from consilium import Study
from consilium.core.algorithm import Broadcast
from consilium.core.errors import Failed
from consilium.deploy.protocol import messages as wire
from consilium.deploy.site.ledger import Budget
from consilium.deploy.site.policy import SiteLimits
from consilium.deploy.site.policy_enforcement import Guard

pytest.importorskip("flwr")

from consilium.deploy.protocol.description import describe
from consilium.deploy.site.site_data import holding_of
from consilium.deploy.site.worker import Worker
from consilium.deploy.transport.flower import answer_of, message_bytes

DELTA = 1e-4
ENOUGH = Budget(8.0, DELTA)


@pytest.fixture(scope="module")
def asked():
    """The request of a study with differential privacy, its plan's data and network, and where it starts."""
    plan = Study(
        name="paid",
        data={"kind": "breast-cancer", "sites": 2, "partition": "iid"},
        model="logistic",
        federation={"kind": "fed-avg", "rounds": 3, "batch": 16},
        vary={"privacy": [{"kind": "dp-sgd", "epsilon": 4.0, "delta": DELTA}]},
    ).plan()
    (node,) = (node for node in plan.trainings.values() if node.arm.training)
    data = plan.materials.consortium(0)
    names = [site.id for site in data.sites]
    request = describe(plan.spec, node.arm, 0, node.digest, data, names)
    from consilium.study.build.factory import network

    return request, data.sites[0].id, network(plan.spec, data, 0).start()


class Server:
    """Asks one worker, as the server's messages would."""

    def __init__(self, asked, folder, limits=None):
        self.request, self.site, self.start = asked
        self.folder, self.limits = folder, limits or SiteLimits(budget=ENOUGH)
        folder.mkdir(exist_ok=True)
        self.again()

    def again(self):
        """The site's process is started anew."""
        self.worker = Worker(
            self.site, holding_of("study"), self.folder / "studies", Guard(self.limits, self.folder / "ledger")
        )

    def ask(self, question):
        parts = {"request": wire.encode_request(self.request), "question": question, "token": b"t" * 16}
        message = SimpleNamespace(content=answer_of(parts), has_content=lambda: True)
        return message_bytes(SimpleNamespace(content=self.worker(message)), "answer")

    def enrol(self):
        return self.ask(wire.encode_request(self.request))

    def round(self, number, shift=0.0):
        params, buffers = self.start
        return self.ask(wire.encode_broadcast(Broadcast(number, params + shift, buffers), self.request.digest()))

    def paid(self):
        lines = map(json.loads, (self.folder / "ledger" / "journal.jsonl").read_text().splitlines())
        return [line["round"] for line in lines if "round" in line]

    def refusal(self, data):
        return str(wire.decode_refusal(data, wire.Context(self.request.digest())).error())


def test_a_study_that_asks_for_more_than_is_left_is_refused_by_the_site(asked, tmp_path):
    server = Server(asked, tmp_path, SiteLimits(budget=Budget(3.0, DELTA)))
    assert "asks for epsilon 4; 3 of 3 is left for these records" in server.refusal(server.enrol())
    assert server.paid() == [] and wire.kind_of(server.round(1)) == "refusal"
    assert server.paid() == []


def test_a_round_is_paid_once_and_sent_again_for_nothing(asked, tmp_path):
    server = Server(asked, tmp_path)
    assert wire.kind_of(server.round(1)) == "update"
    first = server.round(1)
    server.again()
    assert server.round(1) == first and server.paid() == [1]
    other = server.round(1, shift=0.1)
    assert server.paid() == [1, 1] and other != first


def test_a_crash_between_ledger_and_send_is_charged(asked, tmp_path, monkeypatch):
    server = Server(asked, tmp_path)
    server.enrol()
    study = server.worker._studies[server.request.digest()]
    with monkeypatch.context() as lost:
        lost.setattr(type(study.store), "keep", lambda *_: (_ for _ in ()).throw(Failed("the disk is full")))
        assert "the disk is full" in server.refusal(server.round(1))
    assert server.paid() == [1], "written before it was computed"
    server.again()
    assert wire.kind_of(server.round(1)) == "update" and server.paid() == [1, 1]


def test_noise_is_secret_and_another_site_does_not_draw_it(asked, tmp_path):
    """The same study, site, round and records, from two folders: two simulations would agree to the last bit."""
    deltas = []
    for name in ("one", "two"):
        server = Server(asked, tmp_path / name)
        sealed = wire.decode_update(server.round(1), wire.Context(server.request.digest()))
        deltas.append(sealed.update.payload["delta"])
    assert not torch.equal(*deltas)
    assert (deltas[0] - deltas[1]).norm() > 0.1 * deltas[0].norm()


def test_the_budget_ends_a_server_that_asks_again_and_again(asked, tmp_path):
    server = Server(asked, tmp_path)
    answers = [server.round(1, shift=k / 10) for k in range(40)]
    kinds = [wire.kind_of(answer) for answer in answers]
    assert kinds[:3] == ["update"] * 3 and kinds[-1] == "refusal"
    assert "is left for these records" in server.refusal(answers[-1])
    assert len(server.paid()) == kinds.count("update")
