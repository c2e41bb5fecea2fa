"""What tests of runs share: finished runs, runs that are cut short, and what a run itself keeps."""

import json
import shutil
import signal
from contextlib import contextmanager

import pytest

from consilium import Study
from consilium.study.progress.callbacks import Watch


@contextmanager
def clocked(seconds):
    """Fail, rather than wait, if the block does not end in time."""

    def late(*_):
        raise TimeoutError(f"this took longer than {seconds} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@pytest.fixture(scope="session")
def within():
    """A block that takes longer than so many seconds fails."""
    return clocked


class Stop(BaseException):
    """Whoever pulled the plug."""


class Tracked:
    """A study of two arms, clean and infected, with one attack: four trainings, four cells."""

    Stop = Stop

    def __init__(self, tables, monkeypatch):
        del tables["vary"]["robustness"], tables["vary"]["compression"]
        self.study = {**tables, "attacks": tables["attacks"][:1], "track": ["tensorboard"]}
        self._monkeypatch, self._call = monkeypatch, Watch.__call__

    def run(self, out, **changed):
        results = Study.of({**self.study, **changed}).run(out, executor="serial")  # where it can be cut
        return results.outcome, results.folder

    def cut(self, number, told=True):
        """From now on runs are killed after a training's round ``number``, once the sinks were ``told`` of it."""

        def call(watch, report, sites):
            if told or report["round"] != number:
                self._call(watch, report, sites)
            if report["round"] == number:
                raise Stop

        self._monkeypatch.setattr(Watch, "__call__", call)

    def uncut(self):
        self._monkeypatch.setattr(Watch, "__call__", self._call)

    def logs(self, folder):
        """Rounds by training digest, as the run itself keeps them."""
        return {
            path.parent.name: [json.loads(line) for line in path.read_text().splitlines()]
            for path in (folder / "trainings").glob("*/rounds.jsonl")
        }

    def evidence(self, folder):
        found = [json.loads(path.read_text()) for path in (folder / "cells").glob("*/evidence.json")]
        return {e["cell"]["digest"]: e for e in found}


@pytest.fixture
def tracked(tables, monkeypatch):
    return Tracked(tables, monkeypatch)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A finished run of a study, copied rather than made again."""
    runs = {}

    def copy(study, tmp_path):
        key = json.dumps(study, sort_keys=True)
        if key not in runs:
            runs[key] = tmp_path_factory.mktemp("finished")
            Study.of(study).run(runs[key], quiet=True)
        shutil.copytree(runs[key], tmp_path / "out")
        return tmp_path / "out"

    return copy
