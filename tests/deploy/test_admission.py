"""Places and bytes by party: the greediest loses, and who has little is left alone."""

import asyncio
import contextlib

import pytest

from consilium.deploy.gateway import ConnectionLimits
from consilium.deploy.gateway.connection_limits import Crowd, Notes, Share


def filled(most, *parties):
    """A crowd that one connection of each of ``parties`` has entered in turn, and who was turned out of it."""
    crowd, out = Crowd(most), []
    for number, party in enumerate(parties):
        crowd.enter(party, number, lambda number=number: out.append(number))
    return crowd, out


def test_the_oldest_of_the_party_with_the_most_makes_room():
    crowd, out = filled(4, "a", "b", "b", "b", "c", "d")
    assert out == [1, 2]
    assert len(crowd) == 4


def test_a_newcomer_of_the_same_address_gets_in_too():
    """Hospitals behind one address share it with whoever fills it."""
    _, out = filled(3, "nat", "nat", "nat", "nat")
    assert out == [0]


def test_among_equals_the_one_that_came_first_goes():
    assert filled(3, *range(5))[1] == [0, 1]


def test_who_has_left_is_not_counted_and_may_leave_twice():
    crowd, out = filled(2, "a", "b")
    crowd.leave(0)
    crowd.leave(0)
    crowd.enter("c", 2, lambda: out.append(2))
    assert (len(crowd), out) == (2, [])


def test_bytes_beyond_the_share_wait_until_others_are_given_back():
    async def work():
        share, order = Share(10), []

        async def take(name, size):
            async with share.hold(size):
                order.append(f"{name} in")
                assert share.free >= 0
                await asyncio.sleep(0.01)
            order.append(f"{name} out")

        await asyncio.gather(take("a", 6), take("b", 6), take("all", 99))
        return share.free, order

    assert asyncio.run(work()) == (10, ["a in", "a out", "b in", "b out", "all in", "all out"])


def test_one_that_is_cut_off_while_it_waits_takes_no_room_away():
    async def work():
        share = Share(10)
        async with share.hold(10):
            waiting = asyncio.ensure_future(share.hold(5).__aenter__())
            await asyncio.sleep(0)
            waiting.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await waiting
        async with share.hold(10):
            return share.free

    assert asyncio.run(work()) == 0


def test_lines_beyond_the_most_are_counted():
    now, said = [0.0], []
    notes = Notes(said.append, lambda: now[0], most=2)
    for number in range(5):
        notes.note("401", f"line {number}")
    assert said == ["line 0", "line 1"]
    now[0] = 61
    notes.note("401", "later")
    assert said[2:] == ["and 3 more (401)", "later"]


@pytest.mark.parametrize("wrong", [{"strangers": 0}, {"seconds": float("nan")}, {"share": 1000, "body": 1001}])
def test_limits_that_nothing_passes_are_refused(wrong):
    with pytest.raises(ValueError):
        ConnectionLimits(**wrong)
