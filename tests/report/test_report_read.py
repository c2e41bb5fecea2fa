"""A folder is read as it is: with what is missing, cut off, failed, or added by later versions."""

import json
import shutil

import pytest

from consilium.core.errors import Refused
from consilium.evidence.storage.read import SCHEMA
from consilium.report.load.read import read_study


@pytest.fixture
def copy(folder, tmp_path):
    return shutil.copytree(folder, tmp_path / "study")


def rewrite(path, change):
    held = json.loads(path.read_text())
    change(held)
    path.write_text(json.dumps(held))


def test_it_reads_the_whole_study(study):
    assert (len(study.arms), len(study.evidence), study.seeds) == (9, 32, (0, 1))
    assert study.infections == ("none", "adversarial-poisoning")
    assert study.attacks("evasion") == ("fgsm", "pgd", "transfer")
    assert study.attacks("membership") == ("loss-threshold",)
    assert study.arms[-1].refusal.title == "LAWS 10"
    assert study.data.bundled and study.data.shape == (1, 12, 12)


def test_a_cell_without_evidence_keeps_its_place(study):
    lost = [cell for cell in study.evidence if cell.status == "missing"]
    assert [(c.arm, c.seed, c.judged, c.error) for c in lost] == [("static-int8", 1, False, "no evidence was written")]
    assert lost[0].choices["compression"] == "static-int8"  # as its arm says


def test_a_failed_attack_leaves_the_other_figures(study):
    broken = next(c for c in study.evidence if c.error == "transfer: out of memory")
    assert not broken.ok and broken.judged
    assert {f.name: f.status for f in broken.attacks}["transfer"] == "failed"


def test_the_cut_off_last_line_of_a_killed_run_is_skipped(study):
    assert all([r.round for r in rounds] == list(range(1, 11)) for rounds in study.rounds.values())


def test_no_surrogate_is_an_upper_bound(study):
    cell = next(c for c in study.evidence if c.arm == "dp-sgd + static-int8")
    assert [f.upper_bound for f in cell.aimed("evasion")] == [True, True, False]


@pytest.mark.parametrize("content", [None, "{", "[]", "{}", '{"schema": "1"}', '{"schema": true}'])
def test_what_is_no_study_is_refused_by_name(tmp_path, content):
    if content is not None:
        (tmp_path / "study.json").write_text(content)
    with pytest.raises(Refused, match=tmp_path.name):
        read_study(tmp_path)


def test_a_newer_schema_is_refused(tmp_path):
    (tmp_path / "study.json").write_text(json.dumps({"schema": SCHEMA + 1}))
    with pytest.raises(Refused, match="Update consilium"):
        read_study(tmp_path)


def test_a_study_that_says_nothing_but_its_schema_is_empty_not_an_error(tmp_path):
    (tmp_path / "study.json").write_text('{"schema": 1}')
    study = read_study(tmp_path)
    assert (study.name, study.evidence, study.arms) == (tmp_path.name, (), ())
    assert not study.data.bundled  # unknown counts as not public


@pytest.mark.parametrize(
    "content", ["{", "", "[1]", '{"status": "started"}', '{"utility": 3, "findings": [], "cell": 0}']
)
def test_broken_evidence_is_a_cell_without_figures(copy, content):
    digest = read_study(copy).evidence[0].digest
    (copy / "cells" / digest / "evidence.json").write_text(content)
    cell = read_study(copy).evidence[0]
    assert cell.digest == digest and not cell.ok and not cell.judged


def test_a_digest_that_climbs_out_of_the_folder_is_not_followed(copy, tmp_path):
    (tmp_path / "evidence.json").write_text('{"status": "ok", "utility": [{"name": "accuracy", "value": 1.0}]}')
    rewrite(copy / "study.json", lambda held: held["cells"][0].update(digest="../.."))
    assert not read_study(copy).evidence[0].judged


def test_scores_are_only_read_beside_the_evidence(copy, tmp_path):
    first = read_study(copy).evidence[0].digest
    (tmp_path / "fgsm.safetensors").write_bytes(b"outside")
    evidence = copy / "cells" / first / "evidence.json"
    rewrite(evidence, lambda held: held["findings"]["fgsm"].update(scores="../../../fgsm.safetensors"))
    assert read_study(copy).evidence[0].attacks[0].file == copy / "cells" / first / "fgsm.safetensors"


def test_numbers_that_are_none_are_undefined(copy):
    evidence = copy / "cells" / read_study(copy).evidence[0].digest / "evidence.json"
    rewrite(evidence, lambda held: held["utility"][0].update(value=float("nan"), low="x"))
    measure = read_study(copy).evidence[0].utility[0]
    assert (measure.value, measure.low, measure.reason) == (None, None, "no value was written")
