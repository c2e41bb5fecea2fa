"""Jobs in processes: all are done, the first error is told as it was, and a killed one is named as such."""

import os
import signal
import time

import pytest

from consilium.core.errors import Failed, Refused
from consilium.study.build.process_jobs import each


@pytest.mark.parametrize("workers", [1, 3])
def test_every_job_is_done_and_told(tmp_path, workers):
    done = []
    jobs = [lambda alive, i=i: (alive(), (tmp_path / str(i)).write_text("x")) for i in range(7)]
    each(jobs, workers, lambda: done.append(1))
    assert len(done) == 7 and len(list(tmp_path.iterdir())) == 7


def test_they_run_side_by_side(tmp_path):
    """Each waits for the other's file: one after the other would never end."""

    def job(mine, other):
        def run(alive):
            (tmp_path / mine).touch()
            while not (tmp_path / other).exists():
                time.sleep(0.01)

        return run

    each([job("a", "b"), job("b", "a")], 2, lambda: None)


def test_an_error_is_told_as_it_was(tmp_path):
    def broken(alive):
        raise Refused("no records", remedy="give some", where="site-3")

    def wrong(alive):
        raise ValueError("odd")

    with pytest.raises(Refused, match="no records") as error:
        each([broken], 2, lambda: None)
    assert (error.value.remedy, error.value.where) == ("give some", "site-3")

    with pytest.raises(Failed, match="ValueError: odd"):
        each([wrong], 2, lambda: None)


def test_a_job_that_exits_is_no_worker_that_was_killed():
    def exits(alive):
        raise SystemExit("gone")

    with pytest.raises(Failed, match="SystemExit: gone"):
        each([exits], 2, lambda: None)


def test_a_killed_worker_is_named():
    with pytest.raises(Failed, match=r"a worker process ended \(exit status -9\)"):
        each([lambda alive: os.kill(os.getpid(), signal.SIGKILL)], 2, lambda: None)


def test_an_error_ends_the_others(tmp_path):
    def endless(alive):
        while True:
            time.sleep(0.01)
            (tmp_path / "beat").write_text(str(time.monotonic()))

    def broken(alive):
        while not (tmp_path / "beat").exists():
            time.sleep(0.01)
        raise Failed("enough")

    with pytest.raises(Failed, match="enough"):
        each([endless, broken], 2, lambda: None)
    last = (tmp_path / "beat").read_text()
    time.sleep(0.1)
    assert (tmp_path / "beat").read_text() == last
