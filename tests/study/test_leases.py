"""Leases: one owner at a time, whoever is killed, paused or has another clock."""

import json
import multiprocessing
import os
import threading

import pytest

from consilium.core.errors import Refused
from consilium.study.executors.distributed import lease as module
from consilium.study.executors.distributed.folder import refuse_workers
from consilium.study.executors.distributed.lease import LeaseLost, Leases, Observed
from consilium.study.store.store import Store


class Clock:
    """An observer's own clock: it stands still until it is moved."""

    def __init__(self, now=0.0):
        self.now = now

    def __call__(self):
        return self.now


def leases(folder, clock=None, patience=60.0):
    return Leases(folder, Observed(patience, clock or Clock()), pause=0.0)


def content(folder, key="stage"):
    return json.loads((folder / "leases" / f"{key}.json").read_text())


def as_another_machine(folder, key="stage", **changed):
    path = folder / "leases" / f"{key}.json"
    path.write_text(json.dumps({**content(folder, key), "place": "elsewhere", **changed}))


def test_one_has_it_until_it_is_given_back(tmp_path):
    with leases(tmp_path).claim("stage") as lease:
        lease.check()
        assert leases(tmp_path).claim("stage") is None
        assert content(tmp_path)["pid"] == os.getpid()
    assert leases(tmp_path).claim("stage") is not None


def test_of_many_threads_one_has_it(tmp_path):
    gate, won = threading.Barrier(24), []

    def run():
        mine = leases(tmp_path)
        gate.wait()
        if (lease := mine.claim("stage")) is not None:
            won.append(lease)

    threads = [threading.Thread(target=run) for _ in range(24)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1 and won[0].is_own()
    assert not list((tmp_path / "leases").glob("*.draft"))


def claims(folder, gate, queue, steps):
    """What this process gets of ``steps``; it stays until all have tried, or its leases would be dead."""
    mine = leases(folder)
    gate.wait()
    queue.put([key for key in steps if mine.claim(key) is not None])
    gate.wait()


def test_of_many_processes_each_stage_has_one_owner(tmp_path):
    context = multiprocessing.get_context("fork")
    gate, queue, steps = context.Barrier(6), context.Queue(), [f"stage-{i}" for i in range(20)]
    workers = [context.Process(target=claims, args=(tmp_path, gate, queue, steps)) for _ in range(6)]
    for worker in workers:
        worker.start()
    won = [key for _ in workers for key in queue.get(timeout=600)]
    for worker in workers:
        worker.join()
    assert sorted(won) == sorted(steps)


def test_a_lease_of_a_process_that_is_gone_is_dead_at_once(tmp_path):
    context = multiprocessing.get_context("fork")
    worker = context.Process(target=lambda: leases(tmp_path).claim("stage"))
    worker.start()
    worker.join()
    taken = leases(tmp_path).claim("stage")
    assert taken is not None and taken.is_own() and content(tmp_path)["pid"] == os.getpid()


def test_another_process_with_the_number_of_the_dead_one_is_not_it(tmp_path):
    leases(tmp_path).claim("stage")
    path = tmp_path / "leases" / "stage.json"
    path.write_text(json.dumps({**content(tmp_path), "born": "12"}))
    assert leases(tmp_path).claim("stage") is not None


@pytest.mark.parametrize("start", [0.0, -1e9, 1e12])
def test_one_of_another_machine_is_dead_when_it_stands_still_by_the_observers_clock(tmp_path, start):
    """Whatever any clock says, and whatever time the file has."""
    leases(tmp_path).claim("stage")
    as_another_machine(tmp_path)
    os.utime(tmp_path / "leases" / "stage.json", (4e9, 4e9))
    clock = Clock(start)
    other = leases(tmp_path, clock)
    assert other.claim("stage") is None
    clock.now += 59.0
    assert other.claim("stage") is None
    as_another_machine(tmp_path, count=1)  # renewed
    clock.now += 59.0
    assert other.claim("stage") is None
    clock.now += 61.0
    assert other.claim("stage") is not None


def test_a_file_that_cannot_be_read_is_dead_when_it_stands_still(tmp_path):
    (tmp_path / "leases").mkdir()
    (tmp_path / "leases" / "stage.json").write_bytes(b"{")
    clock = Clock()
    other = leases(tmp_path, clock)
    assert other.claim("stage") is None
    clock.now += 61.0
    assert other.claim("stage") is not None


def test_of_two_thieves_the_last_one_has_it(tmp_path, monkeypatch):
    """Both replace the dead lease; each reads again after a moment, and one of them finds the other."""
    leases(tmp_path).claim("stage")
    as_another_machine(tmp_path, pid=1)
    clocks = Clock(), Clock()
    first, second = (leases(tmp_path, clock) for clock in clocks)
    assert first.claim("stage") is None and second.claim("stage") is None
    for clock in clocks:
        clock.now += 61.0
    stolen = []

    def meanwhile(_):
        monkeypatch.setattr(module.time, "sleep", lambda _: None)
        stolen.append(second.claim("stage"))

    assert second.observed.is_dead(second.path("stage"))
    monkeypatch.setattr(second.observed, "is_dead", lambda _: True)  # it looked before the first one replaced it
    monkeypatch.setattr(module.time, "sleep", meanwhile)
    assert first.claim("stage") is None
    assert stolen[0] is not None and stolen[0].is_own()


def test_an_owner_that_was_robbed_gives_up(tmp_path):
    lease = leases(tmp_path).claim("stage")
    lease.check()
    as_another_machine(tmp_path, owner="thief")
    assert not lease.renew()
    with pytest.raises(LeaseLost, match="another worker has stage"):
        lease.check()
    assert not isinstance(LeaseLost(), Exception)  # it is not recorded as a failure of the stage
    with lease:
        pass
    assert content(tmp_path)["owner"] == "thief"  # and is not given back by it


def test_an_owner_that_slept_too_long_gives_up(tmp_path, monkeypatch):
    """Half of the time after which others take it: they could be taking it now."""
    lease = leases(tmp_path).claim("stage")
    now = module.time.monotonic()
    monkeypatch.setattr(module.time, "monotonic", lambda: now + 29.0)
    lease.check()
    monkeypatch.setattr(module.time, "monotonic", lambda: now + 31.0)
    assert not lease.renew()
    with pytest.raises(LeaseLost):
        lease.check()


def test_renewing_changes_the_content(tmp_path):
    lease = leases(tmp_path).claim("stage")
    before = content(tmp_path)
    assert lease.renew() and lease.renew()
    assert content(tmp_path) == {**before, "count": 2}


def test_a_thread_renews_it(tmp_path):
    """As often as the patience asks for; the count is waited for, not the clock."""
    short = Leases(tmp_path, Observed(patience=6.0)).claim("stage")
    changed = threading.Event()
    renew = short.renew

    def counted():
        done = renew()
        changed.set()
        return done

    short.renew = counted
    with short:
        assert changed.wait(300)
    assert not (tmp_path / "leases" / "stage.json").exists()


def test_without_hard_links_it_is_made_all_the_same(tmp_path, monkeypatch):
    def refused(*_):
        raise PermissionError(1, "no links here")

    monkeypatch.setattr(module.os, "link", refused)
    assert leases(tmp_path).claim("stage").is_own()
    assert leases(tmp_path).claim("stage") is None


def test_a_run_is_refused_while_a_worker_is_in_the_folder(tmp_path):
    store = Store(tmp_path)
    with leases(tmp_path).claim("stage"), pytest.raises(Refused, match="another worker is at stage"):
        refuse_workers(store)
    refuse_workers(store)


def test_one_of_another_machine_is_watched_until_it_is_dead(tmp_path):
    leases(tmp_path).claim("stage")
    as_another_machine(tmp_path)
    clock = Clock()
    other = leases(tmp_path, clock)

    def moved():
        clock.now += 20.0
        return clock.now

    other.observed.clock = moved
    assert other.dies("stage")


def test_what_a_worker_left_that_was_killed_as_it_wrote_is_removed_in_the_end(tmp_path):
    here = leases(tmp_path)
    with here.claim("finish"):
        folder = here.path("stage").parent
        orphan, own = folder / ".stage.json.0123abcd.draft", folder / ".finish.json.4567cdef.draft"
        orphan.touch(), own.touch()
        here.clear(spare=("finish",))
        assert not orphan.exists() and own.exists() and here.taken() == ["finish"]
