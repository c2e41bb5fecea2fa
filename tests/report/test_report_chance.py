"""Leakage counts above chance: an attack that is wrong more often than a coin makes no model better than another."""

import json
import re
from dataclasses import asdict, replace

import pytest
import torch
from safetensors.torch import load_file, save_file

from consilium.core.random import Stream
from consilium.measure.membership import membership
from consilium.report.analyse.columns import columns
from consilium.report.analyse.compare import Gap, _above_chance, gap
from consilium.report.analyse.effects import Change, effects
from consilium.report.analyse.highlights import highlights
from consilium.report.analyse.outcomes import Outcomes
from consilium.report.analyse.roc import threshold_rates
from consilium.report.analyse.summary import inverted, rows
from consilium.report.answer.compose import answer
from consilium.report.load.read import read_study
from consilium.report.render.heatmap import heat_groups
from consilium.report.render.page import write_page

RATES = {"none": (0.60, 0.20), "dp-sgd": (0.40, 0.62), "static-int8": (0.48, 0.52)}
"""True and false positive rates that are planted, by arm; the others are at chance."""
N = 400


def plant(cell, told, mistaken):
    """Scores of the judged half with these rates at the threshold that the known half gives, and their figures."""
    member, known = torch.arange(2 * N) % 2 == 0, torch.arange(2 * N) < N
    score = member.double()
    for truth, rate in ((True, told), (False, mistaken)):
        places = torch.nonzero(~known & (member == truth))[:, 0]
        score[places] = (torch.arange(len(places)) < round(rate * len(places))).double()
    tensors = {"score": score, "member": member, "known": known, "id": torch.arange(2 * N), "unit": torch.arange(2 * N)}
    save_file(tensors, cell.parent / "loss-threshold.safetensors")
    record = json.loads(cell.read_text())
    measures = [asdict(m) for m in membership(score, member, Stream(0), known=known)]
    record["findings"]["loss-threshold"]["measures"] = measures
    cell.write_text(json.dumps(record))


@pytest.fixture(scope="module")
def planted(write_study, tmp_path_factory):
    folder = write_study(tmp_path_factory.mktemp("chance"), seeds=(0,), trouble=False)
    for path in folder.glob("cells/*/evidence.json"):
        plant(path, *RATES.get(json.loads(path.read_text())["cell"]["arm"], (0.5, 0.5)))
    return read_study(folder)


def advantage(study):
    return next(c for c in columns(study) if c.key == "mia_advantage")


def effect(study, label):
    return next(e.changes["mia_advantage"] for e in effects(study) if e.label == label)


def test_the_planted_figures_are_there(planted):
    figures = {row.arm.name: row.figures["mia_advantage"] for row in rows(planted) if row.infected_by == "none"}
    assert {name: figures[name].value for name in RATES} == pytest.approx(
        {"none": 0.4, "dp-sgd": -0.22, "static-int8": -0.04}
    )
    assert [name for name, figure in figures.items() if inverted(figure, advantage(planted))] == ["dp-sgd"]


def test_below_chance_is_no_better_than_chance(planted):
    """-0.22 against -0.04: a paired interval of the two lies below 0, and neither leaks."""
    column, outcomes = advantage(planted), Outcomes()
    (low,), (level,), (leaking,) = (planted.arm_cells(arm, "none") for arm in ("dp-sgd", "static-int8", "none"))
    raw = gap([((1, low), (-1, level))], replace(column, chance=None), outcomes)
    assert raw.sign == -1, "without the rule the lower figure would win"
    assert gap([((1, low), (-1, level))], column, outcomes).sign == 0
    assert gap([((1, low), (-1, leaking))], column, outcomes).sign == -1
    assert gap([((1, leaking), (-1, level))], column, outcomes).sign == 1


def test_the_card_crowns_nobody_for_an_attack_that_failed_more(planted):
    card = {c.title: c for c in highlights(planted, rows(planted))}["Leaks least"]
    codes = {row.arm.name: row.code for row in rows(planted)}
    assert not card.crowned and codes["none"] not in [code for code, _ in card.alike]
    assert "At chance or below: " in card.text and "Lowest" not in card.text and "0.22" not in card.text
    three = replace(planted, evidence=tuple(c for c in planted.evidence if c.arm in RATES))
    assert len({c.title: c for c in highlights(three, rows(three))}["Leaks least"].alike) == 2


def test_an_effect_on_leakage_ends_at_chance(planted):
    column, change = advantage(planted), effect(planted, "dp-sgd")
    assert change.low == pytest.approx(-0.4) and change.high == 0.0  # 0.4 -> -0.22, and no arm gets below chance
    assert change.way(column) != "gain"  # the other pairs had nothing to lose
    alone = replace(planted, evidence=tuple(c for c in planted.evidence if c.arm in ("none", "dp-sgd")))
    assert effect(alone, "dp-sgd").way(column) == "gain"


@pytest.mark.parametrize(
    ("raw", "after", "before", "limits"),
    [
        ((-0.3, -0.1), (0.0, 0.0), (0.1, 0.3), (-0.3, -0.1)),  # 0.2 above chance and then at chance
        ((-0.5, -0.3), (0.0, 0.0), (0.1, 0.3), (-0.3, -0.1)),  # it cannot lose more than it leaked
        ((-0.3, -0.1), (0.0, 0.0), (0.0, 0.1), (-0.1, 0.0)),  # nothing above chance to lose
        ((0.1, 0.3), (0.05, 0.2), (0.0, 0.0), (0.05, 0.2)),
        ((-0.1, 0.1), (0.0, 0.3), (0.0, 0.3), (-0.1, 0.1)),
    ],
)
def test_limits_above_chance_by_hand(raw, after, before, limits):
    made = _above_chance(raw, after, before)
    assert (made.low, made.high) == pytest.approx(limits)


def test_the_limits_hold_what_they_are_of():
    """Whatever a and b lie inside their limits, max(0, a) - max(0, b) lies inside."""
    g = torch.Generator().manual_seed(0)
    for _ in range(2000):
        a, b, *half = (torch.rand(5, generator=g) - torch.tensor([0.5, 0.5, 0.0, 0.0, 0.0])).tolist()
        own = [(max(0.0, v - h), max(0.0, v + h)) for v, h in zip((a, b), half[:2], strict=True)]
        made = _above_chance((a - b - half[2], a - b + half[2]), own[0], own[1])
        assert made.low - 1e-12 <= max(0.0, a) - max(0.0, b) <= made.high + 1e-12


def test_one_pair_without_change_is_no_direction(planted):
    """Every pair must lie on the side that the interval says: 0 does not."""
    accuracy = next(c for c in columns(planted) if c.key == "accuracy")
    sure = Gap(0.01, 0.05)
    assert Change(0.0175, 0.0, 0.035, 2, False, sure).way(accuracy) == "mixed"
    assert Change(0.0175, 0.001, 0.035, 2, False, sure).way(accuracy) == "gain"
    assert Change(-0.02, -0.04, 0.0, 2, False, Gap(-0.05, -0.01)).way(accuracy) == "mixed"


def test_the_page_says_what_lies_below_chance_and_how_both_figures_can_be_true(planted):
    page = write_page(planted.folder).read_text(encoding="utf-8")
    assert "lies wholly below chance (0.000)" in page and "this is leakage too" in page
    assert page.count('data-rank="0.0"') >= 2 and '<span class="i">below chance</span>' in page
    assert "60.0% of members (true positive rate) and 20.0% of non-members (false positive rate)" in page
    assert "(logarithmic)" in page and re.search(r"Both axes are logarithmic and begin at [\d.]+ %", page)
    (finding,) = planted.arm_cells("none", "none")[0].aimed("membership")
    assert threshold_rates(finding) == pytest.approx((0.6, 0.2))
    other = replace(
        finding, measures=tuple(replace(m, value=0.3) if m.name == "advantage" else m for m in finding.measures)
    )
    assert threshold_rates(other) is None, "rates that do not give the figure are not shown"


def test_an_infection_that_helps_is_explained_by_its_own_entry(write_study, tmp_path):
    """Not by the report: it knows no kind by name."""
    folder = write_study(tmp_path, seeds=(0,), trouble=False)
    record = json.loads((folder / "study.json").read_text())
    label = next(c["infected_by"] for c in record["cells"] if c["infected_by"] != "none")
    for path in folder.glob("cells/*/evidence.json"):
        evidence = json.loads(path.read_text())
        if evidence["cell"]["infected_by"] != "none":
            held = load_file(path.parent / "scores.safetensors")
            save_file({**held, "correct": torch.ones_like(held["correct"])}, path.parent / "scores.safetensors")
            for measure in evidence["utility"]:
                measure["value"] = 1.0 if "accuracy" in measure["name"] else measure["value"]
            path.write_text(json.dumps(evidence))
    assert "adversarial training by accident" not in write_page(folder).read_text(encoding="utf-8")
    record["resolved"]["corruptions"] = {label: {"kind": "adversarial-poisoning"}}
    (folder / "study.json").write_text(json.dumps(record))
    said = write_page(folder).read_text(encoding="utf-8")
    assert f"{label}: A corrupted site that teaches" in said and "adversarial training by accident" in said
    record["resolved"]["corruptions"] = {label: {"kind": "label-flip"}}
    (folder / "study.json").write_text(json.dumps(record))
    assert "adversarial training by accident" not in write_page(folder).read_text(encoding="utf-8")


def test_no_measurable_harm_names_no_arm(planted):
    clean = {c.arm: c for c in planted.evidence if c.infected_by == "none"}
    twins = tuple(replace(c, utility=clean[c.arm].utility, file=clean[c.arm].file) for c in planted.evidence)
    card = {c.title: c for c in highlights(planted, rows(replace(planted, evidence=twins)))}["Infection hurts most"]
    assert (card.figure, card.code, card.arm, card.alike, card.crowned) == ("no measurable harm", "", "", (), False)
    assert "no arm answers worse than its twin" in card.text


def test_wholly_below_chance_is_a_signal_in_every_place(planted):
    """In the sentence, the heat map and the card, and the effects say that they do not count it."""
    every = rows(planted)
    row = next(r for r in every if r.arm.name == "dp-sgd" and r.infected_by == "none")
    text = next(one.text for one in answer(planted, every, effects(planted)) if one.topic == "membership")
    assert f"In 1 of 8 clean arms, {row.code} (dp-sgd), a figure lies wholly below chance" in text
    (group,) = [group for group in heat_groups(planted, every) if group.aim == "membership"]
    tiles = {r.arm.name: group.cells[i][0].tile for i, r in enumerate(every) if r.infected_by == "none"}
    assert tiles["dp-sgd"].background and "Wholly below chance" in tiles["dp-sgd"].title
    assert not tiles["static-int8"].background, "-0.04 is chance"
    card = {c.title: c for c in highlights(planted, every)}["Leaks least"]
    chance, _, turned = card.text.partition("Wholly below chance, a signal once inverted, counted as chance here: ")
    assert turned.startswith(f"{row.code}.") and row.code not in re.findall(
        r"\b[A-H]\b", chance.partition("below: ")[2]
    )
    assert "a signal only once inverted is in no effect" in write_page(planted.folder).read_text(encoding="utf-8")


def test_an_inverted_arm_is_not_crowned_as_leaking_least(planted):
    two = replace(planted, evidence=tuple(c for c in planted.evidence if c.arm in ("none", "dp-sgd")))
    card = {c.title: c for c in highlights(two, rows(two))}["Leaks least"]
    assert not card.crowned and "leaks to whoever inverts" in card.text
