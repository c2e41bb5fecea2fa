"""The commands: results on standard output, progress and errors on standard error, one JSON document, exit codes."""

import csv
import json
import subprocess
import sys

import pytest

import consilium
from consilium.core.catalogue import ROOMS, cards


def test_the_plan_says_what_the_run_then_does(tiny, consilium_cli):
    plan, ran = consilium_cli("plan", tiny.file, "--json"), tiny.done.json
    assert plan.code == 0 and plan.err == ""
    said = plan.json
    assert said["trainings"] == said["trainings_to_do"] == ran["trained"] == 8
    assert said["cells"] == len(ran["cells"]) == 16
    assert said["models"] == len({c["model"] for c in ran["cells"]})
    assert said["attacks_per_cell"] * said["cells"] == ran["attacks_run"]
    for arm in said["arms"]:
        clean = {c["training"] for c in ran["cells"] if c["arm"] == arm["arm"] and c["infected_by"] == "none"}
        assert set(arm["trainings"]) == clean
    assert 0 < said["expected_seconds"] < 60
    after = consilium_cli("plan", tiny.file, "--out", tiny.folder.parent, "--json").json
    assert after["trainings_to_do"] == 0 and after["expected_seconds"] == 0


def test_a_plan_writes_nothing(consilium_cli, tiny, tmp_path):
    assert consilium_cli("plan", tiny.file, cwd=tmp_path).code == 0
    assert list(tmp_path.iterdir()) == []


def test_what_is_said_without_json(consilium_cli, tiny):
    plan = consilium_cli("plan", tiny.file)
    assert "8 of 8 trainings to do, 16 models, 16 cells, 3 attacks on each" in plan.out
    assert "dp-sgd + static-int8" in plan.out and "6.514" in plan.out and "none (no DP)" in plan.out
    run = consilium_cli("run", tiny.file, "--out", tiny.folder.parent)
    assert "trained nothing, 8 done already; ran 0 attacks, 48 done already" in run.out
    assert f"report: {tiny.folder / 'report.html'}" in run.out


def test_progress_goes_to_standard_error(tiny):
    json.loads(tiny.done.out)
    assert "about" in tiny.done.err and "s left" in tiny.done.err and "Traceback" not in tiny.done.err


def test_the_report_is_written_again_from_the_evidence(consilium_cli, tiny, tmp_path):
    table, page = (tiny.folder / name for name in ("table.csv", "report.html"))
    before = table.read_bytes(), page.read_bytes()
    table.unlink(), page.unlink()
    done = consilium_cli("report", tiny.folder, "--json")
    assert done.code == 0 and done.json == {"table": str(table), "report": str(page)}
    assert (table.read_bytes(), page.read_bytes()) == before


def test_show_a_cell_and_an_entry(consilium_cli, tiny):
    cell = tiny.cell("dp-sgd")
    assert consilium_cli("show", cell, "--json").json == json.loads((cell / "evidence.json").read_text())
    said = consilium_cli("show", "dp-sgd").out
    for words in ("dp-sgd  (defend/training)", "clip = 1.0", "Source:"):
        assert words in said
    (card,) = consilium_cli("show", "pgd", "--json").json
    assert card["kind"] == "pgd" and card["knobs"]["steps"] == 20


def test_list_names_everything_a_study_can_name(consilium_cli):
    listed = consilium_cli("list", "--json").json
    assert [c["kind"] for c in listed] == [c.kind for room in ROOMS for c in cards(room)]
    for card in listed:
        assert card.keys() == {"kind", "room", "role", "doc", "source", "reading", "knobs"}
        assert card["doc"] and card["room"] in ROOMS and card["role"] == ROOMS[card["room"]]
    of_room = {c["kind"] for c in consilium_cli("list", "attack/evasion", "--json").json}
    assert of_room == {c["kind"] for c in listed if c["room"] == "attack/evasion"} >= {"fgsm", "pgd", "transfer"}
    assert {c["room"].split("/")[0] for c in consilium_cli("list", "defend", "--json").json} == {"defend"}
    assert "static-int8" in consilium_cli("list").out


def test_a_misused_command_ends_with_2(consilium_cli):
    for words in (("run", "--fast"), ("walk",), ("show",), ("plan", "a", "b")):
        done = consilium_cli(*words)
        assert done.code == 2 and done.out == "" and "Traceback" not in done.err


def test_help_says_what_there_is(consilium_cli):
    said = consilium_cli("--help").out
    for command in ("run", "plan", "report", "list", "show"):
        assert command in said
        assert "--json" in consilium_cli(command, "--help").out


def test_the_package_is_a_command_too(tmp_path):
    """``python -m consilium``, in an interpreter of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "consilium", "plan", "no.toml", "--json"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        timeout=600,
        check=False,
    )
    assert done.returncode == 2 and json.loads(done.stdout)["exit_code"] == 2
    assert done.stderr == "consilium: cannot read no.toml: No such file or directory. Give the path of a study file.\n"


def test_the_quickstart_is_the_study_without_a_file(consilium_cli, tmp_path):
    """Planned, not run: eight arms of real digits over five sites."""
    said = consilium_cli("plan", "--json", cwd=tmp_path).json
    assert said["study"] == "quickstart" and len(said["arms"]) == 8
    assert said["trainings"] == 8 and said["cells"] == 16
    kinds = [a if isinstance(a, str) else a["kind"] for a in consilium.Study.quickstart().table()["attacks"]]
    assert kinds == ["fgsm", "pgd", "pgd", "transfer", "loss-threshold"]


def test_a_study_of_several_seeds_is_one_row_each(run_study, tables):
    tables |= {"seeds": [3, 5], "vary": {"answer": ["round-answer"]}, "attacks": ["loss-threshold"]}
    ran = run_study(tables)
    with (ran.folder / "table.csv").open() as file:
        found = [(r["arm"], r["seed"], r["infected_by"]) for r in csv.DictReader(file)]
    wanted = [
        (arm, seed, by) for arm in ("none", "round-answer") for seed in ("3", "5") for by in ("none", "label-flip")
    ]
    assert sorted(found) == sorted(wanted)
    assert ran.done.json["trained"] == 4
    accuracies = {e["utility"][0]["value"] for (arm, by, _), e in ran.cells().items() if (arm, by) == ("none", "none")}
    assert len(accuracies) == 2


@pytest.mark.parametrize("words", [("run",), ("plan",)])
def test_a_refusal_is_one_json_document_too(consilium_cli, tmp_path, words):
    (tmp_path / "s.toml").write_text("name = 'x'")
    done = consilium_cli(*words, "s.toml", "--json", cwd=tmp_path)
    assert done.code == 2
    assert done.json.keys() == {"error", "exit_code", "where", "reason", "remedy"}
