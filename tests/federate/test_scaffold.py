"""SCAFFOLD against its pseudocode, with and without partial participation, and without drift where FedAvg has it."""

from __future__ import annotations

import pytest
import torch

from consilium.core.algorithm import AlgorithmState
from consilium.core.gradient import Gradient
from consilium.federate.algorithms.fed_avg import FedAvg
from consilium.federate.algorithms.scaffold import Scaffold

ALL = [0, 1, 2, 3]


def plain(problem, cohorts, K, lr, server_lr, share=None):
    """Karimireddy et al. 2020, algorithm 1 with option II, line by line."""
    x, c = problem.start, torch.zeros(5, dtype=torch.float64)
    c_i = [torch.zeros_like(c) for _ in range(problem.sites)]
    for S in cohorts:
        dy, dc = [], []
        for i in S:
            y = x.clone()
            for _ in range(K):
                y = y - lr * (problem.gradient(i, y) - c_i[i] + c)
            c_plus = c_i[i] - c + (x - y) / (K * lr)
            dy.append(y - x)
            dc.append(c_plus - c_i[i])
            c_i[i] = c_plus
        x = x + server_lr * sum(dy) / len(S)
        c = c + (len(S) / problem.sites if share is None else share) * sum(dc) / len(S)
    return x, c, c_i


@pytest.mark.parametrize("server_lr", [1.0, 0.7])
def test_equals_the_pseudocode(quadratics, cohorts, server_lr) -> None:
    problem = quadratics()
    server, kept = problem.play(Scaffold(lr=0.1, server_lr=server_lr), cohorts(6))
    x, c, c_i = plain(problem, cohorts(6), 3, 0.1, server_lr)
    torch.testing.assert_close(server.params, x, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(server.memory["control"], c, rtol=1e-9, atol=1e-9)
    for i in ALL:
        torch.testing.assert_close(kept[i].tensors["control"], c_i[i], rtol=1e-9, atol=1e-9)
    x, c, _ = plain(problem, cohorts(6), 3, 0.1, server_lr, share=1.0)  # |S|/N forgotten: the comparison can fail
    assert not torch.allclose(server.params, x, rtol=1e-3, atol=1e-3)


def test_it_reaches_the_optimum_where_fed_avg_drifts(quadratics) -> None:
    problem = quadratics()
    optimum = problem.optimum()
    ours, _ = problem.play(Scaffold(lr=0.1), [ALL] * 400, steps=10)
    torch.testing.assert_close(ours.params, optimum, rtol=1e-6, atol=1e-6)
    theirs, _ = problem.play(FedAvg(lr=0.1), [ALL] * 400, steps=10)
    assert (theirs.params - optimum).norm() > 0.05


def test_it_reaches_the_optimum_with_half_of_the_sites_a_round(quadratics, cohorts) -> None:
    problem = quadratics()
    ours, _ = problem.play(Scaffold(lr=0.05), cohorts(1500), steps=5)
    torch.testing.assert_close(ours.params, problem.optimum(), rtol=1e-6, atol=1e-6)


def test_the_shared_control_is_the_mean_of_the_sites(quadratics, cohorts) -> None:
    """c = sum_i c_i / N after every round, whoever took part."""
    for rounds in range(1, 6):
        server, kept = quadratics().play(Scaffold(lr=0.1), cohorts(rounds))
        mean = sum(state.tensors["control"] for state in kept.values()) / 4
        torch.testing.assert_close(server.memory["control"], mean)


def test_one_step_a_round_is_fed_avg(quadratics) -> None:
    """With K = 1 and everybody there the corrections cancel in the mean."""
    ours, _ = quadratics().play(Scaffold(lr=0.1), [ALL] * 5, steps=1)
    theirs, _ = quadratics().play(FedAvg(lr=0.1), [ALL] * 5, steps=1)
    torch.testing.assert_close(ours.params, theirs.params)


def test_noise_passes_through_and_the_control_reads_parameters_only(quadratics) -> None:
    """Two histories of (noisy) gradients that end at the same place send and keep the same (LAWS 12)."""
    problem, algorithm = quadratics(), Scaffold(lr=0.1)
    sent = algorithm.broadcast(algorithm.start(problem.network, 4))
    told = []
    for first, second in ((1.0, 3.0), (4.0, 0.0)):
        work = algorithm.begin(sent, AlgorithmState({"control": problem.b[0]}), 2)
        for size in (first, second):
            work = algorithm.step(work, Gradient(size * problem.b[1], work.buffers))
        told.append(algorithm.finish(sent, work))
    (one, kept), (other, also) = told
    torch.testing.assert_close(one["control"], other["control"])
    torch.testing.assert_close(kept.tensors["control"], also.tensors["control"])


def test_without_a_step_nothing_is_learned(quadratics) -> None:
    problem, algorithm = quadratics(), Scaffold()
    server, _ = problem.play(algorithm, [ALL])
    sent = algorithm.broadcast(server)
    payload, kept = algorithm.finish(sent, algorithm.begin(sent, AlgorithmState({"control": problem.b[0]}), 0))
    assert not payload["control"].any() and not payload["delta"].any()
    assert torch.equal(kept.tensors["control"], problem.b[0])


def test_a_site_that_stops_early_counts_the_steps_it_did(quadratics) -> None:
    """K is what was done, not what was planned: then c_k+ is the mean gradient along the way, exactly."""
    problem, algorithm = quadratics(), Scaffold(lr=0.1)
    sent = algorithm.broadcast(algorithm.start(problem.network, 4))
    work, seen = algorithm.begin(sent, AlgorithmState(), 5), []
    for _ in range(2):
        seen.append(problem.gradient(1, work.params))
        work = algorithm.step(work, Gradient(seen[-1], work.buffers))
    _, kept = algorithm.finish(sent, work)
    torch.testing.assert_close(kept.tensors["control"], torch.stack(seen).mean(0))
