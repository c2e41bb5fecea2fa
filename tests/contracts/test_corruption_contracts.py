"""The contract of every corruption in the catalogue, and a broken one that must fail each clause.

A corruption has three hooks (records, objective, forge) and uses those it likes, so a clause looks at all three: at the
records it makes, at the batch its objective prepares, and at the update that leaves the site in the end.  It is granted
no view of a trained model, so there is no smaller one to refuse.
"""

import itertools
from dataclasses import dataclass, replace

import pytest
import torch

from consilium.core.attack import Corruption
from consilium.core.catalogue import Card, cards, load_entry
from consilium.core.collusion import AggregateView, ColludingView, OmniscientView
from consilium.core.entry import check
from consilium.core.random import Stream
from consilium.core.records import Records
from consilium.core.threat import RoundView, ThreatModel
from consilium.core.update import Update
from consilium.learn.objectives import TaskLoss
from consilium.learn.tasks.single_label import SingleLabel

ROOM = "attack/poisoning"
N, CLASSES = 120, 3


class Site:
    """A site's records and a linear model; ``update`` is one step of gradient descent under ``entry``."""

    def __init__(self, seed=0):
        g = torch.Generator().manual_seed(seed)
        x = torch.rand(N, 1, 2, 4, generator=g)
        self.records = Records.of(x, torch.randint(CLASSES, (N,), generator=g))
        self.weight = torch.randn(8, CLASSES, generator=g).requires_grad_(True)
        self.seed = seed

    def predict(self, x):
        return x.flatten(1) @ self.weight

    def batch(self, entry):
        """The records trained on, and the batch that the objective makes of them."""
        records, objective = self.records, TaskLoss(SingleLabel())
        if entry is not None:
            records = entry.records(records, CLASSES, Stream(self.seed).child("records"))
            objective = entry.objective(objective)
        g = torch.Generator().manual_seed(self.seed)
        return records, objective.prepare(self.predict, records.x, records.y, g), objective

    def updates(self, entry):
        """What two colluding sites send, delta first."""
        _, batch, objective = self.batch(entry)
        (gradient,) = torch.autograd.grad(objective.losses(self.predict, batch).mean(), self.weight)
        delta = -0.1 * gradient.flatten()
        own = [Update(f"site-{k}", 1, 1.0, {"delta": delta * (1 + 0.1 * k)}) for k in range(2)]
        return own if entry is None else entry.forge({}, own, self.round_view(entry.needs))[0]

    def round_view(self, needs=RoundView):
        """What a round shows to who ``needs`` it: three honest sites send something else each."""
        g = torch.Generator().manual_seed(self.seed + 1)
        sent = {f"honest-{k}": {"delta": torch.randn(8 * CLASSES, generator=g)} for k in range(3)}
        known = (CLASSES, 1, self.weight.detach().flatten().clone(), torch.zeros(0))
        extra = {"task": SingleLabel(), "weights": dict.fromkeys([*sent, "site-0", "site-1"], 1.0)}
        mean = {"delta": torch.stack([payload["delta"] for payload in sent.values()]).mean(0)}
        if needs is RoundView:
            return RoundView(*known, task=SingleLabel())
        if needs is ColludingView:
            return ColludingView(*known, **extra)
        if needs is AggregateView:
            return AggregateView(*known, mean, **extra)
        updates = {site: Update(site, 1, 1.0, payload) for site, payload in sent.items()}
        return OmniscientView(*known, mean, updates, **extra)


def deltas(updates):
    return torch.stack([u.payload["delta"] for u in updates])


def same_stream_same_result(card, entry, contract):
    one, other = Site(3), Site(3)
    assert torch.equal(one.batch(entry)[0].x, other.batch(entry)[0].x)
    assert torch.equal(one.batch(entry)[0].y, other.batch(entry)[0].y)
    assert torch.equal(deltas(one.updates(entry)), deltas(other.updates(entry)))


def touches_nothing(card, entry, contract):
    site = Site()
    r = site.records
    with contract.untouched(site.weight, r.x, r.y, r.ids, r.units):
        site.updates(entry)
    assert site.weight.grad is None


def changes_what_is_learned(card, entry, contract):
    """With its defaults the update that leaves a corrupted site is another one."""
    honest, corrupted = (deltas(Site().updates(e)) for e in (None, entry))
    assert (honest - corrupted).norm() > 0.01 * honest.norm(), "a corrupted site behaves like an honest one"


def nothing_corrupted_changes_nothing(card, entry, contract):
    """Zero sites send nothing; a share of zero leaves records, batch and update as they were, to the last bit."""
    nobody = replace(entry, sites=0, **({"share": 0.0} if hasattr(entry, "share") else {}))
    assert list(nobody.forge({}, [], Site().round_view(entry.needs))[0]) == []
    if not hasattr(entry, "share"):
        return
    for seed in contract.seeds:
        honest, corrupted = Site(seed), Site(seed)
        (r, b, _), (s, c, _) = honest.batch(None), corrupted.batch(nobody)
        assert all(torch.equal(getattr(r, k), getattr(s, k)) for k in ("x", "y", "ids", "units"))
        assert b.keys() == c.keys() and all(torch.equal(b[k], c[k]) for k in b)
        assert torch.equal(deltas(honest.updates(None)), deltas(corrupted.updates(nobody)))


def honours_its_budget(card, entry, contract):
    """At most its share of records, within its radius, valid labels, its own sites' updates and no other's."""
    site = Site()
    records, batch, _ = site.batch(entry)
    clean = site.records
    assert torch.equal(records.ids, clean.ids) and torch.equal(records.units, clean.units)
    for x, y in ((records.x, records.y), (batch["x"], batch["y"])):
        assert len(x) == len(y) == N and x.min() >= 0 and x.max() <= 1
        assert y.dtype == torch.int64 and y.min() >= 0 and y.max() < CLASSES
        moved = (x - clean.x).abs()
        assert moved.max() <= getattr(entry, "radius", 1.0) + 1e-5
        touched = int(((moved.flatten(1).amax(1) > 0) | (y != clean.y)).sum())
        share = getattr(entry, "share", 1.0)
        assert touched <= share * N + 4 * (N * share * (1 - share)) ** 0.5  # a coin per record may exceed its mean
    sent = site.updates(entry)
    assert [u.site for u in sent] == ["site-0", "site-1"] and deltas(sent).isfinite().all()


def says_how_many_sites(card, entry, contract):
    assert card.knobs.get("sites") == entry.sites == 1
    contract.refuses(lambda: replace(entry, sites=-1), "sites", "-1")


def round_trips(card, entry, contract):
    contract.round_trips(entry)


def documented(card, entry, contract):
    contract.documented(card)
    assert entry.threat.aim == card.role and entry.threat.moment == "training"


CHECKS = [
    same_stream_same_result,
    touches_nothing,
    changes_what_is_learned,
    nothing_corrupted_changes_nothing,
    honours_its_budget,
    says_how_many_sites,
    round_trips,
    documented,
]


@pytest.mark.parametrize("check", CHECKS, ids=lambda c: c.__name__)
@pytest.mark.parametrize("card", cards(ROOM), ids=lambda c: c.kind)
def test_every_corruption(card, check, contract):
    check(card, load_entry(card)(), contract)


CALLS = itertools.count()


@dataclass(frozen=True)
class Broken(Corruption):
    """Shifts the labels of the first half, broken in one place at a time."""

    sites: int = 1
    share: float = 0.5
    flaw: str = ""

    def __post_init__(self):
        check(self.flaw == "sites" or self.sites >= 0, "sites", self.sites, "at least 0")

    @property
    def threat(self):
        return ThreatModel("site", "inference" if self.flaw == "moment" else "training", "black-box", "poisoning")

    def records(self, records, classes, stream):
        self._meddle(records)
        share = {"greedy": 1.0, "always": 0.5, "idle": 0.0}.get(self.flaw, self.share)
        chosen = torch.arange(len(records)) < share * len(records)
        shift = next(CALLS) % 2 + 1 if self.flaw == "counts" else 1
        changed = records.relabelled(torch.where(chosen, (records.y + shift) % classes, records.y))
        if self.flaw == "labels":
            changed.y[0] = classes
        if self.flaw == "radius":
            changed = replace(changed, x=changed.x + 2.0)
        return changed

    def forge(self, memory, updates, view):
        if self.flaw == "forges":
            return [Update("site-9", 1, 1.0, {"delta": view.params})], memory
        if self.flaw == "impersonates":
            return [replace(u, site="site-7") for u in updates], memory
        return updates, memory

    def _meddle(self, records):
        if self.flaw == "global":
            torch.rand(1)
        if self.flaw == "in place":
            records.y[0] = (records.y[0] + 1) % CLASSES

    def configuration(self):
        return {**super().configuration(), "flaw": ""} if self.flaw == "configuration" else super().configuration()


KNOBS = {"sites": 1, "share": 0.5, "flaw": ""}
CARD = Card("broken", ROOM, "poisoning", "Breaks one clause.", "This file.", KNOBS, __name__, "Broken")
FLAWS = [
    (same_stream_same_result, "counts"),
    (touches_nothing, "global"),
    (touches_nothing, "in place"),
    (changes_what_is_learned, "idle"),
    (nothing_corrupted_changes_nothing, "always"),
    (nothing_corrupted_changes_nothing, "forges"),
    (honours_its_budget, "greedy"),
    (honours_its_budget, "radius"),
    (honours_its_budget, "labels"),
    (honours_its_budget, "impersonates"),
    (says_how_many_sites, "sites"),
    (round_trips, "configuration"),
    (documented, "moment"),
]


@pytest.mark.parametrize(("check", "flaw"), FLAWS, ids=lambda v: getattr(v, "__name__", v))
def test_a_broken_corruption_fails(check, flaw, contract):
    with pytest.raises(AssertionError):
        check(CARD, Broken(flaw=flaw), contract)


@pytest.mark.parametrize("change", [{"doc": ""}, {"source": ""}], ids=str)
def test_an_undocumented_corruption_fails(change, contract):
    with pytest.raises(AssertionError):
        documented(replace(CARD, **change), Broken(), contract)


@pytest.mark.parametrize("check", CHECKS, ids=lambda c: c.__name__)
def test_the_same_corruption_unbroken_passes(check, contract):
    """So it is the flaw that fails, and every clause has one."""
    check(CARD, Broken(), contract)
    assert check in {c for c, _ in FLAWS}
