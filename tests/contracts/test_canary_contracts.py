"""The contract of every attack that guesses an audit's canaries, and a broken one that must fail a clause."""

from dataclasses import dataclass, fields
from typing import ClassVar

import pytest
import torch
from scipy import stats
from torch import nn

from consilium.core.attack import Attack
from consilium.core.catalogue import cards, load_entry
from consilium.core.errors import Failed
from consilium.core.finding import Finding
from consilium.core.random import Stream, scoped
from consilium.core.records import Records
from consilium.core.threat import CanaryView, ThreatModel, View
from consilium.learn.tasks.single_label import SingleLabel
from consilium.measure.audit import one_run
from consilium.measure.ranking import auc

M, WIDTH = 120, 300


def view_of(seed=0, *, signal):
    """Noise under random labels; the model was fitted to the half that is in, or to other records."""
    g = torch.Generator().manual_seed(seed)
    x, y = torch.rand(M, WIDTH, generator=g), torch.randint(2, (M,), generator=g)
    included = torch.rand(M, generator=g) < 0.5
    other = torch.rand(M, WIDTH, generator=g)
    with scoped(Stream(seed)):
        start = nn.Linear(WIDTH, 2).eval()
    module = fitted(start, x[included] if signal else other[included], y[included])
    shown = start.requires_grad_(False), module.requires_grad_(False)
    return CanaryView(2, module, Records.of(x, y), *shown, task=SingleLabel()), included


def fitted(start, x, y):
    """Thirty steps of gradient descent from ``start``."""
    made = nn.Linear(WIDTH, 2)
    made.load_state_dict(start.state_dict())
    descent = torch.optim.SGD(made.parameters(), lr=0.1)
    for _ in range(30):
        descent.zero_grad()
        nn.functional.cross_entropy(made(x), y).backward()
        descent.step()
    made.zero_grad()
    return made.eval()


def scores(entry, view, seed=0):
    return entry(view, {}, torch.Generator().manual_seed(seed)).scores["score"]


def finds_a_planted_signal(card, entry, contract):
    view, included = view_of(signal=True)
    found = one_run(scores(entry, view), included, delta=0.0, confidence=0.95, shares=(0.5,))
    assert found.epsilon > 0.5, "it missed a model that knows its canaries by heart"


def finds_nothing_where_nothing_is(card, entry, contract):
    """Over 20 trainings without any canary it is above chance about as often as below."""
    areas = []
    for seed in contract.seeds:
        view, included = view_of(seed, signal=False)
        areas.append(auc(scores(entry, view, seed), included))
    assert stats.binomtest(sum(a > 0.5 for a in areas), len(areas), 0.5).pvalue > contract.level


def one_score_a_canary(card, entry, contract):
    view, _ = view_of(signal=True)
    found = scores(entry, view)
    assert found.shape == (M,) and found.isfinite().all()
    assert len(found.unique()) > M / 2, "scores that tie guess by position"


def same_seed_same_result(card, entry, contract):
    assert torch.equal(scores(entry, view_of(signal=True)[0]), scores(entry, view_of(signal=True)[0]))


def touches_nothing(card, entry, contract):
    view, _ = view_of(signal=True)
    with contract.untouched(view.module, view.start, view.canaries.x, view.canaries.y):
        scores(entry, view)


def claims_no_figures(card, entry, contract):
    """The figures need the coins, which it never sees."""
    assert not entry(view_of(signal=True)[0], {}, torch.Generator()).measures


def refuses_a_smaller_view(card, entry, contract):
    contract.refuses(lambda: scores(entry, View(2, task=SingleLabel())), entry.kind(), "CanaryView", "View")


def round_trips(card, entry, contract):
    contract.round_trips(entry)


def documented(card, entry, contract):
    contract.documented(card)
    assert entry.threat.aim == card.role


CHECKS = [
    finds_a_planted_signal,
    finds_nothing_where_nothing_is,
    one_score_a_canary,
    same_seed_same_result,
    touches_nothing,
    claims_no_figures,
    refuses_a_smaller_view,
    round_trips,
    documented,
]
CARDS = [card for card in cards("attack/membership") if load_entry(card).needs is CanaryView]


@pytest.mark.parametrize("check", CHECKS, ids=lambda c: c.__name__)
@pytest.mark.parametrize("card", CARDS, ids=lambda c: c.kind)
def test_every_guesser_of_canaries(card, check, contract):
    check(card, load_entry(card)(), contract)


def test_the_view_shows_no_coin():
    assert {f.name for f in fields(CanaryView)} == {"classes", "task", "answer", "canaries", "start", "module"}


@dataclass(frozen=True)
class Broken(Attack):
    """Guesses by position, at random, or meddles."""

    threat: ClassVar[ThreatModel] = ThreatModel("outsider", "inference", "black-box", "membership")
    needs: ClassVar[type[View]] = CanaryView
    flaw: str = ""

    def run(self, view, memory, generator):
        if self.flaw == "weights":
            view.module.weight.data += 1
        random = torch.rand(M) if self.flaw == "global" else torch.rand(M, generator=generator)
        log_p = torch.log_softmax(view.answer(view.canaries.x), 1).gather(1, view.canaries.y[:, None])[:, 0].detach()
        kinds = {"ties": torch.zeros(M), "idle": random, "few": torch.zeros(1), "global": random + log_p}
        return Finding((), {"score": kinds.get(self.flaw, log_p)})


@pytest.mark.parametrize(
    ("flaw", "check"),
    [
        ("idle", finds_a_planted_signal),
        ("ties", one_score_a_canary),
        ("few", one_score_a_canary),
        ("global", same_seed_same_result),
        ("weights", touches_nothing),
    ],
)
def test_a_broken_one_fails(flaw, check, contract):
    check(None, Broken(), contract)
    with pytest.raises((AssertionError, Failed)):
        check(None, Broken(flaw), contract)
