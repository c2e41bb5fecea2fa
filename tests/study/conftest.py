"""What tests of sinks share: a small study, runs of it that are cut short, and what a run itself keeps."""

import json

import pytest

from consilium import Study
from consilium.study.watch import Watch


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
        results = Study.of({**self.study, **changed}).run(out)
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
