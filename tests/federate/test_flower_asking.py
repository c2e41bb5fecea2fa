"""Asking nodes that die, come back, lose an answer or never say anything; the grid is a made-up one."""

from types import SimpleNamespace

import pytest

from consilium.deploy.transport import flower
from consilium.deploy.transport.flower import Caller

NODES = {"site-0": 10, "site-1": 11, "site-2": 12}


class Grid:
    """Nodes that answer as ``behaviour`` says: a list by node of what becomes of each question."""

    def __init__(self, behaviour):
        self.behaviour, self.asked, self.held, self.here, self.number = behaviour, [], {}, set(NODES.values()), 0

    def push_messages(self, messages):
        numbers = []
        for node, parts in messages:
            self.number += 1
            number = f"m{self.number}"
            if "hold" not in parts:
                self.asked.append(node)
            self.held[number] = node, parts
            numbers.append(number)
        return numbers

    def get_node_ids(self):
        return self.here

    def pull_messages(self, numbers):
        for number in list(numbers):
            node, parts = self.held.get(number, (None, None))
            if node is None:
                continue
            if "hold" in parts:
                del self.held[number]
                yield reply(number, node, hold=b"-")
                continue
            step = self.behaviour.get(node, ["answer"])
            what = step.pop(0) if len(step) > 1 else step[0]
            if what == "silent":
                continue
            del self.held[number]
            if what == "dead":
                yield SimpleNamespace(
                    metadata=about(number, 1), has_error=lambda: True, error=SimpleNamespace(reason="Node Unavailable")
                )
            elif what == "answer":
                yield reply(number, node, token=parts["token"], answer=b"of %d" % node)


def about(number, node):
    return SimpleNamespace(reply_to_message_id=number, src_node_id=node)


def reply(number, node, **parts):
    content = SimpleNamespace(config_records={"short": parts})
    return SimpleNamespace(metadata=about(number, node), has_error=lambda: False, content=content)


@pytest.fixture
def ask(monkeypatch):
    """Asks all three over a grid; returns answers, refusals, the grid, and what was said."""
    monkeypatch.setattr(flower, "question_of", lambda parts, node: (node, parts))
    monkeypatch.setattr(flower, "hold_of", lambda node: (node, {"hold": b"-"}))
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr(flower.time, "monotonic", lambda: clock.now)
    monkeypatch.setattr(flower.time, "sleep", lambda seconds: setattr(clock, "now", clock.now + seconds))

    def run(deadline=60.0, births=lambda grid, now: {}, **behaviour):
        grid, said = Grid({NODES[site.replace("_", "-")]: list(steps) for site, steps in behaviour.items()}), []
        grid.waits = []
        caller = Caller(
            grid,
            NODES,
            deadline,
            births=lambda: births(grid, clock.now),
            say=said.append,
            waits=lambda name, sites, seconds: grid.waits.append((name, tuple(sites), seconds)),
        )
        came, refused = caller.ask(
            list(NODES), {}, lambda site, message: flower.message_bytes(message, "answer"), "round 1"
        )
        return came, refused, grid, said, clock.now

    return run


def test_all_answer(ask):
    came, refused, grid, said, _ = ask()
    assert came == {"site-0": b"of 10", "site-1": b"of 11", "site-2": b"of 12"}
    assert (refused, said, sorted(grid.asked)) == ({}, [], [10, 11, 12])


def test_a_node_that_died_is_asked_again_when_it_is_back(ask):
    came, _, grid, said, _ = ask(site_1=["dead", "answer"])
    assert set(came) == set(NODES)
    assert grid.asked.count(11) == 2
    assert said == ["site-1: Node Unavailable"]


def test_one_that_never_answers_is_left_behind_at_the_deadline(ask):
    came, refused, _, _, ended = ask(deadline=7.0, site_2=["silent"])
    assert set(came) == {"site-0", "site-1"}
    assert refused == {}
    assert 7.0 <= ended < 7.5


def test_an_answer_that_was_lost_is_asked_for_again(ask):
    came, _, grid, said, ended = ask(site_0=["lost", "answer"])
    assert set(came) == set(NODES)
    assert grid.asked.count(10) == 2
    assert "its reply was lost in transit" in said[0]
    assert ended > flower._OVERTAKEN


def test_a_node_that_was_started_anew_is_asked_again_though_nobody_told(ask):
    def births(grid, now):
        return {10: "today", 11: "today" if now < 3 else "a moment ago", 12: "today"}

    came, _, grid, said, ended = ask(births=births, site_1=["lost", "answer"])
    assert set(came) == set(NODES)
    assert grid.asked.count(11) == 2
    assert sorted(grid.asked) == [10, 11, 11, 12]
    assert ended < flower._OVERTAKEN
    assert said == []


def test_the_deadline_is_noticed_by_nobody_when_all_is_well(ask):
    *_, ended = ask(deadline=1000.0)
    assert ended < 1


def test_who_is_waited_for_is_told_every_second_and_nobody_when_all_have_answered(ask):
    _, _, grid, _, ended = ask(site_0=["lost", "answer"])
    *waits, (name, nobody, seconds) = grid.waits
    assert (name, nobody) == ("round 1", ()) and seconds == ended
    assert {sites for _, sites, _ in waits} == {("site-0",)}
    assert len(waits) >= int(ended) - 1


def test_at_the_deadline_the_silent_stay_those_who_were_waited_for(ask):
    _, _, grid, _, _ = ask(deadline=7.0, site_2=["silent"])
    assert grid.waits[-1][1] == ("site-2",)
