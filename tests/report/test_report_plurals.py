"""Nothing that people read says "1 attacks": of a study with one of everything, each count is singular."""

import re
from io import StringIO

import pytest
from rich.console import Console

from consilium.report.render.page import write_page
from consilium.report.render.table import terminal_table
from consilium.study.progress.outcome import Outcome
from consilium.study.run.plan_table import plan_lines

WRONG = re.compile(
    r"(?<!\.)\b1 (?:(?!of\b)\w+ )?(arms|audits|attacks|cells|claims|classes|lines|models|pairs|records|rounds|seeds"
    r"|shadows|sites|thresholds|trainings|values)\b"
)


def plurals(text):
    """Counts of one whose noun is in the plural."""
    inline = re.sub(r"</?(?:b|code|i|s|span)\b[^>]*>", "", text)
    return [match[0] for match in WRONG.finditer(" ".join(re.sub(r"<[^>]+>", " | ", inline).split()))]


def one_of_everything():
    counts = ("trainings", "trainings_to_do", "shadows", "shadows_to_do", "models", "cells", "attacks_per_cell")
    summary = dict.fromkeys((*counts, "workers", "expected_seconds"), 1)
    return {**summary, "omitted": [], "notes": [], "accept": ["accuracy above 0.9"]}


def test_a_plan_counts_one():
    lines = "\n".join(plan_lines(one_of_everything()))
    assert "1 of 1 training to do" in lines and "1 attack on each" in lines and "1 threshold to be" in lines
    assert plurals(lines) == []


def test_a_run_counts_one():
    assert plurals(Outcome(trained=1, attacks_run=1, reused=1, attacks_reused=1).line()) == []


@pytest.fixture
def small(write_study, tmp_path):
    return write_study(tmp_path, seeds=(0,), trouble=False)


def test_page_and_terminal_count_one(small):
    text = StringIO()
    Console(file=text, width=200).print(terminal_table(small))
    page = write_page(small).read_text(encoding="utf-8")
    assert plurals(text.getvalue()) == [] and plurals(page[: page.index("<script")]) == []


def test_a_plural_of_one_is_seen():
    assert plurals("<b>1</b> attacks, 1 clean arms, 11 sites, 1 site, 1.1 points") == ["1 attacks", "1 clean arms"]
