"""The contract of what replaces the weighted mean, with every federated algorithm; a broken entry for each check."""

from dataclasses import dataclass, replace

import pytest
import torch
from torch import nn

from consilium.core import catalogue
from consilium.core.algorithm import Algorithm, AlgorithmState, Server
from consilium.core.defence import MergeDefence, PreAggregation
from consilium.core.errors import Refused
from consilium.core.gradient import Gradient
from consilium.core.merge import Aggregator, Cohort
from consilium.core.network import Network
from consilium.core.random import Stream, scoped
from consilium.core.update import Aggregate, Update
from consilium.federate.round.merge_chain import chained
from consilium.federate.round.soundness import unsound
from consilium.federate.round.weighted_mean import WeightedMean

ENTRIES = [catalogue.load_entry(card)() for card in catalogue.cards("defend/merge")]
ALGORITHMS = catalogue.cards("federate/algorithms")
SITES = 7
"""As many as the most demanding rule needs for one corrupted site (Bulyan, 4 f + 3)."""
COHORT = Cohort(SITES, 3)
SERVER = Stream(5, ("merge",))
LENIENT = {"bucketing", "foolsgold", "nearest-neighbour-mixing", "noisy-mean", "robust-learning-rate"}
"""Those that let one long update of one site in by themselves, and say so; the others are shown to keep it out."""


def updates(count=SITES):
    g = Stream(11).generator()
    return tuple(
        Update(f"site-{k}", 1, 1.0 + k, {"delta": 3 * torch.randn(30, generator=g), "buffers": torch.ones(4)})
        for k in range(count)
    )


def rules(defence, root):
    """The merge by itself, and as a training has it: for a cohort, with draws, and with the server's own update."""
    return [rule.at(lambda: root.payload) for rule in (defence.merge(), defence.merge_for(COHORT, SERVER))]


# --- the checks ---------------------------------------------------------------------------------------------------


def merges_equals_to_themselves(defence, contract):
    """Zero Byzantine sites and equal updates: a robust merge must find nothing to cut."""
    (one, *_) = updates()
    for count in (1, 2, 5, 7):
        same = [Update(f"site-{k}", 1, 1.0, one.payload) for k in range(count)]
        rule = rules(defence, one)[0]
        if count < rule.least:
            contract.refuses(lambda few=same, rule=rule: rule.merge(iter(few), {}, 1.0), f"needs {rule.least}")
            continue
        aggregate, _ = rule.merge(iter(same), {}, float(count))  # read once, as the server hands them over
        assert aggregate.count == count
        assert set(aggregate.payload) == set(one.payload)
        for name, tensor in one.payload.items():
            torch.testing.assert_close(aggregate.payload[name], tensor)
    assert defence.merge().reads in ("sum", "each")


def merges_without_looking_at_the_order(defence, contract):
    """To the last bit where it holds all updates; a rule that adds them as they come rounds in that order."""
    for rule in rules(defence, updates()[0]):
        one, two = (rule.merge(u, {})[0].payload for u in (updates(), updates()[::-1]))
        exact = {"rtol": 0, "atol": 0} if defence.merge().reads == "each" and not rule.streams else {}
        for name in one:
            torch.testing.assert_close(one[name], two[name], **exact)


def merges_without_what_is_not_finite(defence, contract):
    """One update of NaN or infinity among seven never gets in; what reads the sum alone is handed none (admission)."""
    for rule in rules(defence, updates()[0]):
        for broken in (float("nan"), float("inf"), float("-inf")):
            odd = replace(updates()[3], payload={n: t * broken for n, t in updates()[3].payload.items()})
            aggregate, _ = rule.merge([odd if u.site == odd.site else u for u in updates()], {})
            assert rule.reads == "sum" or all(bool(t.isfinite().all()) for t in aggregate.payload.values())


def keeps_its_memory(defence, contract):
    """The second round from the memory of the first: the same bits again, and nothing that it was handed is changed."""
    for rule in rules(defence, updates()[0]):
        _, memory = rule.merge(updates(), {})
        later = [replace(update, round=2) for update in updates()]
        with contract.untouched(*memory.values(), *(t for u in later for t in u.payload.values())):
            one, two = (rule.merge(iter(later), memory) for _ in range(2))
        assert one[1].keys() == two[1].keys()
        pairs = [(two[0].payload, one[0].payload), (two[1], one[1])]
        assert all(torch.equal(t, other[name]) for some, other in pairs for name, t in some.items())


def refuses_an_odd_payload(defence, contract):
    """Names the site whose update has another shape; what reads the sum is handed none (admission)."""
    rule = rules(defence, updates()[0])[0]
    if rule.reads == "each":
        odd = replace(updates()[-1], payload={"delta": torch.zeros(3)})
        contract.refuses(lambda: rule.merge([*updates()[:-1], odd], {}), odd.site, "payload")


CHECKS = [
    merges_equals_to_themselves,
    merges_without_looking_at_the_order,
    merges_without_what_is_not_finite,
    keeps_its_memory,
    refuses_an_odd_payload,
]


@pytest.mark.parametrize("check", CHECKS, ids=lambda c: c.__name__)
@pytest.mark.parametrize("defence", ENTRIES, ids=lambda d: d.kind())
def test_contract(defence, check, contract):
    check(defence, contract)


# --- with every algorithm -----------------------------------------------------------------------------------------


def network():
    with scoped(Stream(5)):
        return Network(nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 2)))


def sent(algorithm: Algorithm, server: Server) -> list[Update]:
    """What honest sites send after three steps along like gradients."""
    g, broadcast, payloads = Stream(3).generator(), algorithm.broadcast(server), []
    for _ in range(SITES):
        work = algorithm.begin(broadcast, AlgorithmState(), 3)
        base = torch.randn(work.params.numel(), generator=Stream(4).generator())
        for _ in range(3):
            noise, buffers = (torch.randn(t.numel(), generator=g) for t in (work.params, work.buffers))
            work = algorithm.step(work, Gradient(base + 0.3 * noise, work.buffers + 0.1 * buffers))
        payloads.append(algorithm.finish(broadcast, work)[0])
    return [Update(f"site-{k}", server.round + 1, 1.0 + k % 3, payload) for k, payload in enumerate(payloads)]


@pytest.mark.parametrize("card", ALGORITHMS, ids=lambda c: c.kind)
def test_every_rule_merges_what_every_algorithm_sends(card):
    """Two rounds with one site that sends its update turned and a thousand times as long: all parts, a sound model."""
    net = network()
    algorithm = catalogue.load_entry(card)().bound(net)
    for defence in ENTRIES:
        rule, server, memory = chained((defence,), COHORT, SERVER), algorithm.start(net, SITES), {}
        for _ in range(2):
            cohort = sent(algorithm, server)
            clean = algorithm.advance(server, weighted(cohort))
            forged = {name: -1000 * t if name == "delta" else t for name, t in cohort[2].payload.items()}
            attacked = [replace(u, payload=forged) if u is cohort[2] else u for u in cohort]
            aggregate, memory = rule.at(lambda c=cohort: c[0].payload).merge(iter(attacked), memory)
            shapes = {name: tuple(t.shape) for name, t in aggregate.payload.items()}
            assert shapes == dict(algorithm.expects(server)), defence.kind()
            after = algorithm.advance(server, aggregate)
            assert unsound(server, after) is None and not torch.equal(after.params, server.params), defence.kind()
            step = clean.params - server.params
            if defence.kind() not in LENIENT:
                assert float((after.params - server.params) @ step) > 0, f"{defence.kind()} goes the attacker's way"
            server = after


def weighted(cohort):
    return WeightedMean().merge(cohort, {})[0]


def test_the_mean_goes_the_attackers_way():
    """So the case above is one that a rule must do something about."""
    net = network()
    algorithm = catalogue.load_entry(catalogue.find("fed-avg", "federate/algorithms"))().bound(net)
    server = algorithm.start(net, SITES)
    cohort = sent(algorithm, server)
    forged = {name: -1000 * t if name == "delta" else t for name, t in cohort[2].payload.items()}
    attacked = [replace(u, payload=forged) if u is cohort[2] else u for u in cohort]
    honest, broken = (algorithm.advance(server, weighted(some)).params - server.params for some in (cohort, attacked))
    assert float(honest @ broken) < 0


# --- broken entries -----------------------------------------------------------------------------------------------


class First(Aggregator):
    """Takes whoever came first and a little more, and counts in what it was handed."""

    reads = "each"

    def merge(self, updates, memory, weight=None):
        first = next(iter(updates))
        for tensor in memory.values():
            tensor.add_(1)
        return Aggregate({n: t * 1.01 for n, t in first.payload.items()}, 1.0, 1), {"seen": torch.ones(1)}


class PlainSum(Aggregator):
    """Lets in whatever comes."""

    reads = "each"

    def merge(self, updates, memory, weight=None):
        return Aggregate({n: sum(u.payload[n] for u in updates) for n in updates[0].payload}, 1.0, 1), memory


@dataclass(frozen=True)
class Biased(MergeDefence):
    def merge(self):
        return First()


@dataclass(frozen=True)
class Open(MergeDefence):
    def merge(self):
        return PlainSum()


BROKEN = [
    (merges_equals_to_themselves, Biased()),
    (merges_without_looking_at_the_order, Biased()),
    (merges_without_what_is_not_finite, Open()),
    (keeps_its_memory, Biased()),
    (refuses_an_odd_payload, Biased()),
]


@pytest.mark.parametrize(("check", "broken"), BROKEN, ids=lambda v: getattr(v, "__name__", type(v).__name__))
def test_a_broken_entry_fails(check, broken, contract):
    with pytest.raises((AssertionError, Refused)):
        check(broken, contract)


def test_every_check_has_a_broken_entry():
    assert {check for check, _ in BROKEN} == set(CHECKS)


@pytest.mark.parametrize("defence", [d for d in ENTRIES if isinstance(d, PreAggregation)], ids=lambda d: d.kind())
@pytest.mark.parametrize("rule", [d for d in ENTRIES if not isinstance(d, PreAggregation)], ids=lambda d: d.kind())
def test_every_step_stands_before_every_rule(defence, rule, contract):
    """Or is refused by name; equal updates come out as they went in."""
    behind = rule.merge().at(lambda: one.payload)
    if behind.follows_sites and defence.kind() == "bucketing":
        contract.refuses(lambda: defence.before(behind, SERVER), "bucketing")
        return
    whole, (one, *_) = defence.before(behind, SERVER), updates()
    count = max(SITES, whole.least)
    same = [Update(f"site-{k:02}", 1, 1.0, one.payload) for k in range(count)]
    aggregate, _ = whole.merge(iter(same), {})
    assert aggregate.count == count and whole.reads == "each"
    for name, tensor in one.payload.items():
        torch.testing.assert_close(aggregate.payload[name], tensor)
