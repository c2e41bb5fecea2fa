"""The watching server on planted updates: sums of known members' gradients, with and without noise."""

import math
from statistics import NormalDist

import pytest
import torch
from torch import nn

from consilium.attack.membership.update_alignment import UpdateAlignment
from consilium.core.algorithm import Broadcast
from consilium.core.errors import Refused
from consilium.core.gradient import Schedule
from consilium.core.network import Network
from consilium.core.random import Stream
from consilium.core.records import Pools, Records, Site
from consilium.core.round_observer import ObservedView, UpdateRoundView
from consilium.core.update import Update
from consilium.defend.training.dp_sgd import DPSGD
from consilium.federate.algorithms.fed_avg import FedAvg
from consilium.federate.client.participant import Participant, SiteState
from consilium.learn.mean_gradient import MeanGradient
from consilium.learn.objectives import TaskLoss
from consilium.learn.tasks.single_label import SingleLabel

N = 200


def planted(noise=0.0, seed=0, rounds=1, scale=1.0):
    """One-hot records in a linear model: their gradients at zero are orthogonal, each of norm sqrt(1/2).

    Site "a" sends minus the mean gradient of its members (the even places), plus noise per coordinate.
    """
    g = torch.Generator().manual_seed(seed)
    network = Network(nn.Linear(N, 2, bias=False))
    x, y = torch.eye(N), torch.randint(2, (N,), generator=g)
    member = torch.arange(N) % 2 == 0
    gradients = torch.stack([y - 0.5, 0.5 - y])[:, :, None] * x  # (2, n, N): p - onehot(y), times x
    mean = gradients[:, member].mean(1).flatten()
    views = []
    for number in range(1, rounds + 1):
        delta = scale * (-mean + noise * torch.randn(2 * N, generator=g))
        updates = {"a": Update("a", number, 1.0, {"delta": delta, "buffers": torch.zeros(0)})}
        places = {"a": torch.arange(N)}
        views.append(
            UpdateRoundView(
                2,
                number,
                torch.zeros(2 * N),
                torch.zeros(0),
                network,
                Records.of(x, y),
                places,
                updates=updates,
                task=SingleLabel(),
            )
        )
    return views, member


def found(attack, views, member):
    memory = {}
    for view in views:
        memory = attack.observe(memory, view)
    known, rows = torch.arange(N) % 4 < 2, torch.arange(N)
    seen = ObservedView(2, lambda x: x, views[0].candidates, member, known, rows=rows, task=SingleLabel())
    return attack(seen, memory, torch.Generator().manual_seed(0))


@pytest.mark.parametrize("statistic", ["cosine", "dot", "loss-drop"])
def test_members_of_a_sum_of_gradients_are_told_without_error(statistic):
    finding = found(UpdateAlignment(statistic=statistic), *planted())
    assert finding["auc"].value == 1 and finding["advantage"].value == 1
    assert finding["auc"].n == N // 2


def test_the_scores_are_those_of_the_closed_form():
    """<g_i, mean> = ||g_i||^2 / m for a member, 0 for the others; the cosine is 1 / sqrt(m)."""
    views, member = planted()
    m = int(member.sum())
    expected = {"dot": 0.5 / m, "cosine": 1 / math.sqrt(m)}
    for statistic, value in expected.items():
        score = found(UpdateAlignment(statistic=statistic), views, member).scores["score"]
        torch.testing.assert_close(score, torch.where(member, value, 0.0).double(), rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize("snr", [2.0, 1.0, 0.5])
def test_under_noise_the_auc_is_that_of_two_gaussians(snr):
    """dot ~ N(||g||^2 / m, (s ||g||)^2) for members, N(0, (s ||g||)^2) for others: AUC = Phi(||g|| / (m s sqrt 2))."""
    m, norm = N // 2, math.sqrt(0.5)
    sigma = norm / (m * snr)
    aucs = [found(UpdateAlignment(statistic="dot"), *planted(sigma, seed))["auc"].value for seed in range(20)]
    expected = NormalDist().cdf(snr / math.sqrt(2))
    assert sum(aucs) / 20 == pytest.approx(expected, abs=0.04)  # 4 standard errors of 20 AUCs over 100 records


def one_step(rule, seed):
    """The update of a site that takes one step on all its members under ``rule``, in the world of :func:`planted`."""
    (view,), member = planted(seed=seed)
    inside = view.candidates.select(member)
    algorithm, stream = FedAvg(lr=1.0), Stream(seed)
    schedule = rule.schedule(Schedule(1, 1, N // 2))
    pools = Pools(inside, inside, inside)
    person = Participant(
        Site("a", pools), inside, 1.0, view.network, algorithm, TaskLoss(SingleLabel()), rule, schedule, (), stream
    )
    update, _ = person.work(Broadcast(1, view.params, view.buffers), SiteState())
    return [UpdateRoundView(**{**vars(view), "updates": {"a": update}})], member


@pytest.mark.parametrize("sigma", [0.5, 4.0])
def test_the_noise_of_dp_sgd_hides_members_as_it_should(sigma):
    """One step of DP-SGD on everyone, nothing clipped: AUC = Phi(||g|| / (sigma C sqrt 2)) = Phi(1 / (2 sigma))."""
    attack = UpdateAlignment(statistic="dot")
    assert found(attack, *one_step(MeanGradient(), 0))["auc"].value == 1
    rule = DPSGD(noise_multiplier=sigma, delta=1e-3, clip=1.0).rule(MeanGradient())
    aucs = [found(attack, *one_step(rule, seed))["auc"].value for seed in range(20)]
    assert sum(aucs) / 20 == pytest.approx(NormalDist().cdf(0.5 / sigma), abs=0.055)  # 4 standard errors


def test_rounds_add_up():
    """T rounds of fresh noise: the mean's signal-to-noise ratio grows by sqrt(T)."""
    m, norm = N // 2, math.sqrt(0.5)
    sigma = norm / (m * 0.5)
    aucs = [found(UpdateAlignment(statistic="dot"), *planted(sigma, seed, rounds=9))["auc"].value for seed in range(10)]
    assert sum(aucs) / 10 == pytest.approx(NormalDist().cdf(1.5 / math.sqrt(2)), abs=0.05)


def test_a_site_that_sent_nothing_changes_nothing():
    views, _ = planted(rounds=2)
    silent = UpdateRoundView(**{**vars(views[1]), "updates": {}})
    attack = UpdateAlignment()
    once, twice = attack.observe({}, views[0]), attack.observe(attack.observe({}, views[0]), silent)
    assert torch.equal(once["sum"], twice["sum"]) and torch.equal(once["rounds"], twice["rounds"])


def test_each_site_is_attacked_through_its_own_updates():
    """Given the other site's update, a member is told no better than by chance."""
    views, member = planted()
    view = views[0]
    swapped = UpdateRoundView(
        **{**vars(view), "of": {"a": torch.arange(N)}, "updates": {"b": view.updates["a"]}},
    )
    assert found(UpdateAlignment(), [swapped], member)["auc"].value == 0.5


def test_targets_are_all_honest_sites_or_the_named_one():
    sizes = {"a": 3, "b": 9}
    assert UpdateAlignment().targets(sizes) == ("a", "b")
    assert UpdateAlignment(site="b").targets(sizes) == ("b",)
    assert UpdateAlignment().seat(sizes) is None
    with pytest.raises(Refused, match="no honest site"):
        UpdateAlignment(site="c").targets(sizes)


def test_an_update_of_some_layers_is_refused():
    views, _ = planted()
    part = Update("a", 1, 1.0, {"delta": torch.zeros(3), "buffers": torch.zeros(0)})
    with pytest.raises(Refused, match="no change of a whole model"):
        UpdateAlignment().observe({}, UpdateRoundView(**{**vars(views[0]), "updates": {"a": part}}))


def test_an_update_of_zeros_or_overflow_scores_finitely():
    for scale in (0.0, 1e30):
        views, member = planted(scale=scale)
        for statistic in ("cosine", "dot", "loss-drop"):
            assert found(UpdateAlignment(statistic=statistic), views, member).scores["score"].isfinite().all()
