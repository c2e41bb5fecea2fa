"""One schema, read in two ways; and what is written is read back as it was."""

import json
import math

import pytest

from consilium.core.finding import Measure
from consilium.evidence.cell import CellEvidence, CellName
from consilium.evidence.finding import FindingEvidence
from consilium.evidence.privacy import ClaimEvidence, PrivacyEvidence
from consilium.evidence.storage.read import SCHEMA, read_cell, read_round, read_study_record
from consilium.evidence.storage.write import plain

CELL = CellEvidence(
    schema=SCHEMA,
    status="ok",
    cell=CellName("d", "dp-sgd", {"privacy": "dp-sgd"}, 3, "none"),
    privacy=PrivacyEvidence(1.0, 1.0, 1e-5, "example", claims=(ClaimEvidence("a", "example", n=7, epsilon=1.0),)),
    utility=(Measure("accuracy", 0.5, 0.4, 0.6, 0.1, 20), Measure.undefined("auroc", "one class")),
    findings={"fgsm": FindingEvidence("fgsm", asked=("a",), seconds=1.0)},
    seconds={"training": 0, "evaluation": 0.5},
)


def test_what_is_written_is_read_back_in_both_ways():
    record = json.loads(json.dumps(plain(CELL)))
    assert read_cell(record) == read_cell(record, strict=True) == CELL
    assert json.dumps(plain(read_cell(record))) == json.dumps(record)


def test_what_is_marked_absent_is_not_written():
    finding = plain(CELL)["findings"]["fgsm"]
    assert "digest" not in finding and "audit" not in finding and finding["scores"] is None


def test_an_empty_record_has_every_default():
    assert read_cell({}) == CellEvidence() and read_cell({}).schema == 1
    assert read_study_record({}).data.bundled is False and read_round({}).cohort == ()


@pytest.mark.parametrize(
    ("change", "place"),
    [
        ({"notes": "x"}, "notes"),
        ({"utility": [{"value": 1}]}, "utility"),
        ({"utility": [{"name": "a", "value": "1"}]}, "utility"),
        ({"collapsed": 1}, "collapsed"),
        ({"seeds": ["0"]}, "seeds.0"),
        ({"findings": {"pgd": {"status": "ok"}}}, "findings.pgd"),
        ({"privacy": {"epsilon": "1"}}, "privacy.epsilon"),
        ({"seconds": {"training": "1"}}, "seconds"),
        ({"cell": {"seed": True}}, "cell.seed"),
    ],
)
def test_a_field_of_another_kind_is_empty_or_named(change, place):
    record = {**plain(CELL), **change}
    assert isinstance(read_cell(record), CellEvidence)
    with pytest.raises(ValueError, match=f"^{place}"):
        read_cell(record, strict=True)


def test_a_text_is_no_number_and_a_number_that_is_none_is_undefined():
    record = {"utility": [{"name": "accuracy", "value": "0.5", "n": 2.0}, {"name": "auroc", "value": math.nan}, 3]}
    first, second = read_cell(record).utility
    assert (first.value, first.n, first.reason) == (None, 2, "no value was written") and second.value is None


def test_later_fields_are_passed_over():
    assert read_cell({**plain(CELL), "later": {"a": 1}}, strict=True) == CELL


OLD = {"status": "ok", "error": None, "threat": {}, "measures": [], "notes": []}


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("place", ["findings", "set_aside"])
@pytest.mark.parametrize(
    ("name", "finding", "sees"),
    [
        ("check", {**OLD, "kind": "blind"}, False),
        ("blind", OLD, False),
        ("blind", {**OLD, "kind": "loss-threshold"}, True),
        ("lira", {**OLD, "kind": "lira"}, True),
        ("blind", {**OLD, "kind": "blind", "sees_model": True}, True),
        ("mine", {**OLD, "kind": "mine", "sees_model": False}, False),
    ],
)
def test_a_finding_of_an_older_version_says_what_its_attack_saw(strict, place, name, finding, sees):
    """From its kind, and from its name where the first versions named no kind; what is written counts."""
    record = {**plain(CELL), place: {name: finding}}
    assert getattr(read_cell(record, strict=strict), place)[name].sees_model is sees
    assert "sees_model" not in OLD and plain(read_cell(record))[place][name]["sees_model"] is sees


def test_what_is_no_finding_is_upgraded_to_none():
    record = {**plain(CELL), "findings": "x"}
    assert read_cell(record).findings == {}
    with pytest.raises(ValueError, match=r"^findings"):
        read_cell(record, strict=True)
    with pytest.raises(ValueError, match=r"^findings\.pgd"):
        read_cell({**record, "findings": {"pgd": "x"}}, strict=True)
