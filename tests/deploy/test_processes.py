"""Addresses, what is said about safety, and children that do not outlive whoever started them."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from consilium.core.errors import Failed, Refused
from consilium.deploy.transport.processes import Child, is_loopback, new_secret, parse_address, refuse_insecure

SLEEP = [sys.executable, "-c", "import time; print('here', flush=True); time.sleep(600)"]


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "localhost"])
def test_the_loopback_is_known(host):
    assert is_loopback(host)
    refuse_insecure(host, insecure=True, bare=True, wanted="--keys")


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "127.0.0.1.example.org", "localhost.example.org", ""])
def test_nothing_else_is_the_loopback_and_without_keys_it_is_refused(host):
    assert not is_loopback(host)
    with pytest.raises(Refused, match="not the loopback"):
        refuse_insecure(host, insecure=True, bare=True, wanted="--keys")


def test_without_keys_it_must_be_said_even_on_the_loopback():
    with pytest.raises(Refused, match="--keys is missing"):
        refuse_insecure("127.0.0.1", insecure=False, bare=True, wanted="--keys")
    refuse_insecure("10.0.0.1", insecure=False, bare=False, wanted="--keys")


@pytest.mark.parametrize("text", ["", "host", "host:", ":1", "host:0", "host:65536", "host:x", "host:-1"])
def test_what_is_no_address_is_refused(text):
    with pytest.raises(Refused, match="no address"):
        parse_address(text)


def test_addresses_are_read():
    assert parse_address("fed.example.org:9443") == ("fed.example.org", 9443)
    assert parse_address("[::1]:1") == ("::1", 1)


def test_a_secret_is_new_each_time_and_for_its_owner(tmp_path):
    path = tmp_path / "secret"
    first = new_secret(path)
    assert new_secret(path) != first
    assert len(path.read_bytes()) == 32
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_child_reports_nothing_and_is_told_apart_when_it_ends(tmp_path):
    show = "import os; print(os.environ['FLWR_TELEMETRY_ENABLED'], os.environ['FLWR_DISABLE_UPDATE_CHECK'])"
    child = Child("the child", [sys.executable, "-c", show], tmp_path, tmp_path / "log")
    child.process.wait(300)
    assert child.last_words() == "0 1"
    with pytest.raises(Failed, match="the child has ended: 0 1"):
        child.check()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child of its parent's death")
def test_a_child_does_not_outlive_a_parent_that_is_killed(tmp_path):
    code = (
        "import time; from pathlib import Path; from consilium.deploy.transport.processes import Child\n"
        f"made = Child('x', {SLEEP!r}, Path({str(tmp_path)!r}), Path({str(tmp_path / 'log')!r}))\n"
        "print(made.process.pid, flush=True); time.sleep(600)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as parent:
        child = int(parent.stdout.readline())
        until(lambda: "here" in (tmp_path / "log").read_text())
        parent.send_signal(signal.SIGKILL)
    until(lambda: not alive(child))


def alive(pid):
    status = Path(f"/proc/{pid}/status")
    return status.exists() and "zombie" not in status.read_text()


def until(true, seconds=300):
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.05)
