"""``show`` of a kind, a study's folder and a cell, for people; ``--json`` has what is stored; ``--quiet``, refusals."""

import json
from dataclasses import replace

from consilium.cli.folder_view import _claim_lines
from consilium.evidence.privacy import ClaimEvidence, PrivacyEvidence


def test_a_folder_is_a_summary(consilium_cli, tiny):
    done = consilium_cli("show", tiny.folder)
    assert done.code == 0 and "16 cells: 16 ok" in done.out and "dp-sgd + static-int8" in done.out
    assert "What does each defence buy" in done.out and "Known are" not in done.out
    stored = json.loads((tiny.folder / "study.json").read_text())
    assert consilium_cli("show", tiny.folder, "--json").json == stored


def test_a_cell_is_its_figures(consilium_cli, tiny):
    cell = tiny.cell("dp-sgd")
    done = consilium_cli("show", cell)
    evidence = json.loads((cell / "evidence.json").read_text())
    accuracy = next(m["value"] for m in evidence["utility"] if m["name"] == "accuracy")
    for words in (
        "dp-sgd (seed 0): ok",
        "-differentially private per example",
        "can be recomputed from the seed",
        "fgsm",
        "accuracy",
        f"{accuracy:.3f}",
    ):
        assert words in done.out
    assert not done.out.startswith("{")


def test_a_claim_is_rounded_up_and_says_whether_its_noise_is_secret():
    """0.49894202 to four digits is 0.4989, which the model does not have."""
    claim = ClaimEvidence("s", "example", "add-or-remove-one", against="whoever receives the model", noise="replayable")
    privacy = PrivacyEvidence(0.49894202, None, 0.00100049, "example", "add-or-remove-one", (claim,))
    said = list(_claim_lines(privacy))
    assert said[0].startswith("(0.499, 0.00101)-differentially private per example, add-or-remove-one, against whoever")
    assert "can be recomputed" in said[1] and "do not release" in said[1]
    secret = replace(privacy, claims=(replace(claim, noise="secret"),))
    assert list(_claim_lines(secret)) == said[:1]
    assert list(_claim_lines(PrivacyEvidence())) == ["no claim of differential privacy"]


def test_an_empty_room_says_that_it_has_no_entries_yet(consilium_cli):
    done = consilium_cli("list", "attack/attribute")
    assert done.code == 0 and done.out == "attack/attribute: no entries yet\n"
    assert consilium_cli("list", "attack/attribute", "--json").json == []
    assert consilium_cli("list", "attack").out.startswith("attack/evasion\n")


def test_a_misspelt_command_is_suggested_once(consilium_cli):
    done = consilium_cli("rn", "x.toml")
    assert done.code == 2 and (done.out + done.err).count("Did you mean") == 1


def test_a_folder_of_studies_names_them(consilium_cli, tiny):
    done = consilium_cli("show", tiny.folder.parent)
    assert done.code == 2 and "Name one of the studies in it: tiny" in done.err
    done = consilium_cli("show", "nothing-like-it-at-all")
    assert done.code == 2 and "`consilium list` names them" in done.err and len(done.err) < 250


def test_a_kind_explains_its_parameters(consilium_cli):
    out = consilium_cli("show", "dp-sgd").out
    assert "clip = 1.0   a positive number, 1e-9 to 1e9" in out and "Length C to which each gradient is cut." in out
    (entry,) = consilium_cli("show", "pgd", "--json").json
    norm = next(one for one in entry["parameters"] if one["name"] == "norm")
    assert norm["allowed"] == ["linf", "l2", "l1"] and norm["default"] == "linf" and norm["meaning"]


def test_quiet_reports_no_progress(consilium_cli, tiny):
    done = consilium_cli("run", tiny.file, "--out", tiny.folder.parent, "--quiet", "--json")
    assert done.code == 0 and done.err == "" and done.json["process_seconds"] >= done.json["seconds"] > 0


def test_records_that_are_not_public_are_in_the_report_only_if_asked_for(consilium_cli, tiny, tmp_path):
    """The table is bundled: its report has what it had, with the option or without."""
    page = tiny.folder / "report.html"
    before = page.read_bytes()
    assert consilium_cli("report", tiny.folder, "--include-records").code == 0 and page.read_bytes() == before
    assert consilium_cli("report", tiny.folder).code == 0 and page.read_bytes() == before
    assert consilium_cli("report", tiny.folder, "--share").code == 2


def test_a_syntax_error_shows_its_line_and_a_misspelt_kind_its_own_name(consilium_cli, tmp_path):
    (tmp_path / "s.toml").write_text('name = "s"\nseeds = = 3\n')
    assert "(at line 2, column 9): 'seeds = = 3'" in consilium_cli("plan", "s.toml", cwd=tmp_path).err
    study = 'name = "s"\ndata = "digits"\nmodel = "mlp"\nvary.privacy = [{ kind = "dpsgd", epsilon = 8.0 }]\n'
    (tmp_path / "s.toml").write_text(study)
    assert "Did you mean 'dp-sgd'?" in consilium_cli("plan", "s.toml", cwd=tmp_path).err
