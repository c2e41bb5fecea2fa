"""A federation of separate processes on the loopback, as people would start it: keys, a server, sites."""

import importlib.util
import json
import math
import os
import signal
import statistics
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
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


class Federation:
    """One folder with keys, sites and a server's output."""

    def __init__(self, folder, sites=("site-0", "site-1", "site-2")):
        self.folder, self.sites = folder, sites
        self.address = f"127.0.0.1:{free_port()}"
        self.children = {}
        makers = [("server", "--address", "127.0.0.1", "--out", folder / "keys")]
        makers += [("site", site, "--out", folder / site) for site in sites]
        with ThreadPoolExecutor() as pool:
            list(pool.map(lambda words: self.run("keys", *words), makers))
        for site in sites:
            public = (folder / site / f"{site}.pub").read_bytes()
            (folder / "keys" / "sites" / f"{site}.pub").write_bytes(public)

    def run(self, *words):
        done = subprocess.run(command(*words), capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr
        return done

    def start(self, name, *words):
        """Start a program under ``name``, in a session of its own; its output goes to NAME.log."""
        with (self.folder / f"{name}.log").open("a") as log:
            self.children[name] = subprocess.Popen(command(*words), stdout=log, stderr=log, start_new_session=True)

    def join(self, site, *more, name=None, key=None, ca=None, address=None):
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
        self.start(name or site, *words, "--data", "study", "--state", state, *more)

    def serve(self, study, *more, name="server"):
        words = ["serve", study, "--out", self.folder / "out", "--keys", self.folder / "keys"]
        self.start(name, *words, "--address", self.address, *more)

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

    def until(self, true, seconds=180, what=""):
        """Wait until ``true()``; says what every program said if it never is."""
        end = time.monotonic() + seconds
        while not true():
            assert time.monotonic() < end, f"{what}\n" + "\n".join(f"--- {n}\n{self.log(n)}" for n in self.children)
            time.sleep(0.1)

    def wait(self, name="server", seconds=240):
        """The exit code of a program that ends by itself."""
        self.until(lambda: self.children[name].poll() is not None, seconds, f"{name} does not end")
        return self.children.pop(name).returncode

    def close(self):
        for child in self.children.values():
            if child.poll() is None:
                os.killpg(child.pid, signal.SIGCONT)
                child.terminate()
        for child in self.children.values():
            try:
                child.wait(15)
            except subprocess.TimeoutExpired:
                os.killpg(child.pid, signal.SIGKILL)
                child.wait()


def command(*words):
    return [sys.executable, "-m", "consilium", *map(str, words)]


@pytest.fixture(scope="module")
def federation(tmp_path_factory):
    """Keys for a server and three sites; nothing runs yet."""
    pytest.importorskip("flwr", reason="the extra flower is not installed")
    made = Federation(tmp_path_factory.mktemp("federation"))
    yield made
    made.close()


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
