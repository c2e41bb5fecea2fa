"""The contract of every evasion attack in the catalogue, and a broken one that must fail each clause."""

import itertools
from dataclasses import dataclass, replace

import pytest
import torch
from torch import nn

from consilium.attack.evasion._evasion import Evasion
from consilium.core.catalogue import Card, cards, load_entry
from consilium.core.errors import Failed
from consilium.core.finding import Finding
from consilium.core.records import Records
from consilium.core.threat import ModelView, ThreatModel, View
from consilium.learn.perturbation.balls import ball_of, size_of
from consilium.learn.perturbation.goals import Misclassification
from consilium.learn.perturbation.losses import CrossEntropyLoss
from consilium.learn.perturbation.maximise import maximise
from consilium.learn.tasks.single_label import SingleLabel

ROOM = "attack/evasion"
SIGNS = torch.tensor([1.0, -1.0, 1.0, -1.0])


class Linear(nn.Module):
    """Two logits, linear in the image; ``scale`` 0 makes it a constant."""

    def __init__(self, scale):
        super().__init__()
        self.weight = nn.Parameter(scale * SIGNS)
        self.register_buffer("bias", torch.tensor([0.0, 0.0 if scale else 1.0]))

    def forward(self, x):
        score = (x.flatten(1) - 0.5) @ self.weight
        return torch.stack([-score, score], 1) + self.bias


def view_of(scale, seed=0):
    """40 images of 2 x 2 pixels; with a scale above 0 all lie .003 per pixel on the right side of the boundary."""
    g = torch.Generator().manual_seed(seed)
    y = torch.randint(2, (40,), generator=g)
    x = 0.5 + 0.003 * (2 * y[:, None] - 1) * SIGNS
    targets = Records.of(x.view(40, 1, 2, 2), y)
    fragile = Linear(50.0).eval()
    source = ModelView(2, fragile, fragile, targets, task=SingleLabel())
    module = Linear(scale).eval()
    public = Records.of(x.view(40, 1, 2, 2).flip(0), y.flip(0))
    return ModelView(2, module, module, targets, source, task=SingleLabel(), public=public)


def run(entry, view, seed=0):
    return entry(view, {}, torch.Generator().manual_seed(seed))


def same_seed_same_result(card, entry, contract):
    view = view_of(50.0)
    contract.same(run(entry, view, 3), run(entry, view, 3))


def touches_nothing(card, entry, contract):
    view = view_of(50.0)
    with contract.untouched(view.module, view.source.module, view.targets.x, view.targets.y):
        run(entry, view)


def planted(entry):
    """Records that a fragile linear model loses; of one class where an attack moves those of both the same way."""
    view = view_of(50.0)
    one_for_all = getattr(entry, "one_for_all", False)
    return replace(view, targets=view.targets.select(view.targets.y == 1)) if one_for_all else view


def finds_a_planted_signal(card, entry, contract):
    finding = run(entry, planted(entry))
    assert finding.scores["correct_before"].all()
    assert finding["robust_accuracy"].value <= 0.1, "a fragile linear model withstood it"
    assert finding["success_rate"].low > 0.5


def finds_nothing_on_a_constant_model(card, entry, contract):
    for seed in contract.seeds[:3]:  # what is compared is exact: no seed may fail, so twenty show no more than three
        finding = run(entry, view_of(0.0, seed), seed)
        clean = (view_of(0.0, seed).targets.y == 1).double().mean().item()
        figure = finding["robust_accuracy"]
        blind = figure.value is None and "gradient that the attack follows is exactly zero" in figure.reason
        assert blind or figure.value == pytest.approx(clean)
        assert torch.equal(finding.scores["correct"], finding.scores["correct_before"])


def honours_its_budget(card, entry, contract):
    """Everything it crafts, from inputs at the edge of [0, 1] as well."""
    for view in (view_of(50.0), view_of(0.0)):
        x = torch.cat([view.targets.x[:20], torch.zeros(10, 1, 2, 2), torch.ones(10, 1, 2, 2)])
        crafted = entry.craft(view, x, view.targets.y, torch.Generator().manual_seed(0))
        assert crafted.shape == x.shape and crafted.isfinite().all()
        assert crafted.min() >= 0 and crafted.max() <= 1
        assert size_of(crafted - x, entry.norm).max() <= entry.radius + 1e-5


def judges_the_whole_test_set(card, entry, contract):
    finding = run(entry, view_of(50.0))
    assert finding["robust_accuracy"].n == len(finding.scores["correct"]) == 40
    assert all(m.n and (m.value is None or m.low <= m.value <= m.high) for m in finding.measures)


def refuses_a_smaller_view(card, entry, contract):
    contract.refuses(lambda: run(entry, View(2, task=SingleLabel())), entry.kind(), entry.needs.__name__, "View")


def keeps_the_checks_of_its_base(card, entry, contract):
    """Checks of its own come on top of those of the goal, which are in the base's ``__post_init__``."""
    contract.refuses(lambda: replace(entry, goal="fame"), "cannot pursue the goal 'fame'")


def round_trips(card, entry, contract):
    contract.round_trips(entry)


def documented(card, entry, contract):
    contract.documented(card)
    assert entry.threat.aim == card.role and entry.threat.moment == "inference"


CHECKS = [
    same_seed_same_result,
    touches_nothing,
    finds_a_planted_signal,
    finds_nothing_on_a_constant_model,
    honours_its_budget,
    judges_the_whole_test_set,
    refuses_a_smaller_view,
    keeps_the_checks_of_its_base,
    round_trips,
    documented,
]


@pytest.mark.parametrize("check", CHECKS, ids=lambda c: c.__name__)
@pytest.mark.parametrize("card", cards(ROOM), ids=lambda c: c.kind)
def test_every_evasion_attack(card, check, contract):
    check(card, load_entry(card)(), contract)


CALLS = itertools.count()


@dataclass(frozen=True)
class Broken(Evasion):
    """One gradient step, broken in one place at a time."""

    radius: float = 0.03
    norm: str = "linf"
    flaw: str = ""

    def __post_init__(self):
        if self.flaw != "base":
            super().__post_init__()

    @property
    def threat(self) -> ThreatModel:
        return ThreatModel("receiver", "inference", "white-box", "membership" if self.flaw == "aim" else "evasion")

    @property
    def needs(self) -> type[View]:
        return View if self.flaw == "view" else ModelView

    def craft(self, view, x, y, generator):
        self._meddle(view)
        if self.flaw == "idle" or (self.flaw == "counts" and next(CALLS) % 2):
            return x
        reach = 2 * self.radius if self.flaw == "budget" else self.radius
        out = maximise(
            view.surrogate, x, y, ball=ball_of("linf", reach), steps=1, step_size=reach, random_start=False,
            generator=generator, loss=CrossEntropyLoss(), goal=Misclassification(SingleLabel()),
        )  # fmt: skip
        return out - 0.02 if self.flaw == "cube" else out

    def _meddle(self, view):
        if self.flaw == "global":
            torch.rand(1)
        if self.flaw == "weights":
            view.module.weight.data += 1
        if self.flaw == "grad":
            view.module(view.targets.x).sum().backward()
        if self.flaw == "mode":
            view.module.train()
        if self.flaw == "records":
            view.targets.x[0] += 1e-6

    def run(self, view, memory, generator):
        if self.flaw == "view":
            return Finding(())
        if self.flaw == "first batch":
            view = replace(view, targets=view.targets.select(torch.arange(32)))
        finding = super().run(view, memory, generator)
        if self.flaw != "claims":
            return finding
        nothing = torch.zeros_like(finding.scores["correct"])
        return replace(finding, scores={**finding.scores, "correct": nothing})

    def configuration(self):
        return {**super().configuration(), "flaw": ""} if self.flaw == "configuration" else super().configuration()


CARD = Card("broken", ROOM, "evasion", "Breaks one clause.", "This file.", {}, __name__, "Broken")
FLAWS = [
    (same_seed_same_result, "counts"),
    (touches_nothing, "global"),
    (touches_nothing, "weights"),
    (touches_nothing, "grad"),
    (touches_nothing, "mode"),
    (touches_nothing, "records"),
    (finds_a_planted_signal, "idle"),
    (finds_nothing_on_a_constant_model, "claims"),
    (honours_its_budget, "budget"),
    (honours_its_budget, "cube"),
    (judges_the_whole_test_set, "first batch"),
    (refuses_a_smaller_view, "view"),
    (keeps_the_checks_of_its_base, "base"),
    (round_trips, "configuration"),
    (documented, "aim"),
]


@pytest.mark.parametrize(("check", "flaw"), FLAWS, ids=lambda v: getattr(v, "__name__", v))
def test_a_broken_attack_fails(check, flaw, contract):
    with pytest.raises((AssertionError, Failed)):
        check(CARD, Broken(flaw=flaw), contract)


@pytest.mark.parametrize("change", [{"doc": ""}, {"doc": "no sentence"}, {"source": ""}], ids=str)
def test_an_undocumented_attack_fails(change, contract):
    with pytest.raises((AssertionError, Failed)):
        documented(replace(CARD, **change), Broken(), contract)


@pytest.mark.parametrize("check", CHECKS, ids=lambda c: c.__name__)
def test_the_same_attack_unbroken_passes(check, contract):
    """So it is the flaw that fails, and every clause has one."""
    check(CARD, Broken(), contract)
    assert check in {c for c, _ in FLAWS}
