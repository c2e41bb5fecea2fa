"""The contract of every membership attack that looks at a trained model, and a broken one that must fail each clause.

Those that watch the training have a suite of their own.
"""

import itertools
from dataclasses import dataclass, replace
from typing import ClassVar

import pytest
import torch
from scipy import stats
from torch import nn

from consilium.core.attack import Attack
from consilium.core.catalogue import Card, cards, load_entry
from consilium.core.errors import Failed
from consilium.core.finding import Finding
from consilium.core.random import Stream
from consilium.core.records import Records
from consilium.core.round_observer import RoundObserver
from consilium.core.threat import CanaryView, QueryView, RecordsView, RetrainView, Shadow, ThreatModel, View
from consilium.learn.tasks.single_label import SingleLabel
from consilium.measure.membership import membership

ROOM = "attack/membership"
N, WIDTH = 200, 150


class Memory(nn.Module):
    """A linear model with ``WIDTH`` weights; ``fit`` makes it interpolate its training labels."""

    def __init__(self, fitted=None):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(WIDTH) if fitted is None else fitted)

    @classmethod
    def fit(cls, x, y):
        return cls(torch.linalg.pinv(x - 0.5) @ (2.0 * y - 1))

    def forward(self, x):
        score = 4 * (x - 0.5) @ self.weight
        return torch.stack([-score, score], 1)


def view_of(entry, seed=0, *, signal):
    """Random images under random labels.  The model knows the members' by heart, or it knows none of them.

    Shadows learn from candidates as the model did.  Where there is no model, members are a little brighter, or not.
    """
    g = torch.Generator().manual_seed(seed)
    x, y = torch.rand(N, WIDTH, generator=g), torch.randint(2, (N,), generator=g)
    member, known = torch.randperm(N, generator=g) < N // 2, torch.randperm(N, generator=g) < N // 2
    other = torch.rand(N, WIDTH, generator=g)
    if entry.needs is RecordsView:
        return RecordsView(
            2, Records.of(0.9 * x + 0.1 * (signal * member)[:, None], y), member, known, task=SingleLabel()
        )
    module = Memory.fit(x[member], y[member]) if signal else Memory.fit(other[:100], y[:100])
    seen = (2, Counting(module.eval()), Records.of(x, y), member, known)
    return (
        QueryView(*seen, task=SingleLabel())
        if entry.needs is not RetrainView
        else RetrainView(*seen, **pool(seen[2], Stream(seed)), task=SingleLabel())
    )


def pool(records, stream):
    """All candidates, at one site which trains on half of them."""

    def retrain(included, seeds):
        return [shadow(records, mask) for mask in included]

    places, sizes = torch.arange(len(records)), torch.tensor([len(records) // 2])
    return {
        "pool": records,
        "site": torch.zeros_like(places),
        "sizes": sizes,
        "at": places,
        "retrain": retrain,
        "stream": stream,
    }


def shadow(records, mask):
    module = Memory.fit(records.x[mask], records.y[mask]).eval()
    return Shadow(2, module, module, records, included=mask, task=SingleLabel())


class Counting:
    """Answers, and counts what it is asked behind the view's back."""

    def __init__(self, module):
        self.module, self.rows = module, 0

    def __call__(self, x):
        self.rows += len(x)
        return self.module(x)


def run(entry, view, seed=0):
    return entry(view, {}, torch.Generator().manual_seed(seed))


def same_seed_same_result(card, entry, contract):
    contract.same(run(entry, view_of(entry, signal=True), 3), run(entry, view_of(entry, signal=True), 3))


def touches_nothing(card, entry, contract):
    view = view_of(entry, signal=True)
    model = [view.answer.module] if isinstance(view, QueryView) else []
    with contract.untouched(*model, view.candidates.x, view.candidates.y, view.member, view.known):
        run(entry, view)


def finds_a_planted_signal(card, entry, contract):
    finding = run(entry, view_of(entry, signal=True))
    assert finding["auc"].low > 0.6 and finding["advantage"].low > 0.1, (
        "it missed a model that knows its records by heart"
    )


def finds_nothing_in_a_random_split(card, entry, contract):
    """Over 20 splits it is above chance about as often as below, and few intervals exclude chance."""
    findings = [run(entry, view_of(entry, seed, signal=False), seed) for seed in contract.seeds]
    for name, chance in (("auc", 0.5), ("advantage", 0.0)):
        measures = [finding[name] for finding in findings]
        decided = [m.value > chance for m in measures if m.value != chance]
        if decided:
            assert stats.binomtest(sum(decided), len(decided), 0.5).pvalue > contract.level, f"{name} leans to one side"
        excluded = sum(not m.low <= chance <= m.high for m in measures)
        assert stats.binomtest(excluded, len(measures), 0.05, "greater").pvalue > contract.level, (
            f"{name} sees a signal"
        )


def never_looks_at_the_truth(card, entry, contract):
    """Turn round the truth of the judged half: what the attack says of those records must not change."""
    view = view_of(entry, signal=True)
    lied = replace(view, member=torch.where(view.known, view.member, ~view.member))
    honest, fooled = run(entry, view, 1), run(entry, lied, 1)
    assert torch.equal(honest.scores["score"], fooled.scores["score"])


def honours_its_budget(card, entry, contract):
    """Every answer it uses is asked for through the view, and so counted; a knob ``queries`` bounds them per record."""
    view = view_of(entry, signal=True)
    run(entry, view)
    if entry.needs is RecordsView:
        return  # there is nothing that it could ask
    assert view.queries[0] == view.answer.rows > 0
    assert view.queries[0] <= N * getattr(entry, "queries", 1_000_000)


def refuses_a_smaller_view(card, entry, contract):
    contract.refuses(lambda: run(entry, View(2, task=SingleLabel())), entry.kind(), entry.needs.__name__, "View")


def states_its_chance(card, entry, contract):
    finding = run(entry, view_of(entry, signal=True))
    assert (finding["advantage"].chance, finding["auc"].chance) == (0, 0.5)
    assert all(m.value is None or (m.n and m.low <= m.value <= m.high) for m in finding.measures)
    assert "not resolvable" in finding["tpr_at_fpr_1"].reason  # LAWS 18: there are 50 judged non-members or so


def round_trips(card, entry, contract):
    contract.round_trips(entry)


def documented(card, entry, contract):
    contract.documented(card)
    assert entry.threat.aim == card.role


CHECKS = [
    same_seed_same_result,
    touches_nothing,
    finds_a_planted_signal,
    finds_nothing_in_a_random_split,
    never_looks_at_the_truth,
    honours_its_budget,
    refuses_a_smaller_view,
    states_its_chance,
    round_trips,
    documented,
]


@pytest.mark.parametrize("check", CHECKS, ids=lambda c: c.__name__)
@pytest.mark.parametrize(
    "card",
    [c for c in cards(ROOM) if not issubclass(load_entry(c), RoundObserver) and load_entry(c).needs is not CanaryView],
    ids=lambda c: c.kind,
)
def test_every_membership_attack(card, check, contract):
    check(card, load_entry(card)(), contract)


CALLS = itertools.count()


@dataclass(frozen=True)
class Broken(Attack):
    """Loss-threshold, broken in one place at a time."""

    threat: ClassVar[ThreatModel] = ThreatModel("outsider", "inference", "black-box", "membership")
    flaw: str = ""

    @property
    def needs(self) -> type[View]:
        return View if self.flaw == "view" else QueryView

    def run(self, view, memory, generator):
        if self.flaw == "view":
            return Finding(())
        self._meddle(view)
        answer = view.answer if self.flaw == "uncounted" else view.ask
        log_p = torch.log_softmax(answer(view.candidates.x).detach(), 1)
        score = log_p.gather(1, view.candidates.y[:, None])[:, 0].double()
        if self.flaw == "peeks":
            score = score + 0.5 * view.member
        if self.flaw == "idle":
            score = torch.rand(N, generator=generator).double()
        if self.flaw == "counts":
            score = score * (1 + next(CALLS))
        # Learning the threshold where it is judged can only flatter.
        known = view.known
        if self.flaw == "tunes":
            judged = ~known
            score, member = score[judged].repeat(2), view.member[judged].repeat(2)
            known = torch.arange(len(score)) < len(score) // 2
            return Finding(membership(score, member, Stream(0), known=known), {"score": score})
        measures = membership(score, view.member, Stream(0), known=known)
        if self.flaw == "chance":
            measures = tuple(replace(m, chance=None) for m in measures)
        return Finding(measures, {"score": score})

    def _meddle(self, view):
        if self.flaw == "global":
            torch.rand(1)
        if self.flaw == "weights":
            view.answer.module.weight.data += 1
        if self.flaw == "grad":
            view.answer.module(view.candidates.x).sum().backward()
        if self.flaw == "records":
            view.candidates.x[0] += 1

    def configuration(self):
        return {**super().configuration(), "flaw": ""} if self.flaw == "configuration" else super().configuration()


CARD = Card("broken", ROOM, "membership", "Breaks one clause.", "This file.", {}, __name__, "Broken")
FLAWS = [
    (same_seed_same_result, "counts"),
    (touches_nothing, "global"),
    (touches_nothing, "weights"),
    (touches_nothing, "grad"),
    (touches_nothing, "records"),
    (finds_a_planted_signal, "idle"),
    (finds_nothing_in_a_random_split, "peeks"),
    (finds_nothing_in_a_random_split, "tunes"),
    (never_looks_at_the_truth, "peeks"),
    (honours_its_budget, "uncounted"),
    (refuses_a_smaller_view, "view"),
    (states_its_chance, "chance"),
    (round_trips, "configuration"),
]


@pytest.mark.parametrize(("check", "flaw"), FLAWS, ids=lambda v: getattr(v, "__name__", v))
def test_a_broken_attack_fails(check, flaw, contract):
    with pytest.raises((AssertionError, Failed)):
        check(CARD, Broken(flaw=flaw), contract)


@pytest.mark.parametrize("change", [{"doc": ""}, {"source": ""}, {"role": "evasion"}], ids=str)
def test_an_undocumented_attack_fails(change, contract):
    with pytest.raises((AssertionError, Failed)):
        documented(replace(CARD, **change), Broken(), contract)


@pytest.mark.parametrize("check", CHECKS, ids=lambda c: c.__name__)
def test_the_same_attack_unbroken_passes(check, contract):
    """So it is the flaw that fails, and every clause has one."""
    check(CARD, Broken(), contract)
    assert check in {c for c, _ in FLAWS} | {documented}
