"""What lies in a study's folder and is not what was written: called by name, or made again, and no link is followed."""

import json
import os

import pytest

import consilium
from consilium import Study
from consilium.core.errors import Failed, Refused
from consilium.core.seal import sealed
from consilium.report.load.read import read_study
from consilium.report.render.table import write_csv
from consilium.study.store.store import Store, read_rounds, read_stored

TABLE = {
    "name": "odd",
    "threads": 1,
    "data": {"kind": "breast-cancer", "sites": 2},
    "model": "logistic",
    "federation": {"kind": "fed-avg", "rounds": 2},
    "attacks": [{"kind": "loss-threshold"}],
}


@pytest.fixture
def done(tmp_path):
    return Study.of(TABLE).run(tmp_path / "out", quiet=True)


def again(done):
    return Study.of(TABLE).run(done.folder.parent, quiet=True)


def only(done, name):
    (path,) = done.folder.rglob(name)
    return path


def edited(path, change):
    held = json.loads(path.read_text())
    change(held)
    path.write_text(json.dumps(held))


@pytest.mark.parametrize(
    "change",
    [
        lambda held: held.update(findings=[]),
        lambda held: held["findings"].update({"loss-threshold": 3}),
        lambda held: held["findings"]["loss-threshold"].update(status=None),
        lambda held: held.update(set_aside=None),
        lambda held: held.update(utility={"a": 1}),
        lambda held: held.update(utility=[[]]),
        lambda held: held.update(privacy="none"),
        lambda held: held["privacy"].update(claims=[7]),
        lambda held: held.update(seconds=[1]),
        lambda held: held["seconds"].update(evaluation="1"),
        lambda held: held.update(notes="x"),
    ],
)
def test_evidence_of_another_form_is_made_again(done, change):
    path = only(done, "evidence.json")
    wanted = json.loads(path.read_text())
    edited(path, change)
    outcome = again(done).outcome
    made = json.loads(path.read_text())
    assert not outcome.failed and outcome.attacks_run == 1 and made["status"] == "ok"
    assert made["utility"] == wanted["utility"]
    assert made["findings"]["loss-threshold"]["measures"] == wanted["findings"]["loss-threshold"]["measures"]


@pytest.mark.parametrize("data", [b"[" * 200_000, b"[1]", b'{"status": "ok", "status": "ok"}', b"\xff", b"1e999"])
def test_evidence_that_is_none_is_made_again(done, data):
    path = only(done, "evidence.json")
    path.write_bytes(data)
    assert read_study(done.folder).evidence[0].status in ("failed", "altered")
    assert "cannot be read" in read_study(done.folder).evidence[0].error
    assert not again(done).outcome.failed and json.loads(path.read_text())["status"] == "ok"


@pytest.mark.parametrize("name", ["training.json", "recipe.json", "engine.json"])
@pytest.mark.parametrize("data", [b"[" * 200_000, b"[1]"])
def test_another_record_that_is_none_is_named(done, name, data):
    path = only(done, name)
    path.write_bytes(data)
    with pytest.raises(Failed, match=name):
        read_stored(path)
    if name == "recipe.json":
        with pytest.raises(Failed, match=name):
            consilium.load(only(done, "evidence.json").parent)
    again(done)


def test_a_recipe_without_a_field_is_named(done):
    path = only(done, "recipe.json")
    edited(path, lambda held: held.pop("shape"))
    path.write_text(json.dumps(sealed(json.loads(path.read_text()))))  # by who knows of seals
    with pytest.raises(Refused, match=r"recipe\.json is not a model's recipe: 'shape'"):
        consilium.load(only(done, "evidence.json").parent)


def unfinish(done):
    """As a run leaves it that was killed before its training ended: nothing was made of it, and nothing knows it."""
    for name in ("training.json", "evidence.json"):
        only(done, name).unlink()
    path = done.folder / "study.json"
    record = json.loads(path.read_text())
    record.pop("trainings", None)
    path.write_text(json.dumps(sealed({**record, "cells": [{**cell, "seal": None} for cell in record["cells"]]})))


def test_a_byte_that_is_no_text_costs_its_line_alone(done):
    path = only(done, "rounds.jsonl")
    path.write_bytes(path.read_bytes() + b"\xff\n")
    assert set(read_study(done.folder).unread.values()) == {"was changed after it was written"}
    unfinish(done)  # a training that is still at work: nothing has sealed it
    study = read_study(done.folder)
    (rounds,), (why,) = study.rounds.values(), study.unread.values()
    assert len(rounds) == 2 and why == "1 of 3 lines cannot be read"
    assert f"trainings/{path.parent.name}/rounds.jsonl" in consilium.write_page(done.folder).read_text()
    with pytest.raises(Failed, match="line 3 of"):
        read_rounds(Store(done.folder), path.parent.name)


def test_a_round_without_its_line_is_not_passed_over(done):
    path = only(done, "rounds.jsonl")
    unfinish(done)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"\xff\n" + lines[1])
    (failed,) = again(done).outcome.failed.values()
    assert "has no readable line of round 1" in failed


def again_without_evidence(done):
    only(done, "evidence.json").unlink()
    return again(done)


@pytest.mark.parametrize("name", ["study.json", "evidence.json", "rounds.jsonl", "report.html", "table.csv"])
def test_a_fifo_is_not_waited_for(done, name):
    path = done.folder / name if name in ("report.html", "table.csv") else only(done, name)
    path.unlink(missing_ok=True)
    os.mkfifo(path)
    if name == "study.json":
        with pytest.raises(Refused, match="it is a FIFO, not a file"):
            read_study(done.folder)
        return
    assert write_csv(done.folder).is_file() and consilium.write_page(done.folder).is_file()


@pytest.mark.parametrize("name", ["model.safetensors", "checkpoint.safetensors", "loss-threshold.safetensors"])
def test_a_fifo_of_tensors_is_not_waited_for(done, name):
    path = only(done, name)
    path.unlink()
    os.mkfifo(path)
    if name == "model.safetensors":
        with pytest.raises(Refused, match="it is a FIFO, not a file"):
            consilium.load(only(done, "evidence.json").parent)
    consilium.write_page(done.folder)
    again_without_evidence(done)


def test_links_are_not_written_through(done, tmp_path):
    precious = tmp_path / "precious"
    precious.write_text("precious")
    for name in ("report.html", "table.csv", "study.json"):
        (done.folder / name).unlink(missing_ok=True)
        (done.folder / f"{name}.draft").symlink_to(precious)
        (done.folder / name).symlink_to(precious)
    again(done)
    write_csv(done.folder)
    consilium.write_page(done.folder)
    assert precious.read_text() == "precious" and not (done.folder / "report.html").is_symlink()
    (done.folder / ".lock").unlink()
    (done.folder / ".lock").symlink_to(precious)
    with pytest.raises(Refused, match=r"\.lock cannot be locked: it is a link"):
        again(done)
    assert precious.read_text() == "precious"


def test_a_folder_that_is_a_link_is_said(done, tmp_path, capsys):
    """Another disk is a fair place for models; that they are there is no secret."""
    out, disk = done.folder.parent, tmp_path / "disk"
    capsys.readouterr()
    Study.of(TABLE).run(out)
    assert "is a link" not in capsys.readouterr().err
    (done.folder / "models").rename(disk)
    (done.folder / "models").symlink_to(disk)
    out.rename(tmp_path / "real")
    out.symlink_to("real")
    Study.of(TABLE).run(out)
    said = " ".join(capsys.readouterr().err.split())
    assert said.count("is a link, and what is written there is stored in") == 2
    assert f"{done.folder / 'models'} is a link, and what is written there is stored in {disk}" in said


def test_a_spreadsheet_takes_nothing_for_a_formula(done):
    edited(done.folder / "study.json", lambda held: [arm.update(name="=1+2") for arm in held["arms"]])
    edited(done.folder / "study.json", lambda held: [cell.update(arm="=1+2") for cell in held["cells"]])
    edited(only(done, "evidence.json"), lambda held: held["cell"].update(arm="=1+2"))
    assert write_csv(done.folder).read_text().splitlines()[1].startswith("'=1+2,0,none,altered,")


def test_what_a_module_says_does_not_steer_the_terminal(tmp_path, monkeypatch, capsys):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "loud.py").write_text(
        "from torch import nn\nclass Loud(nn.Module):\n"
        "    def __init__(self):\n        super().__init__()\n        self.a = nn.Linear(30, 2)\n"
        "    def forward(self, x):\n"
        "        if self.training and len(x) > 16:\n            raise RuntimeError('\\x1b]0;mine\\x07\\u202e\\x00')\n"
        "        return self.a(x)\n"
    )
    model = {"kind": "module", "path": "loud:Loud", "allow-code": True}
    Study.of({**TABLE, "model": model}).run(tmp_path / "out")
    said = capsys.readouterr().err
    assert "\\x1b]0;mine\\x07\\u202e\\x00" in said and "\x1b" not in said and "\x00" not in said
