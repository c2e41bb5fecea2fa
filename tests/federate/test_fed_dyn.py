"""FedDyn against its pseudocode, which speaks of models rather than changes, and its optimum without drift."""

from __future__ import annotations

import pytest
import torch

from consilium.federate.algorithms.fed_avg import FedAvg
from consilium.federate.algorithms.fed_dyn import FedDyn

ALL = [0, 1, 2, 3]


def plain(problem, cohorts, steps, lr, momentum, alpha, m=None):
    """Acar et al. 2021, algorithm 1; the local argmin by torch.optim.SGD on the regularised loss."""
    theta, h = problem.start, torch.zeros(5, dtype=torch.float64)
    g = [torch.zeros_like(h) for _ in range(problem.sites)]
    for P in cohorts:
        thetas = []
        for k in P:
            w = theta.clone().requires_grad_()
            optimiser = torch.optim.SGD([w], lr=lr, momentum=momentum)
            for _ in range(steps):
                optimiser.zero_grad()
                (problem.loss(k, w) - g[k] @ w + alpha / 2 * (w - theta).square().sum()).backward()
                optimiser.step()
            g[k] = g[k] - alpha * (w.detach() - theta)
            thetas.append(w.detach())
        h = h - alpha / (m or problem.sites) * sum(t - theta for t in thetas)
        theta = sum(thetas) / len(P) - h / alpha
    return theta, h, g


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_equals_the_pseudocode(quadratics, cohorts, momentum) -> None:
    problem = quadratics()
    server, kept = problem.play(FedDyn(lr=0.05, momentum=momentum, alpha=0.5), cohorts(6))
    theta, h, g = plain(problem, cohorts(6), 3, 0.05, momentum, 0.5)
    torch.testing.assert_close(server.params, theta, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(server.memory["slope"], h, rtol=1e-9, atol=1e-9)
    for k in ALL:
        torch.testing.assert_close(kept[k].tensors["slope"], g[k], rtol=1e-9, atol=1e-9)
    other, *_ = plain(problem, cohorts(6), 3, 0.05, momentum, 0.5, m=2)  # m is not |P|: the comparison can fail
    assert not torch.allclose(server.params, other, rtol=1e-3, atol=1e-3)


def test_it_reaches_the_optimum_where_fed_avg_drifts(quadratics) -> None:
    problem = quadratics()
    optimum = problem.optimum()
    ours, kept = problem.play(FedDyn(lr=0.1, alpha=1.0), [ALL] * 300, steps=20)
    torch.testing.assert_close(ours.params, optimum, rtol=1e-6, atol=1e-6)
    theirs, _ = problem.play(FedAvg(lr=0.1), [ALL] * 300, steps=20)
    assert (theirs.params - optimum).norm() > 0.05
    for k in ALL:  # what a site keeps is the gradient of its own loss there
        torch.testing.assert_close(kept[k].tensors["slope"], problem.gradient(k, optimum), rtol=1e-5, atol=1e-5)


def test_it_reaches_the_optimum_with_half_of_the_sites_a_round(quadratics, cohorts) -> None:
    problem = quadratics()
    ours, _ = problem.play(FedDyn(lr=0.1, alpha=2.0), cohorts(1200), steps=20)
    torch.testing.assert_close(ours.params, problem.optimum(), rtol=1e-6, atol=1e-6)
