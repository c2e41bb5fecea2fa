"""What was changed after it was written is said on the page, in the table and on the terminal, and not shown."""

import csv
import json
import shutil

import pytest
from rich.console import Console

from consilium import Study
from consilium.core.seal import sealed
from consilium.report.load.read import read_study
from consilium.report.render.page import write_page
from consilium.report.render.table import terminal_table, write_csv


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    study = Study(
        name="look",
        data={"kind": "breast-cancer", "sites": 2},
        model="logistic",
        federation={"kind": "fed-avg", "rounds": 2},
        vary={"privacy": ["none", {"kind": "norm-bound", "bound": 1.0}]},
        attacks=[{"kind": "loss-threshold"}],
        options={"threads": 1},
    )
    return study.run(tmp_path_factory.mktemp("ran"), quiet=True).folder


@pytest.fixture
def folder(ran, tmp_path):
    shutil.copytree(ran, tmp_path / "look")
    return tmp_path / "look"


def cell(folder):
    (found,) = [c for c in read_study(folder).evidence if c.arm == "none"]
    return found


def evidence(folder):
    return folder / "cells" / cell(folder).digest / "evidence.json"


def typed_over(path, **changes):
    text = path.read_text()
    record = json.loads(text)
    record["utility"][0]["value"] = 0.9991234
    record |= changes
    path.write_text(json.dumps(record))


def rows(folder):
    with write_csv(folder).open(encoding="utf-8", newline="") as file:
        return {row["arm"]: row for row in csv.DictReader(file)}


def terminal(folder):
    console = Console(width=160)
    with console.capture() as printed:
        console.print(terminal_table(folder))
    return printed.get()


def test_a_folder_as_it_was_written_says_nothing(folder):
    study = read_study(folder)
    assert study.altered == () and all(c.ok and not c.unsealed for c in study.evidence)
    page = write_page(folder).read_text()
    assert "Changed after it was written" not in page and "2 of 2 cells as they were written" in page


@pytest.mark.parametrize("stripped", [False, True])
def test_figures_that_were_typed_over_are_never_printed(folder, stripped):
    path = evidence(folder)
    typed_over(path)
    if stripped:  # without its seal: the study's record has another
        record = json.loads(path.read_text())
        del record["seal"], record["sealed"]
        path.write_text(json.dumps(record))
    found = cell(folder)
    assert (found.status, found.utility, found.attacks, found.privacy.epsilon) == ("altered", (), (), None)
    page = write_page(folder).read_text()
    assert 'class="notice bad" role="alert"' in page and "its evidence.json was changed after it was written" in page
    shown = page.partition('id="plotly-source"')[0]
    assert ".9991234" not in shown and ">0.999<" not in shown and "1 changed since" in page
    row = rows(folder)["none"]
    assert (row["status"], row["accuracy"]) == ("altered", "") and rows(folder)["norm-bound"]["status"] == "ok"
    assert "1 of 1 altered" in terminal(folder)


def test_evidence_that_was_sealed_anew_is_not_the_one_of_the_study(folder):
    path = evidence(folder)
    typed_over(path)
    path.write_text(json.dumps(sealed(json.loads(path.read_text()))))
    assert cell(folder).status == "altered" and not cell(folder).judged


def test_another_model_is_said_to_be_one_and_the_figures_stay_those_of_the_judged(folder):
    before, path = cell(folder), next((folder / "models" / cell(folder).model).glob("*.safetensors"))
    path.write_bytes(path.read_bytes()[:-1] + b"\0")
    found = cell(folder)
    assert found.status == "altered" and found.utility == before.utility
    assert f"{path} is not the model that was stored" in found.error
    assert rows(folder)["none"]["status"] == "altered" and str(path) in write_page(folder).read_text()
    assert path.exists()
    shutil.rmtree(folder / "models")
    assert cell(folder).ok, "evidence may be passed on without its models"


def test_scores_that_were_changed_are_not_drawn(folder):
    path = evidence(folder).with_name("loss-threshold.safetensors")
    path.write_bytes(path.read_bytes()[:-1] + b"\x7f")
    found = cell(folder)
    assert found.status == "altered" and "loss-threshold.safetensors was changed" in found.error
    assert found.attacks[0].file is None and found.attacks[0].measures


def test_rounds_that_were_changed_are_not_drawn(folder):
    path = folder / "trainings" / cell(folder).training / "rounds.jsonl"
    path.write_text(path.read_text().replace('"bytes_up": ', '"bytes_up": 1'))
    assert read_study(folder).rounds[cell(folder).training] == ()
    assert cell(folder).status == "altered" and "rounds.jsonl" in cell(folder).error


def test_a_study_record_that_was_changed_is_said_to_be(folder):
    path = folder / "study.json"
    path.write_text(path.read_text().replace('"look"', '"looked"', 1))
    assert read_study(folder).altered[0].startswith("study.json was changed")
    assert "study.json was changed after it was written" in write_page(folder).read_text()


def test_evidence_from_before_there_were_seals_is_shown_with_a_note(folder):
    for path in folder.rglob("*.json"):
        record = json.loads(path.read_text())
        for name in ("seal", "sealed", "seals", "released", "trained", "trainings"):
            record.pop(name, None)
        for one in record["cells"] if path.name == "study.json" else ():
            del one["seal"]
        path.write_text(json.dumps(record))
    assert cell(folder).ok and cell(folder).judged and cell(folder).unsealed.startswith("Not sealed")
    page = write_page(folder).read_text()
    assert "2 not sealed (written before there were seals)" in page and "Not sealed: this evidence" in page


def test_the_commands_say_it_too(folder, consilium_cli):
    path = evidence(folder)
    assert "altered" not in consilium_cli("report", folder, "--json").json
    typed_over(path)
    assert len(consilium_cli("report", folder, "--json").json["altered"]) == 1
    done = consilium_cli("report", folder)
    assert done.code == 0 and "none, seed 0: its evidence.json was changed after it was written" in done.err
    shown = consilium_cli("show", path.parent, "--json")
    assert "was changed after it was written" in shown.err and json.loads(shown.out)["status"] == "ok"
