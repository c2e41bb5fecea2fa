"""The glossary defines each term once, agrees with the report, and points at what is there."""

import re
from itertools import pairwise

import pytest

import glossary
import python_page
import rooms

TEXT = glossary.PAGE.read_text(encoding="utf-8")
KNOWN = python_page.definitions()


def test_the_report_s_terms_are_fresh():
    assert glossary.filled(TEXT) == TEXT, "run ./scripts/docs"
    assert "arm" in glossary.report_terms()


def contradictions(text, terms):
    """Terms that the page defines a second time, and those of its own that are out of order or stand twice."""
    own = [term.partition(" (")[0].lower() for term in glossary.defined(text)]
    twice = {term.partition(" (")[0].lower() for term in terms} & set(own)
    return sorted(twice) + [term for term, after in pairwise(own) if term >= after]


def test_each_term_is_defined_once_and_in_order():
    assert len(glossary.defined(TEXT)) > 30
    assert contradictions(TEXT, glossary.report_terms()) == []


@pytest.mark.parametrize("row", ["| arm | Another meaning. | x | `Arm` |", "| view | Again. | x | `View` |"])
def test_a_second_definition_is_found(row):
    assert contradictions(TEXT.replace("| view |", f"{row}\n| view |"), glossary.report_terms())


def test_a_changed_sentence_of_the_report_is_seen(monkeypatch):
    monkeypatch.setattr(glossary, "report_terms", lambda: {"arm": "Something else."})
    assert glossary.filled(TEXT) != TEXT


def test_what_a_term_is_in_the_code_is_there():
    table = [*glossary.rows(TEXT, "Words of the report"), *glossary.rows(TEXT, "Words of the rest")]
    names = {name for row in table if len(row) in (3, 4) for name in re.findall(r"`(\w+)`", row[-1])}
    assert len(names) > 30
    assert sorted(names - KNOWN.keys()) == []


def test_the_report_s_terms_that_are_explained_further_are_its_own():
    further = [row[0] for row in glossary.rows(glossary.BLOCK.sub("", TEXT), "Words of the report") if len(row) == 3]
    assert further and set(further) <= glossary.report_terms().keys()


def missing(row):
    """The modules or packages that a decision names and that are not there."""
    for path in re.findall(r"`([\w/]+)`", row[-1]):
        if not ((rooms.SOURCE / path).is_dir() or (rooms.SOURCE / f"{path}.py").is_file()):
            yield path


def test_decisions_name_what_carries_them():
    decisions = glossary.rows(TEXT, "Names that were decided")
    assert len(decisions) > 30
    assert [path for row in decisions for path in missing(row)] == []
    assert list(missing(["x", "renamed", "`study/nowhere`"])) == ["study/nowhere"]


def test_every_decision_is_one():
    for before, decision, _ in glossary.rows(TEXT, "Names that were decided"):
        assert re.match(r"renamed|kept|one room", decision), before
