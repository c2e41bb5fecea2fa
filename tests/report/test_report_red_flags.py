"""A red flag of a masking report stands in every table and map, on the model's page and on the first screen."""

import csv
import io
import re
from dataclasses import replace

import pytest
from rich.console import Console

from consilium.report.analyse.columns import columns
from consilium.report.analyse.effects import effects
from consilium.report.analyse.highlights import NOBODY, highlights
from consilium.report.analyse.robustness.red_flags import flagged_rows, flags_checked
from consilium.report.analyse.summary import flagged_at, rows
from consilium.report.answer.compose import answer
from consilium.report.answer.first_screen import first_screen
from consilium.report.load.read import read_study
from consilium.report.render.figures import pareto
from consilium.report.render.table import header, table_rows, terminal_table, write_csv

FLAG = "masking, black box: a search by 500 answers fools 9 of 90 <b>records</b> that gradients do not."
ARM = "adversarial-training"


@pytest.fixture(scope="module")
def record(flagged):
    return read_study(flagged)


@pytest.fixture(scope="module")
def page(flagged_page):
    return flagged_page


def test_a_flag_is_of_all_figures_under_attack_of_that_model_alone(record):
    by_key = {column.key: column for column in columns(record)}
    ((row, flags),) = flagged_rows(rows(record))
    assert (row.arm.name, row.infected_by, flags) == (ARM, "none", (f"pgd: {FLAG}",))
    for key in ("worst_case", "robust_accuracy:fgsm"):
        assert flagged_at(row, by_key[key]) == flags
    assert not flagged_at(row, by_key["accuracy"]) and not flagged_at(row, by_key["mia_advantage"])
    assert sum(bool(cell.red_flags) for cell in record.evidence) == 1


def test_what_is_proven_needs_no_attack(record):
    ((row, _),) = flagged_rows(rows(record))
    column = next(column for column in columns(record) if column.robustness)
    assert flagged_at(row, column) and not flagged_at(row, replace(column, proven=True))


def test_the_table_has_a_column_where_some_model_was_checked(record, one_seed, flagged):
    assert "red_flags" in header(record) and "red_flags" not in header(one_seed)
    assert flags_checked(record) and not flags_checked(one_seed)
    lines = {(row["arm"], row["infected_by"]): row for row in table_rows(record)}
    assert lines[ARM, "none"]["red_flags"] == f"pgd: {FLAG}" and lines[ARM, "adversarial-poisoning"]["red_flags"] == ""
    with write_csv(flagged).open(encoding="utf-8") as file:
        assert [r["arm"] for r in csv.DictReader(file) if r["red_flags"]] == [ARM]


def test_the_terminal_marks_it(flagged, one_seed):
    texts = []
    for folder in (flagged, one_seed.folder):
        console = Console(file=io.StringIO(), width=200)
        console.print(terminal_table(folder))
        texts.append(console.file.getvalue())
    assert texts[0].count("red flag") == 1 and "Red flag: a check" in texts[0] and "red flag" not in texts[1].lower()


def test_the_matrix_and_the_heat_map_mark_it_with_a_legend(page, record):
    at = re.findall(r'<td data-column="([^"]+)"(?:(?!</td>).)*?⚑ red flag(?:(?!</td>).)*</td>', page, re.S)
    assert sorted(at) == sorted(column.key for column in columns(record) if column.robustness)
    assert page.count("⚑ red flag</span></td>") == 4 and "a check of the attacks failed on this model" in page
    assert re.search(r'<td data-column="worst_case"[^>]* data-unranked[^>]*Red flag, pgd: masking, black box', page)


def test_the_models_page_says_it_and_text_is_escaped(page):
    templates = re.findall(r'<template id="cell-.*?</template>', page, re.S)
    (one,) = [text for text in templates if "⚑ Red flag" in text]
    assert "are no evidence of robustness" in one and "&lt;b&gt;records&lt;/b&gt;" in one and "<b>records" not in page


def test_the_first_screen_warns_of_it(record, one_seed):
    shown, _ = first_screen(answer(record, rows(record), effects(record)))
    (sentence,) = [sentence for sentence in shown if sentence.topic == "red flags"]
    assert sentence.warning and sentence.text.startswith(f"1 of 16 models has a red flag: B ({ARM}). Its accuracies")
    assert all(s.topic != "red flags" for s in answer(one_seed, rows(one_seed), effects(one_seed)))


def without_rivals(study):
    """The arm, and those without adversarial training."""
    names = [arm.name for arm in study.arms if arm.name == ARM or ARM not in arm.name]
    return replace(
        study,
        arms=tuple(arm for arm in study.arms if arm.name in names),
        evidence=tuple(cell for cell in study.evidence if cell.arm in names),
    )


def test_a_flagged_arm_is_not_crowned_and_not_on_the_front(record, one_seed):
    cards = [
        {card.title: card for card in highlights(study, rows(study))}["Withstands most"]
        for study in map(without_rivals, (one_seed, record))
    ]
    assert cards[0].crowned and cards[0].arm == cards[1].arm == ARM
    assert not cards[1].crowned and cards[1].figure == NOBODY and "has a red flag" in cards[1].text
    points = {(p["arm"], p["infected_by"]): p for p in pareto(record, rows(record))["points"]}
    assert points[ARM, "none"]["figures"]["worst_case"]["upper"]
    assert not points["none", "none"]["figures"]["worst_case"]["upper"]
