"""Sentences and numbers: what is claimed stands in full, and nothing more is promised."""

import re
from dataclasses import replace
from pathlib import Path

import pytest

from consilium.core.finding import Measure
from consilium.evidence.privacy import ClaimEvidence
from consilium.report.answer.wording import join_words
from consilium.report.load.numbers import interval, number, style_of
from consilium.report.render.claim_text import claim_sentence, privacy_statement, question, right_answer
from consilium.report.render.law_words import LAWS, linked_laws


def test_a_claim_is_one_sentence_with_all_its_parts(study):
    claim = study.arm_cells("dp-sgd", "none")[0].privacy.claims[0]
    assert claim_sentence(claim) == (
        "Site site-0: (ε = 7.4, δ = 1e−5)-differential privacy of one example, add-or-remove-one, against anyone who "
        "sees what leaves the site. Poisson sampling, n 190, expected batch 32, noise multiplier 0.81, steps 60; "
        "accountant PLD. Noise is replayable: the claim is of the method. It does not "
        "protect this model's records from whoever knows the noise seed, which is in the evidence and from which the "
        "noise can be recomputed."
    )


def test_what_a_claim_leaves_open_is_said_to_be_open():
    sentence = claim_sentence(ClaimEvidence(epsilon=1.0, noise="secret"))
    for part in (
        "δ = ?",
        "adjacency not stated",
        "an unnamed adversary",
        "Sampler not stated",
        "accountant not stated",
        "secret",
    ):
        assert part in sentence


def test_the_statement_says_that_the_folder_has_no_epsilon(study):
    said = " ".join(privacy_statement(study))
    assert "holds for one released model" in said and "no finite epsilon" in said
    assert "30 models" in said and said.startswith(
        "Do not release these models as private: their noise can be recomputed"
    )


def test_claims_alone_are_still_not_composed(study):
    claimed = replace(study, evidence=tuple(c for c in study.evidence if c.privacy.claims))
    said = " ".join(privacy_statement(claimed))
    assert "was not computed" in said and "no finite epsilon is claimed" in said


def test_without_a_claim_nothing_is_said_of_composition(study):
    bare = replace(study, evidence=tuple(c for c in study.evidence if not c.privacy.claims))
    (said,) = privacy_statement(bare)
    assert said.startswith("No model here claims differential privacy") and "together" not in said
    few = [c for c in study.evidence if c.privacy.claims and c.judged]
    one = next(c for c in study.evidence if not c.privacy.claims and c.judged)
    assert "1 of them claims no epsilon" in " ".join(privacy_statement(replace(study, evidence=(*few, one))))


def test_secret_noise_is_no_reason_not_to_release(study):
    cells = [
        replace(c, privacy=replace(c.privacy, claims=tuple(replace(x, noise="secret") for x in c.privacy.claims)))
        for c in study.evidence
    ]
    assert "Do not release" not in " ".join(privacy_statement(replace(study, evidence=tuple(cells))))


def test_what_counts_as_right_is_the_tasks(study):
    assert right_answer(study) == ""
    masks = replace(study, resolved={"data": {"task": {"kind": "masks", "threshold": 0.7}}})
    assert (
        right_answer(masks) == "Accuracy counts the records that are right as the task masks has it (threshold = 0.7)."
    )


def test_laws_are_links_with_their_words_and_other_text_is_escaped():
    assert linked_laws("<b> (LAWS 14)").startswith('&lt;b&gt; (<a href="#laws-14" data-tip="A claim is of one released')
    assert linked_laws("LAWS 99 & more") == "LAWS 99 &amp; more"
    written = (Path(__file__).parents[2] / "docs/explanation/laws.md").read_text(encoding="utf-8")
    assert {int(number) for number in re.findall(r"^\| (\d+) \|", written, re.M)} <= set(LAWS)


def test_the_question_names_the_axes_or_is_the_studys_own(study):
    assert question(study).startswith("What do privacy (dp-sgd), compression (static-int8 or prune) and robustness")
    assert "5 sites train one model (resnet9) on digits" in question(study)
    table = replace(study, data=replace(study.data, name="table"))
    assert question(table).endswith("when 5 sites train one model (resnet9) on their tables?")
    alone = replace(table, data=replace(table.data, sites=("a",)))
    assert question(alone).endswith("when one model (resnet9) is trained on tables?")
    assert question(replace(study, question="Why?")) == "Why?"
    assert "take from it" in question(replace(study, axes={}))


@pytest.mark.parametrize(
    ("value", "style", "text"),
    [
        (0.93149, "share", "0.931"), (-0.0312, "difference", "−0.031"), (None, "share", "–"), (12, "bytes", "12 B"),
        (25210, "bytes", "25.2 kB"), (9.8e6, "bytes", "9.8 MB"), (0.738, "ratio", "0.74×"), (7.804, "epsilon", "7.81"),
        (7.974642, "epsilon", "7.98"), (7.979, "audited", "7.97"),
        (1e-5, "epsilon", "1e−5"), (3.7e7, "epsilon", "3.7e7"), (4.75, "seconds", "4.8 s"), (312, "seconds", "5.2 min"),
        (7300, "seconds", "2.0 h"), (0.0001, "plain", "0.0001"), (0.25, "plain", "0.250"),
    ],
)  # fmt: skip
def test_numbers_read_well(value, style, text):
    assert number(value, style) == text


def test_intervals_units_and_lists():
    assert interval(0.1, 0.2) == "0.100 – 0.200" and interval(None, 0.2) == ""
    measures = [Measure(n, 1.0, unit=u) for n, u in (("bytes", "B"), ("t", "s"), ("latency_ratio", ""), ("x", ""))]
    assert [style_of(measure) for measure in measures] == ["bytes", "seconds", "ratio", "plain"]
    assert join_words(["a", "b", "c"]) == "a, b and c" and join_words(["a"]) == "a" and join_words([]) == ""
