"""A site whose disk is full, really: whichever of its writes is the first to fail, nothing leaves that is not paid."""

import json
import re
from dataclasses import replace
from types import SimpleNamespace

import pytest

pytest.importorskip("flwr", reason="the extra flower is not installed")

from consilium import Study
from consilium.deploy.protocol import messages as wire
from consilium.deploy.protocol.description import describe
from consilium.deploy.site.ledger import Budget, open_ledger
from consilium.deploy.site.policy import SiteLimits
from consilium.deploy.site.policy_enforcement import Guard
from consilium.deploy.site.site_data import holding_of
from consilium.deploy.site.worker import Worker
from consilium.deploy.transport.flower import answer_of, message_bytes
from consilium.study.build.factory import exchange, network, start

KILOBYTES = 256
ROUNDS = 30


@pytest.fixture(scope="module")
def asked():
    """The request of a study with differential privacy, one of its sites, and where it starts."""
    plan = Study(
        name="full",
        data={"kind": "breast-cancer", "sites": 2, "partition": "iid"},
        model={"kind": "mlp", "hidden": 64},
        federation={"kind": "scaffold", "rounds": ROUNDS, "batch": 16},  # which keeps something of the model's size
        vary={"privacy": [{"kind": "dp-sgd", "noise-multiplier": 5.0, "delta": 1e-4}]},
    ).plan()
    (node,) = (node for node in plan.trainings.values() if node.arm.training)
    data = plan.materials.consortium(0)
    request = describe(plan.spec, node.arm, 0, node.digest, data, [site.id for site in data.sites])
    net = network(plan.spec, data, 0)
    whole = exchange(plan.spec, node.arm, 0, None, data, net)
    return request, data.sites[0].id, whole.open(start(plan.spec, node.arm, data, net))[1]


class Site:
    """A site whose state lies on a small disk."""

    def __init__(self, asked, disk, budget=1000.0):
        self.request, self.name, self.model = asked
        self.disk, self.limits = disk, SiteLimits(budget=Budget(budget, 1e-4))
        self.again()

    def again(self):
        """Its process is started anew."""
        guard = Guard(self.limits, self.disk.folder / "ledger")
        self.worker = Worker(self.name, holding_of("study"), self.disk.folder / "studies", guard)

    def round(self, number, *more):
        question = wire.encode_broadcast(replace(self.model, round=number), self.request.digest())
        parts = {"request": wire.encode_request(self.request), "question": question, "token": b"t"}
        message = SimpleNamespace(content=answer_of({**parts, **dict.fromkeys(more, b"-")}), has_content=lambda: True)
        return message_bytes(SimpleNamespace(content=self.worker(message)), "answer")

    def journal(self):
        return (self.disk.folder / "ledger" / "journal.jsonl").read_bytes()

    def paid(self):
        """The rounds that stand in the journal, which must be whole: opening it checks every mac."""
        with open_ledger(self.disk.folder / "ledger") as ledger:
            return ledger.paid(self.request.digest())


def refusal(site, data):
    return wire.decode_refusal(data, wire.Context(site.request.digest()))


@pytest.fixture
def site(asked, small_disk, tmp_path):
    return Site(asked, small_disk(tmp_path / "disk", KILOBYTES))


def test_whichever_write_fails_nothing_leaves_that_is_not_paid(site):
    """From no free page to enough of them, page by page: every write of a round is once the first that fails."""
    assert wire.kind_of(site.round(1)) == "update"
    sent, full, number = [1], [], 1
    for left in range(40):
        number += 1
        site.disk.fill(left)
        answer = site.round(number, "assess")
        if wire.kind_of(answer) == "update":
            sent.append(number)
            break
        said = refusal(site, answer)
        assert said.site == site.name and "free disk space" in said.remedy and "No space left" in said.reason, said
        full.append(re.search(r"cannot write \S*?/(head.json|\d+.safetensors|answer)", said.reason)[1])
        site.again()
    assert {re.sub(r"\d+", "N", name) for name in full} == {"head.json", "N.safetensors", "answer"}
    assert set(sent) <= set(site.paid()), "what left is paid"
    assert len(site.paid()) == len(sent) + len(full) - full.count("head.json"), "who could not pay did not"
    site.disk.free()
    site.again()
    for more in range(number + 1, number + 4):
        assert wire.kind_of(site.round(more)) == "update"
        sent.append(more)
    assert all(site.paid().count(one) == 1 for one in sent)


def test_without_room_for_a_line_in_the_ledger_nothing_is_paid_and_nothing_changes(site):
    site.round(1)
    before, files = site.journal(), sorted(p.name for p in (site.disk.folder / "ledger").iterdir())
    site.disk.fill()
    for number in range(2, 6):
        assert "free disk space" in refusal(site, site.round(number)).remedy
    assert site.journal() == before
    assert sorted(p.name for p in (site.disk.folder / "ledger").iterdir()) == files
    assert site.paid() == (1,)


def test_a_round_that_was_paid_and_not_kept_is_paid_again_and_the_budget_knows(site, monkeypatch):
    site.round(1)
    pages = next(left for left in range(40) if paid_but_not_sent(site, left))
    assert pages > 0
    site.disk.free()
    site.again()
    assert wire.kind_of(site.round(2)) == "update"
    assert site.paid().count(2) >= 2


def paid_but_not_sent(site, left):
    site.disk.fill(left)
    kind, paid = wire.kind_of(site.round(2)), 2 in site.paid()
    assert paid or kind == "refusal"
    return paid and kind == "refusal"


def test_a_new_site_on_a_full_disk_refuses_by_name_and_begins_when_there_is_room(asked, small_disk, tmp_path):
    disk = small_disk(tmp_path / "disk", KILOBYTES)
    disk.fill()
    site = Site(asked, disk)
    assert "free disk space" in refusal(site, site.round(1)).remedy
    disk.free()
    assert wire.kind_of(site.round(1)) == "update" and site.paid() == (1,)


def test_a_journal_that_could_not_take_back_half_a_line_goes_on(site):
    """The line that a full disk cut is no line: it is overwritten by the next."""
    site.round(1)
    path = site.disk.folder / "ledger" / "journal.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole + json.dumps({"study": "half"}).encode()[:9])
    assert wire.kind_of(site.round(2)) == "update"
    assert path.read_bytes().startswith(whole) and site.paid() == (1, 2)
