"""DP-SGD's seams: a sum with its sensitivity, other batch selections, noise that is correlated over steps."""

import math
from dataclasses import dataclass, replace

import pytest
import torch
from scipy import stats
from scipy.optimize import brentq
from torch import nn

from consilium.core.algorithm import Broadcast
from consilium.core.charge import Composed, Gaussian, PerUnit, PoissonSampled
from consilium.core.errors import Unlawful
from consilium.core.gradient import Objective, Schedule
from consilium.core.keystream import Secret
from consilium.core.mechanism import BatchSelection, NoiseMechanism
from consilium.core.network import Network
from consilium.core.random import Stream, scoped
from consilium.core.records import Pools, Records, Site
from consilium.defend.training._dp_sgd_rule import DPSGDRule, GaussianNoise, PoissonSelection
from consilium.defend.training.dp_sgd import DPSGD
from consilium.federate.algorithms.fed_avg import FedAvg
from consilium.federate.client.client_states import SiteStates, packed, unpacked
from consilium.federate.client.participant import Participant, SiteState
from consilium.learn.mean_gradient import MeanGradient
from consilium.learn.per_example import ClippedSum
from consilium.measure.accounting.privacy import claims, epsilon

SIGMA, CLIP, N, BATCH = 1.7, 0.5, 40, 8
WORK = Schedule(rounds=3, epochs=1, batch=BATCH)
FULL = replace(WORK, batch=0)


class Silent(Objective):
    """No gradient at all: what comes out is the noise."""

    def losses(self, predict, batch):
        return 0 * predict(batch["x"]).sum(1)


class Marked(Objective):
    """Each record's gradient points in a direction of its own, so that a sum tells who was selected."""

    def losses(self, predict, batch):
        return predict(batch["x"])[:, 0] * 1e3


def network(width=N):
    with scoped(Stream(0)):
        return Network(nn.Linear(width, 1, bias=False))


def data():
    return Records.of(torch.eye(N), torch.zeros(N, dtype=torch.long))


def rule(**parts):
    return replace(DPSGD(noise_multiplier=SIGMA, clip=CLIP, delta=1e-3).rule(MeanGradient()), **parts)


# --- sensitivity --------------------------------------------------------------------------------------------------


def gaussian(sensitivity, deviation, delta):
    """The Gaussian mechanism in closed form. Source: Balle and Wang 2018, arXiv 1805.06530, theorem 8."""

    def over(eps):
        a, b = sensitivity / (2 * deviation), eps * deviation / sensitivity
        return stats.norm.cdf(a - b) - math.exp(eps) * stats.norm.cdf(-a - b) - delta

    return brentq(over, 0, 200)


def test_a_clipped_sum_knows_how_far_neighbours_are_apart():
    total = ClippedSum(torch.zeros(3), CLIP)
    assert total.sensitivity("add-or-remove-one") == CLIP
    assert total.sensitivity("replace-one") == 2 * CLIP


@pytest.mark.parametrize("adjacency", ["add-or-remove-one", "replace-one"])
def test_the_factor_of_replace_one_is_counted_once_and_on_the_side_of_epsilon(adjacency):
    """The deviation that is drawn is sigma C under both; the claimed epsilon is that of the sum's own sensitivity."""
    made, net = rule(adjacency=adjacency), network(4000)
    records = Records.of(torch.zeros(N, 4000), torch.zeros(N, dtype=torch.long))
    drawn = made.oracle(records, net, Silent(), FULL, Stream(1))(*net.start()).value * N
    assert float(drawn.std()) == pytest.approx(SIGMA * CLIP, rel=0.04)  # not 2 sigma C: 36 standard errors away
    claimed = epsilon([made.charge(N, FULL, 1)], 1e-5, adjacency).epsilon
    total = ClippedSum(drawn, CLIP)
    assert claimed == pytest.approx(gaussian(total.sensitivity(adjacency), SIGMA * CLIP, 1e-5), rel=1e-3)


def test_the_noise_reads_the_sum(monkeypatch):
    asked = []
    monkeypatch.setattr(ClippedSum, "sensitivity", lambda own, adjacency: asked.append(adjacency) or 3 * own.clip)
    net, made = network(), rule(adjacency="replace-one")
    drawn = made.oracle(data(), net, Silent(), WORK, Stream(1))(*net.start()).value
    assert asked == ["add-or-remove-one"]
    monkeypatch.undo()
    torch.testing.assert_close(drawn, 3 * made.oracle(data(), net, Silent(), WORK, Stream(1))(*net.start()).value)


# --- defaults -----------------------------------------------------------------------------------------------------


def test_the_defaults_are_poisson_and_gaussian_and_charge_what_they_did():
    made = rule()
    assert (made.selection, made.noise) == (PoissonSelection(), GaussianNoise())
    step = PoissonSampled(BATCH / N, Gaussian(SIGMA))
    assert made.step_charge(N, WORK) == step and made.charge(N, WORK, 3) == Composed(step, 15)
    patient = replace(made, unit="patient")
    assert patient.charge(N, WORK, 3) == Composed(PerUnit("patient", step), 15)
    assert made.sampler == ""


def test_an_independent_mechanism_leaves_nothing_in_the_state_of_a_site():
    net = network()
    oracle = rule().oracle(data(), net, Marked(), WORK, Stream(1))
    oracle(*net.start())
    assert oracle.memory() == {}


# --- another batch selection --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class FixedSize(BatchSelection):
    """Exactly B units without replacement; unamplified, and a step is right under replace-one alone."""

    words = "batches of a fixed size, drawn without replacement"
    adjacencies = frozenset({"replace-one"})

    def select(self, n, batch, stream, memory):
        chosen = torch.zeros(n, dtype=torch.bool)
        chosen[torch.randperm(n, generator=stream.generator())[:batch]] = True
        return chosen, memory

    def expected(self, n, batch):
        return batch

    def charge(self, n, batch, release):
        return release


@dataclass(frozen=True)
class Separated(BatchSelection):
    """Poisson among those who were in none of the last ``gap`` batches: remembers when each unit was selected."""

    gap: int = 3

    def select(self, n, batch, stream, memory):
        wait = memory.get("wait", torch.zeros(n))
        chosen = stream.coins(n, batch / n) & (wait == 0)
        return chosen, {"wait": torch.where(chosen, self.gap, (wait - 1).clamp_min(0))}

    def expected(self, n, batch):
        return batch / (1 + self.gap * batch / n)

    def charge(self, n, batch, release):
        return release


def selected(made, steps, memory=None, first=0):
    """Who was in each batch ``(steps, n)``, read from the released values; and the memory after."""
    net = network()
    quiet = replace(made, sigma=1e-9, clip=1.0)
    oracle = quiet.oracle(data(), net, Marked(), WORK, Stream(3).child(first))
    oracle.resume(memory or {})
    sums = torch.stack([oracle(*net.start()).value for _ in range(steps)])
    return (sums * quiet.selection.expected(N, BATCH)).round().bool(), oracle.memory()


def test_batches_of_a_fixed_size():
    drawn, memory = selected(rule(selection=FixedSize(), adjacency="replace-one"), 30)
    assert drawn.sum(1).tolist() == [BATCH] * 30 and memory == {}
    assert len({tuple(row.tolist()) for row in drawn}) == 30
    assert selected(rule(), 30)[0].sum(1).unique().numel() > 3


def test_the_accounting_reads_what_was_selected():
    made = rule(selection=FixedSize(), adjacency="replace-one")
    assert made.step_charge(N, WORK) == Gaussian(SIGMA)
    assert made.charge(N, WORK, 2) == Composed(Gaussian(SIGMA), 10)
    poisson = epsilon([rule().charge(N, WORK, 3)], 1e-5, "replace-one").epsilon
    assert epsilon([made.charge(N, WORK, 3)], 1e-5, "replace-one").epsilon > poisson
    (claim,) = claims("a", [made.charge(N, WORK, 3)], n=N, delta=1e-5, adjacency="replace-one", sampler=made.sampler)
    assert "fixed size" in claim.statement() and "Poisson" not in claim.statement()


def test_a_target_epsilon_is_met_by_any_selection():
    made = rule(selection=FixedSize(), adjacency="replace-one", sigma=None, epsilon=4.0)
    spent = epsilon([made.charge(N, WORK, 3)], 1e-3, "replace-one").epsilon
    assert 3.98 <= spent <= 4.0
    budget = replace(made, sigma=made.noise_multiplier(N, WORK), epsilon=2.5)
    fits = [epsilon([budget.charge(N, WORK, r)], 1e-3, "replace-one").epsilon <= 2.5 for r in (1, 2, 3)]
    assert budget.most_rounds(N, WORK) == sum(fits) == 1


def test_a_selection_refuses_an_adjacency_that_it_is_not_right_under():
    with pytest.raises(Unlawful, match="FixedSize charges does not hold under add-or-remove-one"):
        rule(selection=FixedSize())


def test_a_selection_may_remember_over_rounds():
    made = rule(selection=Separated())
    first, memory = selected(made, 5)
    second, _ = selected(made, 5, memory, first=1)
    drawn = torch.cat([first, second])
    for step in range(len(drawn) - 1):
        assert not (drawn[step] & drawn[step + 1 : step + 4]).any()
    assert drawn.any(0).sum() > N / 2
    forgotten, _ = selected(made, 5, {}, first=1)
    assert (first[-1] & forgotten[:3].any(0)).any(), "without the memory they come too soon"


# --- noise that is correlated over steps --------------------------------------------------------------------------


@dataclass(frozen=True)
class TwoStep(NoiseMechanism):
    """z_t = w_t - share w_(t-1): the noise of a step takes back a share of the last one's.

    z = C^-1 w with C lower triangular, C[t, s] = share^(t - s): a unit that is in every batch moves step t of C x by at
    most clip sum_(s <= t) share^(t - s), and w hides that: a Gaussian a step, whoever was selected (not amplified).
    """

    share: float = 0.5
    independent = False

    def noised(self, value, deviation, stream, memory):
        base = value - self.share * memory["last"] if "last" in memory else value
        noisy = stream.noised(base, deviation)
        return noisy, {"last": noisy - base}

    def charge(self, multiplier, steps, selected):
        moved = sum(((1 - self.share ** (t + 1)) / (1 - self.share)) ** 2 for t in steps)
        return Gaussian(multiplier / math.sqrt(moved)) if moved else Composed(Gaussian(multiplier), 0)


def participant(made, stream=None):
    records = data()
    site, learns = Site("a", Pools(records, records, records)), FedAvg(lr=0.1)
    return Participant(site, records, 1.0, network(), learns, Marked(), made, WORK, (), stream or Stream(9))


def rounds(person, first, last, params, state):
    """The model and the site's state after these rounds, the site alone being the federation."""
    for number in range(first, last + 1):
        update, state = person.work(Broadcast(number, params, torch.zeros(0), {}), state)
        params = params + update.payload["delta"]
    return params, state


def test_correlated_noise_takes_back_a_share_of_the_last():
    net = network()
    oracle = rule(noise=TwoStep()).oracle(data(), net, Silent(), WORK, Stream(9))
    drawn = [oracle(*net.start()).value * BATCH for _ in range(5)]
    fresh = [Stream(9).child("step", t, "noise").noised(torch.zeros(N), SIGMA * CLIP) for t in range(5)]
    assert torch.equal(drawn[0], fresh[0])
    for t in range(1, 5):
        torch.testing.assert_close(drawn[t], fresh[t] - 0.5 * fresh[t - 1], rtol=1e-5, atol=1e-6)


def test_correlated_steps_are_charged_together_and_never_one_by_one():
    made = rule(noise=TwoStep(0.5))
    matrix = torch.tensor([[0.5 ** (t - s) if s <= t else 0.0 for s in range(15)] for t in range(15)]).double()
    expected = SIGMA / float(matrix.sum(1).norm())
    charge = made.charge(N, WORK, 3)
    assert isinstance(charge, Gaussian) and charge.noise_multiplier == pytest.approx(expected, rel=1e-9)
    apart = [made.charged(N, BATCH, SIGMA, range(5 * r, 5 * r + 5)) for r in range(3)]
    assert epsilon(apart, 1e-5).epsilon == pytest.approx(epsilon([charge], 1e-5).epsilon, rel=1e-2)
    with pytest.raises(Unlawful, match="TwoStep correlates the noise of the steps"):
        made.step_charge(N, WORK)
    patient = replace(made, unit="patient").charge(N, WORK, 3)
    assert isinstance(patient, PerUnit)


def test_a_target_epsilon_is_met_by_correlated_noise():
    made = rule(noise=TwoStep(), sigma=None, epsilon=5.0)
    assert 4.97 <= epsilon([made.charge(N, WORK, 3)], 1e-3).epsilon <= 5.0


def test_the_memory_goes_from_round_to_round_and_into_the_ledger_of_the_site():
    person = participant(rule(noise=TwoStep()))
    start = network().start()[0]
    _, state = rounds(person, 1, 3, start, SiteState())
    assert int(state.rule["steps"]) == 15 and state.rule["noise/last"].shape == (N,)
    together = epsilon([person.rule.charge(N, WORK, 3)], 1e-5).epsilon
    assert epsilon(state.ledger, 1e-5).epsilon == pytest.approx(together, rel=1e-2)


def test_a_resumed_training_has_the_same_bits():
    """What is kept between rounds, written and read again as the checkpoint does, is all that the noise needs."""
    person, start = participant(rule(noise=TwoStep(), selection=Separated())), network().start()[0]
    through, last = rounds(person, 1, 3, start, SiteState())
    half, state = rounds(person, 1, 2, start, SiteState())
    tensors, about = packed(state)
    again, resumed = rounds(participant(person.rule), 3, 3, half, unpacked(tensors, about))
    assert torch.equal(through, again)
    assert all(torch.equal(last.rule[name], resumed.rule[name]) for name in last.rule)
    assert last.ledger == resumed.ledger
    forgotten, _ = rounds(person, 3, 3, half, replace(state, rule={}))
    assert not torch.equal(through, forgotten), "and the noise does need it"


def test_a_lost_update_leaves_the_memory_where_it_is():
    """Its noise was sent: what follows must be correlated with it."""
    person, states = participant(rule(noise=TwoStep())), SiteStates()
    _, states["a"] = rounds(person, 1, 1, network().start()[0], SiteState())
    states.settle(1)
    before = states["a"]
    _, states["a"] = rounds(person, 2, 2, network().start()[0], before)
    states.roll_back(["a"])
    assert int(states["a"].rule["steps"]) == 10 and len(states["a"].ledger) == 2
    assert not torch.equal(states["a"].rule["noise/last"], before.rule["noise/last"])


def test_secret_noise_can_be_correlated_because_the_memory_is_kept():
    person = participant(rule(noise=TwoStep()), Stream(9).secretly(Secret()))
    _, state = rounds(person, 1, 1, network().start()[0], SiteState())
    again, _ = packed(rounds(person, 1, 1, network().start()[0], SiteState())[1])
    assert not torch.equal(again["rule/noise/last"], state.rule["noise/last"])


def test_a_rule_is_a_value():
    assert hash(rule(noise=TwoStep())) == hash(rule(noise=TwoStep())) != hash(rule())
    assert isinstance(rule(), DPSGDRule)
