"""Stopped at any moment and started again, a study ends with the evidence of an uninterrupted run."""

import json
import os
import random
import re
import shutil
import signal
import time

import pytest

VARYING = {
    "seconds",
    "seconds_per_site",
    "created",
    "command",
    "folder",
    "table",
    "report",
    "latency_ratio",
    "revision",
    "dirty",
    "seal",  # of a record, its seconds included
    "seals",  # of rounds.jsonl, likewise, and of a checkpoint, whose bytes are compared
    "trained",  # the same digests, in evidence
    "trainings",  # and in the record of the study
}


def timeless(value):
    """``value`` without what a clock, or a commit in between, says of it."""
    if isinstance(value, dict):
        if value.get("name") == "latency_ratio":
            return {k: v for k, v in value.items() if k not in ("value", "low", "high")}
        return {k: timeless(v) for k, v in value.items() if k not in VARYING}
    return [timeless(v) for v in value] if isinstance(value, list) else value


def contents(folder):
    """Everything a study's folder says: JSON without times, safetensors as bytes."""
    found = {}
    for path in folder.rglob("*"):
        name = str(path.relative_to(folder))
        if path.suffix == ".json":
            found[name] = timeless(json.loads(path.read_text(encoding="utf-8")))
        elif path.suffix == ".jsonl":
            found[name] = [timeless(json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines()]
        elif path.suffix == ".safetensors":
            found[name] = path.read_bytes()
    return found


@pytest.fixture
def home(tmp_path, tables, as_toml):
    """The tiny study, longer: twelve rounds, so that a kill can meet one, and carried by what no clock chooses."""
    tables["federation"] |= {"rounds": 12, "engine": "loop"}
    tables["vary"]["privacy"][0]["noise-multiplier"] = 2.0
    del tables["vary"]["robustness"], tables["attacks"][1]["from"]["robustness"]
    (tmp_path / "study.toml").write_text(as_toml(tables))
    return tmp_path


@pytest.fixture
def short(home, tables, as_toml):
    """Without int8, which takes a moment to plan."""
    del tables["vary"]["compression"], tables["attacks"][1]["from"]["compression"]
    (home / "study.toml").write_text(as_toml(tables))
    return home


def words(out):
    return ("run", "study.toml", "--out", out, "--json")


def progress(folder):
    """How far a run is: rounds, records and tensor files that are on disk."""
    rounds = sum(path.read_bytes().count(b"\n") for path in folder.rglob("rounds.jsonl"))
    return rounds + sum(1 for path in folder.rglob("*") if path.name.endswith((".safetensors", "evidence.json")))


def reaches(wanted, measure):
    until = time.monotonic() + 300
    while measure() < wanted and time.monotonic() < until:
        time.sleep(0.002)


def test_sigkill_at_five_random_moments_changes_nothing(home, consilium_cli):
    assert consilium_cli(*words("whole"), cwd=home).code == 0
    wanted, work = contents(home / "whole" / "tiny"), progress(home / "whole")
    chance = random.Random(20251122)
    for moment in sorted(chance.sample(range(1, work - 5), 5)):
        running = consilium_cli.start(*words("cut"), cwd=home)
        reaches(moment, lambda: progress(home / "cut"))
        time.sleep(chance.random() * 0.02)
        running.send(signal.SIGKILL)
        assert running.wait().code == -signal.SIGKILL, f"it was over before moment {moment} of {work}"
    done = consilium_cli(*words("cut"), cwd=home)
    assert done.code == 0, done.err
    assert contents(home / "cut" / "tiny") == wanted
    assert len(wanted) > 60
    done = consilium_cli(*words("cut"), cwd=home)
    assert done.json["trained"] == 0 and done.json["attacks_run"] == 0


def test_the_comparison_can_fail(tiny, tmp_path):
    wanted = contents(tiny.folder)
    shutil.copytree(tiny.folder, tmp_path / "tiny")
    assert contents(tmp_path / "tiny") == wanted
    path = next((tmp_path / "tiny").rglob("evidence.json"))
    path.write_text(
        path.read_text().replace('"name": "accuracy",\n   "value": 0.', '"name": "accuracy",\n   "value": 1.')
    )
    assert contents(tmp_path / "tiny") != wanted
    assert timeless({"name": "accuracy", "value": 1.0}) != timeless({"name": "accuracy", "value": 0.5})


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_polite_stop_is_one_line_and_loses_nothing(short, consilium_cli, number):
    running = consilium_cli.start(*words("cut"), cwd=short)
    reaches(1, lambda: len(list((short / "cut").rglob("evidence.json"))))
    running.send(number)
    done = running.wait()
    assert done.code == 3 and "Traceback" not in done.err
    last = done.err.strip().splitlines()[-1]
    assert re.fullmatch(r"consilium: stopped\. Nothing finished is lost; run again to go on\.", last), done.err
    assert done.json["exit_code"] == 3
    study = json.loads((short / "cut" / "tiny" / "study.json").read_text())
    assert {c["status"] for c in study["cells"]} <= {"ok", "started"}
    again = consilium_cli(*words("cut"), cwd=short)
    assert again.code == 0 and again.json["reused"] >= 2


def test_a_second_run_in_the_same_folder_is_refused_while_the_first_goes_on(short, consilium_cli):
    first = consilium_cli.start(*words("cut"), cwd=short)
    reaches(1, lambda: len(list((short / "cut").rglob("study.json"))))
    os.kill(first.pid, signal.SIGSTOP)  # however fast it is, it is not over yet
    try:
        second = consilium_cli(*words("cut"), cwd=short)
    finally:
        os.kill(first.pid, signal.SIGCONT)
    assert second.code == 2 and "another run is writing to cut/tiny" in second.err
    assert len(second.err.strip().splitlines()) == 1
    assert first.wait().code == 0
