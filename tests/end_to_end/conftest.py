"""A federation of separate processes on the loopback, as people would start it: keys, a server, sites."""

import importlib.util
import json
import math
import os
import signal
import socket
import statistics
import subprocess
import sys
import time
from pathlib import Path

import pytest

from consilium.deploy.transport.processes import free_port

STUDY = """
name = "{name}"
seeds = [0]
threads = 1

[data]
kind = "digits"
sites = 3
partition = "iid"
public = 0.05

[model]
kind = "mlp"

[federation]
kind = "fed-avg"
rounds = {rounds}
local-epochs = 1
batch = 32
lr = 0.1
{more}
"""


class Forked:
    """A program of the fork server, with the part of Popen's interface that is used here."""

    def __init__(self, running):
        self.running, self.pid, self.returncode = running, running.pid, None

    def poll(self):
        if self.returncode is None:
            self.returncode = self.running.poll()
        return self.returncode

    def wait(self):
        if self.returncode is None:
            self.returncode = self.running.wait().code
        return self.returncode

    def kill(self):
        if self.poll() is None:
            self.running.send(signal.SIGKILL)


class Federation:
    """One folder with keys, sites and a server's output."""

    def __init__(self, folder, cli, sites=("site-0", "site-1", "site-2"), cwd=None):
        self.folder, self.cli, self.sites, self.cwd = folder, cli, sites, cwd
        self.address = f"127.0.0.1:{free_port()}"
        self.children = {}
        makers = [("server", "--address", "127.0.0.1", "--out", folder / "keys")]
        makers += [("site", site, "--out", folder / site) for site in sites]
        for words in makers:
            done = cli("keys", *words)
            assert done.code == 0, done.err
        for site in sites:
            public = (folder / site / f"{site}.pub").read_bytes()
            (folder / "keys" / "sites" / f"{site}.pub").write_bytes(public)

    def start(self, name, *words, afresh=False):
        """Start a program under ``name``, in a session of its own; its output goes to NAME.log.

        ``afresh``: as a person starts it, by an interpreter of its own; else by the fork server, without the imports.
        """
        path = self.folder / f"{name}.log"
        if not afresh:
            self.children[name] = Forked(self.cli.start(*words, cwd=self.cwd, log=path))
            return
        with path.open("a") as log:
            words = [sys.executable, "-m", "consilium", *map(str, words)]
            self.children[name] = subprocess.Popen(words, stdout=log, stderr=log, start_new_session=True)

    def join(self, site, *more, name=None, key=None, ca=None, address=None, data="study", afresh=False):
        key = key or self.folder / site / f"{site}.key"
        state = self.folder / (name or site) / "state"
        words = [
            "join",
            address or self.address,
            "--site",
            site,
            "--key",
            key,
            "--ca",
            ca or self.folder / "keys" / "ca.crt",
        ]
        self.start(name or site, *words, "--data", data, "--state", state, *more, afresh=afresh)

    def serve(self, study, *more, name="server", afresh=False):
        words = ["serve", study, "--out", self.folder / "out", "--keys", self.folder / "keys"]
        self.start(name, *words, "--address", self.address, *more, afresh=afresh)

    def kill(self, name):
        """As `kill -9` of the program that was started; what it started must end by itself."""
        self.children[name].kill()
        self.children.pop(name).wait()

    def kill_node(self, site):
        """The same of Flower's node alone, below the site's own program."""
        pid = self.children[site].pid
        (node,) = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        os.kill(int(node), signal.SIGKILL)

    def log(self, name):
        path = self.folder / f"{name}.log"
        return path.read_text() if path.exists() else ""

    def rounds(self, study="deployed"):
        """The lines of the round log."""
        found = list((self.folder / "out" / study / "trainings").glob("*/rounds.jsonl"))
        lines = found[0].read_text().splitlines(keepends=True) if found else []
        return [json.loads(line) for line in lines if line.endswith("}\n")]

    def deadline(self, study, least):
        """Whole seconds in which a site of this machine, as busy as it is, answers a round like those of ``study``."""
        return max(least, math.ceil(6 * statistics.median(line["seconds"] for line in self.rounds(study))))

    def until(self, true, seconds=600, what=""):
        """Wait until ``true()``; says what every program said if it never is.  The seconds only end a hang."""
        end = time.monotonic() + seconds
        while not true():
            assert time.monotonic() < end, f"{what}\n" + "\n".join(f"--- {n}\n{self.log(n)}" for n in self.children)
            time.sleep(0.1)

    def wait(self, name="server", seconds=600):
        """The exit code of a program that ends by itself."""
        self.until(lambda: self.children[name].poll() is not None, seconds, f"{name} does not end")
        return self.children.pop(name).returncode

    def closed(self):
        """Whether nobody listens at the server's address."""
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", int(self.address.split(":")[1]))) != 0

    def close(self):
        """End what still runs: asked first, so that it ends what it started, and by force after a while."""
        for child in self.children.values():
            if child.poll() is None:
                os.killpg(child.pid, signal.SIGCONT)
                os.kill(child.pid, signal.SIGTERM)
        end = time.monotonic() + 15
        while time.monotonic() < end and any(child.poll() is None for child in self.children.values()):
            time.sleep(0.05)
        for child in self.children.values():
            if child.poll() is None:
                os.killpg(child.pid, signal.SIGKILL)
                child.wait()


@pytest.fixture(scope="module")
def new_federation(tmp_path_factory, consilium_cli):
    """``new_federation()``: keys for a server and its sites, three by default; nothing runs yet."""
    pytest.importorskip("flwr", reason="the extra flower is not installed")
    consilium_cli.ask({"deploy": True})
    federations = []

    def make(**knobs):
        federations.append(Federation(tmp_path_factory.mktemp("federation"), consilium_cli, **knobs))
        return federations[-1]

    yield make
    for one in federations:
        one.close()


@pytest.fixture(scope="module")
def federation(new_federation):
    """Keys for a server and three sites; nothing runs yet."""
    return new_federation()


@pytest.fixture(scope="module")
def deployed_study(federation):
    """Writes a study for the federation; returns its path."""

    def write(name, rounds, more=""):
        path = federation.folder / f"{name}.toml"
        path.write_text(STUDY.format(name=name, rounds=rounds, more=more))
        return path

    return write


@pytest.fixture(scope="module")
def lines(federation):
    """A line for every site that can be cut, see cutter.py."""
    spec = importlib.util.spec_from_file_location("cutter", Path(__file__).with_name("cutter.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    host, port = federation.address.split(":")
    made = {site: module.Cutter((host, int(port))) for site in federation.sites}
    yield made
    for line in made.values():
        line.close()
