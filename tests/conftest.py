"""What tests of whole studies share: the command line in fresh processes, and small studies that are run once."""

import contextlib
import ctypes
import json
import os
import signal
import subprocess
import sys
import time
import tomllib
from dataclasses import dataclass, field
from pathlib import Path

import pytest

LONGEST = ("end_to_end", "docs", "study")
"""Folders whose files take longest: first, so that what is left at the end is short files, and no worker waits."""


def pytest_collection_modifyitems(items):
    """Federations of processes before all: they wait for each other more than they compute."""
    items.sort(key=lambda item: LONGEST.index(name) if (name := item.path.parent.name) in LONGEST else len(LONGEST))


SERVER = Path(__file__).parent / "end_to_end" / "fork_server.py"

TINY = """
name = "tiny"
question = "What does each defence buy on a table of 569 patients?"
threads = 1

[data]
kind = "breast-cancer"
sites = 3
partition = "unbalanced"
public = 0.05

[model]
kind = "mlp"
hidden = 16

[federation]
kind = "fed-avg"
rounds = 3
local-epochs = 2
batch = 16
lr = 0.3

[vary]
privacy = [{ kind = "dp-sgd", noise-multiplier = 1.0, delta = 1e-3 }]
compression = [{ kind = "static-int8" }]
robustness = [{ kind = "adversarial-training", radius = 0.05, steps = 1 }]

[[attacks]]
kind = "fgsm"
radius = 0.05

[[attacks]]
kind = "transfer"
radius = 0.05
steps = 5
from = { privacy = "none", compression = "none", robustness = "none" }

[[attacks]]
kind = "loss-threshold"

[[corruptions]]
kind = "label-flip"
sites = 1
"""


@dataclass(frozen=True)
class Done:
    """How a command ended: its exit code and what it wrote."""

    code: int
    out: str
    err: str

    @property
    def json(self):
        return json.loads(self.out)


@dataclass
class Running:
    """A command that is on its way."""

    server: object
    pid: int
    out: Path
    err: Path

    def send(self, number):
        os.kill(self.pid, number)

    def wait(self):
        code = self.server.ask({"wait": self.pid})
        return Done(code, self.out.read_text(encoding="utf-8"), self.err.read_text(encoding="utf-8"))

    def poll(self):
        """Its exit code, or None while it runs; not to be asked again once there is one."""
        return self.server.ask({"poll": self.pid})


@dataclass
class CommandLine:
    """``consilium`` as a user meets it, each command in a process of its own."""

    folder: Path
    process: subprocess.Popen
    count: int = field(default=0)

    def ask(self, request):
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def start(self, *words, cwd=None, env=None, most_bytes=0, log=None, program=""):
        """Start it; with ``log``, which is appended to, in a session of its own; ``program``: see fork_server.py."""
        self.count += 1
        out, err = (log or self.folder / f"{self.count}.{name}" for name in ("out", "err"))
        request = {"words": [str(w) for w in words], "cwd": str(cwd or self.folder), "env": env or {}}
        request |= {
            "out": str(out),
            "err": str(err),
            "most_bytes": most_bytes,
            "session": log is not None,
            "program": str(program),
        }
        return Running(self, self.ask({"start": request}), out, err)

    def __call__(self, *words, **how):
        return self.start(*words, **how).wait()


@pytest.fixture(scope="session")
def consilium_cli(tmp_path_factory, why_no_disk):
    """``consilium_cli("run", file, "--json")`` -> Done.  It is started where mounts are private: it sees those made."""
    folder = tmp_path_factory.mktemp("commands")
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "200"}
    process = subprocess.Popen(
        [sys.executable, str(SERVER)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
        cwd=folder,
    )
    yield CommandLine(folder, process)
    process.stdin.close()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGKILL)
        process.wait()
    process.stdout.close()


@dataclass(frozen=True)
class Ran:
    """A study that was run: its file, its folder, and what the command said."""

    file: Path
    folder: Path
    done: Done
    seconds: float

    def study(self):
        return read(self.folder / "study.json")

    def cells(self):
        """Evidence by (arm, infected_by, seed)."""
        found = [read(path) for path in (self.folder / "cells").glob("*/evidence.json")]
        return {(e["cell"]["arm"], e["cell"]["infected_by"], e["cell"]["seed"]): e for e in found}

    def cell(self, arm, infected_by="none", seed=0):
        return self.folder / "cells" / self.cells()[arm, infected_by, seed]["cell"]["digest"]


def read(path):
    return json.loads(path.read_text(encoding="utf-8"))


@pytest.fixture(scope="session")
def run_study(consilium_cli, tmp_path_factory):
    """``run_study(text or tables, out=...)`` runs a study by the command line, with ``--json``."""

    def run(study, out=None, code=0, **how):
        home = tmp_path_factory.mktemp("study")
        file = home / "study.toml"
        file.write_text(study if isinstance(study, str) else toml(study), encoding="utf-8")
        out, began = out or home / "out", time.monotonic()
        done = consilium_cli("run", file, "--out", out, "--json", cwd=home, **how)
        assert done.code == code, done.err
        return Ran(file, out / tomllib.loads(file.read_text())["name"], done, time.monotonic() - began)

    return run


@pytest.fixture(scope="session")
def tiny(run_study):
    """Eight arms, each clean and infected, on breast-cancer; run once, to be read only."""
    return run_study(TINY)


class Disk:
    """A file system of its own, of a few pages, that can be filled up to the last one."""

    PAGE = 4096

    def __init__(self, folder):
        self.folder, self._filler = folder, folder / "filler"

    def fill(self, left=0):
        """Take all that is free but ``left`` pages."""
        self.free()
        with self._filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
            while True:
                file.write(b"x" * self.PAGE)
        with self._filler.open("r+b") as file:
            file.truncate(max(0, self._filler.stat().st_size // self.PAGE - left) * self.PAGE)

    def free(self):
        """Give it back."""
        self._filler.unlink(missing_ok=True)


@pytest.fixture(scope="session")
def why_no_disk():
    """Why no disk can be mounted here, else "".  This process, and those it starts, see mounts that go when it ends."""
    if sys.platform != "linux":
        return "a full disk is made on Linux only"
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(0x00020000):  # CLONE_NEWNS
        return f"a full disk needs the right to mount: {os.strerror(ctypes.get_errno())}"
    done = subprocess.run(["mount", "--make-rprivate", "/"], capture_output=True, text=True, check=False)
    return done.stderr.strip()


@pytest.fixture(scope="session")
def small_disk(why_no_disk):
    """``small_disk(folder, kilobytes)`` mounts a disk in memory on a new or empty folder; it goes with this process."""

    def mounted(folder, kilobytes):
        if why_no_disk:
            pytest.skip(why_no_disk)
        folder.mkdir(parents=True, exist_ok=True)
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", folder], check=True)
        return Disk(folder)

    return mounted


@pytest.fixture
def tables():
    """The tables of the tiny study, to be changed at will."""
    return tomllib.loads(TINY)


@pytest.fixture(scope="session")
def as_toml():
    return toml


def toml(table):
    """A study file of plain tables."""
    return "".join(f"{_key(k)} = {_word(v)}\n" for k, v in table.items())


def _word(value):
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{_key(k)} = {_word(v)}" for k, v in value.items()) + " }"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_word(v) for v in value) + "]"
    return str(value) if isinstance(value, float) else json.dumps(value, ensure_ascii=False)


def _key(name):
    return json.dumps(name, ensure_ascii=False)


def timeless(value, times):
    """A record without the fields whose names match ``times``, nor what is timed."""
    if isinstance(value, dict):
        if value.get("name") == "latency_ratio":
            return {}
        return {k: timeless(v, times) for k, v in value.items() if not times.search(k)}
    return [timeless(one, times) for one in value] if isinstance(value, list) else value


@pytest.fixture(scope="session")
def contents_of():
    """``contents_of(folder, rooms, times)``: records without times and tensor files as bytes, by path."""

    def contents(folder, rooms, times):
        files = {}
        for path in sorted(folder.rglob("*")):
            name = str(path.relative_to(folder))
            if name.split("/", maxsplit=1)[0] not in rooms:
                continue
            if path.suffix == ".json":
                files[name] = timeless(json.loads(path.read_text()), times)
            elif path.suffix == ".jsonl":
                files[name] = [timeless(json.loads(line), times) for line in path.read_text().splitlines()]
            elif path.suffix == ".safetensors":
                files[name] = path.read_bytes()
        return files

    return contents
