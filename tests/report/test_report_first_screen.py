"""The first screen has at most four sentences; the others are folded below, and none is lost."""

from html.parser import HTMLParser

import pytest

from consilium.report.analyse.effects import effects
from consilium.report.analyse.summary import rows
from consilium.report.answer.compose import answer
from consilium.report.answer.first_screen import first_screen
from consilium.report.answer.sentence import Sentence
from consilium.report.render.page import write_page

CHOICES = ("privacy", "compression", "robustness")


def topics(sentences):
    return [sentence.topic for sentence in sentences]


def test_the_quickstart_has_four_and_folds_the_rest(one_seed):
    every = answer(one_seed, rows(one_seed), effects(one_seed))
    shown, folded = first_screen(every)
    assert len(every) == 8 and topics(shown) == ["chance", "privacy", "compression", "membership"]
    assert topics(folded) == ["baseline", "robustness", "infected", "missing"]
    assert sorted([*shown, *folded], key=every.index) == list(every)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (("baseline", *CHOICES, "membership", "infected"), (*CHOICES, "membership")),
        (("baseline", "privacy", "membership", "audit", "missing"), ("baseline", "privacy", "membership", "audit")),
        (("baseline", "membership"), ("baseline", "membership")),
        (("baseline", "choices", "choices", "audit", "missing"), ("baseline", "choices", "choices", "audit")),
    ],
)  # fmt: skip
def test_what_is_asked_comes_before_the_rest(given, expected):
    shown, folded = first_screen([Sentence(topic, "") for topic in given])
    assert tuple(topics(shown)) == expected and len(shown) + len(folded) == len(given)


def test_a_warning_is_never_folded_away():
    broken = Sentence("audit", "1 of 2 audited claims broken", warning=True)
    shown, _ = first_screen([*(Sentence(topic, "") for topic in ("baseline", *CHOICES, "membership")), broken])
    assert shown[-1] is broken


class Screen(HTMLParser):
    """Counts the sentences outside and inside of the folded part of the answer."""

    def __init__(self):
        super().__init__()
        self.inside, self.folded, self.counts = False, False, {False: 0, True: 0}

    def handle_starttag(self, tag, attributes):
        self.inside |= tag == "section" and ("id", "answer") in attributes
        self.folded |= tag == "details" and ("id", "more-findings") in attributes
        self.counts[self.folded] += self.inside and tag == "dd"

    def handle_endtag(self, tag):
        self.inside &= tag != "section"
        self.folded &= tag != "details"


def test_the_page_shows_four(folder):
    screen = Screen()
    screen.feed(write_page(folder).read_text(encoding="utf-8"))
    assert screen.counts[False] == 4 and screen.counts[True] > 0
