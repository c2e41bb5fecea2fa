"""The server before its link: what is tried again, what ends a training, and a disk that is full."""

from types import SimpleNamespace

import pytest

pytest.importorskip("flwr", reason="the extra flower is not installed")

import httpx

from consilium.core.errors import Failed
from consilium.deploy.transport import flower_internals as link
from consilium.deploy.transport.flower_internals import _RetryInvoker
from consilium.deploy.transport.flower_server import Link
from consilium.deploy.transport.server_options import ServerOptions


def status(number):
    request = httpx.Request("POST", "https://link")
    return httpx.HTTPStatusError("", request=request, response=httpx.Response(number, request=request))


@pytest.fixture
def again(monkeypatch):
    """``again(error, error, ...)``: a call that fails so often, then succeeds; the clock is made up."""
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr(link.time, "monotonic", lambda: clock.now)
    monkeypatch.setattr(link.time, "sleep", lambda seconds: setattr(clock, "now", clock.now + seconds))

    def run(*errors, alive=lambda: None):
        left = iter(errors)

        def call():
            if (error := next(left, None)) is not None:
                raise error
            return "done"

        return _RetryInvoker(alive).invoke(call)

    return run


def test_a_link_that_is_away_or_fails_for_a_moment_is_asked_again(again):
    assert again(httpx.ConnectError("away"), status(500), status(503)) == "done"


def test_after_a_minute_it_is_said_what_it_answers(again):
    with pytest.raises(Failed, match="it fails with status 500"):
        again(*[status(500)] * 1000)


def test_a_run_that_the_link_has_ended_is_no_mystery(again):
    with pytest.raises(Failed, match=r"ended this run \(status 401\).* `serve` again"):
        again(status(401))


def test_what_stands_behind_it_is_said_at_once(again):
    def full():
        raise Failed("no space is left")

    with pytest.raises(Failed, match="no space is left"):
        again(status(500), alive=full)


def test_a_full_disk_ends_the_wait_by_name_and_room_goes_on(small_disk, tmp_path):
    disk = small_disk(tmp_path / "out", 1024)
    waiting = Link(disk.folder, ServerOptions("127.0.0.1:9", None, insecure=True), None)
    waiting.check()
    disk.fill()
    with pytest.raises(Failed, match=r"no space is left on the disk of .*out\. Free disk space"):
        waiting.check()
    disk.free()
    waiting.check()
