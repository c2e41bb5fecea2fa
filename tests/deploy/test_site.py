"""A site around its node: what ends it, what it survives, and the leave taken for a node that could not."""

from types import SimpleNamespace

import pytest

pytest.importorskip("flwr", reason="the extra flower is not installed")

from consilium.core.errors import Refused
from consilium.deploy.site import site
from consilium.deploy.site.site import SiteConnection, join

TAKEN = "INFO : SuperNode ID: 77\n"
CUT = TAKEN + "ERROR: [SSL: UNEXPECTED_EOF_WHILE_READING] EOF occurred in violation of protocol\n"
FOREIGN = "ERROR: [SSL: CERTIFICATE_VERIFY_FAILED] unable to get local issuer certificate\n"
UNKNOWN = "[code: 2004] could not be activated\n"


class Done(Exception):
    """The test is over."""


@pytest.fixture
def lives(tmp_path, monkeypatch, caplog):
    """``lives(log, log, OSError(...), ...)``: how each node ends; returns departures and what was said."""
    key, ca = tmp_path / "site.key", tmp_path / "ca.crt"
    key.touch(mode=0o600)
    ca.touch()
    line = SiteConnection("127.0.0.1:9", key, ca)
    clock, departed = SimpleNamespace(now=0.0), []
    monkeypatch.setattr(site.time, "monotonic", lambda: clock.now)
    monkeypatch.setattr(site.time, "sleep", lambda seconds: setattr(clock, "now", clock.now + seconds))
    answers = iter([False, False, True])
    monkeypatch.setattr(site, "depart", lambda *words: departed.append(words[-1]) or next(answers, True))

    def run(*ends):
        left = iter(ends)

        def live(line, worker, home):
            end = next(left, None)
            if end is None:
                raise Done
            if isinstance(end, Exception):
                raise end
            log = tmp_path / "node.log"
            log.write_text(end)
            return SimpleNamespace(log=log, last_words=lambda: end.splitlines()[-1])

        monkeypatch.setattr(site, "_live", live)
        with pytest.raises(Done):
            join(line, SimpleNamespace(site="site-1"), tmp_path / "home")
        return departed, caplog.text

    return run


def test_for_a_node_that_a_cut_ended_leave_is_taken_until_it_is_heard(lives):
    departed, said = lives(CUT, CUT)
    assert departed == [77, 77, 77, 77], "twice in vain, heard, and once for the second"
    assert "UNEXPECTED_EOF_WHILE_READING" in said


def test_for_a_node_that_was_never_taken_nobody_takes_leave(lives):
    departed, said = lives(UNKNOWN)
    assert departed == [] and "does not take this key yet" in said


def test_a_foreign_certificate_ends_a_site_that_never_met_its_server(lives):
    with pytest.raises(Refused, match="not signed by"):
        lives(FOREIGN)


def test_a_foreign_certificate_later_is_a_broken_line(lives):
    """Something between the two answers for the server while the network is down; nothing is said to it."""
    _, said = lives(CUT, FOREIGN, FOREIGN)
    assert said.count("is not signed by") == 2


def test_a_disk_that_is_full_when_a_node_must_be_started_is_waited_for(lives):
    departed, said = lives(CUT, OSError(28, "No space left on device", "node.secret"), CUT)
    assert "node.secret: No space left on device; free disk space" in said
    assert len(departed) == 4


def test_a_disk_that_is_full_from_the_beginning_is_an_error(lives):
    with pytest.raises(OSError, match="No space"):
        lives(OSError(28, "No space left on device", "node.secret"))


def test_a_key_that_is_refused_for_long_ends_the_site(lives):
    with pytest.raises(Refused, match="does not take this key"):
        lives(*[UNKNOWN] * 60)
