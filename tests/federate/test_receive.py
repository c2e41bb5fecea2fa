"""One round's answers at the server: what is not as it should be is turned away by name, and the round goes on."""

import pytest
import torch

from consilium.core.errors import Refused
from consilium.core.update import Update
from consilium.deploy.protocol.messages import Context, RefusalMessage, encode_refusal, encode_update
from consilium.deploy.protocol.reply_check import Reception
from consilium.federate.client.participant import SiteState

STUDY = "a" * 64
NODES = {11: "site-0", 12: "site-1", 13: "site-2", 14: "site-3"}
COHORT = ("site-0", "site-1", "site-2")


def message(site="site-0", round=3, weight=5.0, study=STUDY, nonce=None, value=1.0):
    payload = {"delta": torch.full((4,), value), "buffers": torch.zeros(0)}
    return encode_update(Update(site, round, weight, payload), study, nonce)


@pytest.fixture
def reception():
    return Reception(COHORT, NODES, Context(STUDY, 3), dict.fromkeys(COHORT, 5.0), deadline=100.0)


def test_what_is_as_it_should_be_is_admitted(reception):
    assert all(reception.take(node, message(site), 1.0) for node, site in list(NODES.items())[:3])
    assert list(reception.updates) == list(COHORT)
    assert reception.refused() == {} and reception.waiting() == ()


AWAY = {
    "not registered": (99, message(), 1.0, "node 99"),
    "is not in this round's cohort": (14, message("site-3"), 1.0, "site-3"),
    "claims to be from 'site-1'": (11, message("site-1"), 1.0, "site-0"),
    "is of round 2, not 3": (11, message(round=2), 1.0, "site-0"),
    "is of round 4, not 3": (11, message(round=4), 1.0, "site-0"),
    "is of the study 'bbb": (11, message(study="b" * 64), 1.0, "site-0"),
    "weighs 1e+09, and the server gives it 5": (11, message(weight=1e9), 1.0, "site-0"),
    "answered 2.5 s after the deadline": (11, message(), 102.5, "site-0"),
    "is not finite": (11, message(value=float("nan")), 1.0, "site-0"),
    "not a message of Consilium": (11, b"\x80\x04\x95" + bytes(20), 1.0, "site-0"),
    "truncated": (11, message()[:40], 1.0, "site-0"),
    "refused: 3.1 of 5 is left": (
        11, encode_refusal(RefusalMessage("site-0", 3, "budget.epsilon", "3.1 of 5 is left"), STUDY), 1.0, "site-0",
    ),
}  # fmt: skip


@pytest.mark.parametrize("reason", AWAY)
def test_what_is_not_is_turned_away_by_name_and_the_others_stay(reception, reason):
    node, data, at, sender = AWAY[reason]
    assert reception.take(12, message("site-1"), 1.0)
    assert not reception.take(node, data, at)
    assert reception.take(13, message("site-2"), 1.0)
    assert list(reception.updates) == ["site-1", "site-2"]
    assert list(reception.refused()) == [sender] and reason in reception.refused()[sender]
    assert "\n" not in reception.refused()[sender]


def test_a_replay_and_a_second_update_leave_the_first(reception):
    first = message(nonce="0" * 32)
    assert reception.take(11, first, 1.0)
    assert not reception.take(11, first, 2.0)
    assert not reception.take(11, message(value=9.0), 3.0)
    assert torch.equal(reception.updates["site-0"].payload["delta"], torch.ones(4))
    assert reception.refused() == {
        "site-0 (message 2)": "sent the same update again; the first stays",
        "site-0 (message 3)": "sent a second update; the first stays",
    }


def test_a_replay_in_a_later_round_is_of_an_old_round(reception):
    old = message()
    reception.take(11, old, 1.0)
    later = Reception(COHORT, NODES, Context(STUDY, 4), deadline=200.0)
    assert not later.take(11, old, 101.0) and "is of round 3, not 4" in later.refused()["site-0"]


def test_a_stranger_cannot_take_the_place_of_a_site(reception):
    """Node 12 sends first, in the name of site-0: the true update still counts."""
    assert not reception.take(12, message("site-0", value=9.0), 1.0)
    assert reception.take(11, message("site-0"), 2.0)
    assert torch.equal(reception.updates["site-0"].payload["delta"], torch.ones(4))
    assert list(reception.refused()) == ["site-1"]


def test_a_site_that_mends_its_message_is_admitted(reception):
    assert not reception.take(11, message()[:50], 1.0)
    assert reception.take(11, message(), 2.0)
    assert list(reception.refused()) == ["site-0 (message 1)"]


def test_a_flood_is_neither_read_nor_listed(reception):
    for _ in range(1000):
        assert not reception.take(99, b"x" * 100, 1.0)
    assert len(reception.rejections) == 8 and reception.waiting() == COHORT


def test_what_the_simulation_checks_is_checked_by_the_same_code():
    with pytest.raises(Refused, match="claims to be from 'site-0' in round 3"):
        Update("site-0", 3, 1.0, {}).check_sender("site-1", 3)


def test_the_model_is_that_of_the_round_without_the_faulty_party(federation):
    """Two good updates and a foreign one, over the wire, give the model of two sites, and the round remembers why."""
    exchange = federation()
    start = _state(exchange)
    cohort, inbox = exchange.open(start)
    sent = {site: exchange.site_half.site("round", site, inbox, SiteState())[0] for site in cohort}
    reception = Reception(cohort, dict(enumerate(cohort)), Context(STUDY, 1))
    for node, site in enumerate(cohort):
        forged = Update("site-0", 1, 1e9, sent[site].payload) if node == 1 else sent[site]
        reception.take(node, encode_update(forged, STUDY), 0.0)
    after, _ = exchange.server("round", reception.updates, start)
    wanted, _ = exchange.server("round", {s: u for s, u in sent.items() if s != "site-1"}, start)
    assert torch.equal(after.server.params, wanted.server.params)
    noted = after.with_rejections(reception.refused())
    assert noted.refused == {"site-1": "claims to be from 'site-0' in round 1"}
    assert noted.dropped == () and noted.lost() == ("site-1",)


def _state(exchange):
    from consilium.federate.round.round import RoundState

    person = exchange.sites["site-0"]
    return RoundState(exchange.half.algorithm.start(person.network, len(exchange.sites)))
