"""FedNova against its pseudocode; where sites do unequal work its fixed point is the right one and FedAvg's is not."""

from __future__ import annotations

import pytest
import torch

from consilium.federate.algorithms.fed_avg import FedAvg
from consilium.federate.algorithms.fed_nova import FedNova

ALL = [0, 1, 2, 3]
STEPS = [1, 2, 5, 9]
WEIGHTS = [4.0, 3.0, 2.0, 1.0]


def counted(steps, momentum):
    """||a||_1: how far SGD goes, in learning rates, along a gradient that is always 1."""
    w = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.SGD([w], lr=1.0, momentum=momentum)
    for _ in range(steps):
        w.grad = torch.ones_like(w)
        optimiser.step()
    return -float(w.detach())


def plain(problem, cohorts, lr, momentum, scale=1.0):
    """Wang et al. 2020, equation 7 with tau_eff = sum p_i ||a_i||_1; local work by torch.optim."""
    x = problem.start
    for cohort in cohorts:
        total = sum(WEIGHTS[k] for k in cohort)
        direction, tau_eff = torch.zeros_like(x), 0.0
        for k in cohort:
            w = x.clone().requires_grad_()
            optimiser = torch.optim.SGD([w], lr=lr, momentum=momentum)
            for _ in range(STEPS[k]):
                w.grad = problem.gradient(k, w.detach())
                optimiser.step()
            a = counted(STEPS[k], momentum)
            direction += WEIGHTS[k] / total * (x - w.detach()) / (lr * a)
            tau_eff += WEIGHTS[k] / total * a
        x = x - scale * tau_eff * lr * direction
    return x


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_equals_the_pseudocode(quadratics, cohorts, momentum) -> None:
    problem = quadratics()
    server, _ = problem.play(FedNova(lr=0.05, momentum=momentum), cohorts(5), steps=STEPS, weights=WEIGHTS)
    expected = plain(problem, cohorts(5), 0.05, momentum)
    torch.testing.assert_close(server.params, expected, rtol=1e-9, atol=1e-9)
    other = plain(problem, cohorts(5), 0.05, momentum, scale=1.1)
    assert not torch.allclose(server.params, other, rtol=1e-4, atol=1e-4)  # the comparison can fail


def test_equal_work_is_fed_avg(quadratics, cohorts) -> None:
    ours, _ = quadratics().play(FedNova(lr=0.1, momentum=0.5), cohorts(5), weights=WEIGHTS)
    theirs, _ = quadratics().play(FedAvg(lr=0.1, momentum=0.5), cohorts(5), weights=WEIGHTS)
    torch.testing.assert_close(ours.params, theirs.params, rtol=1e-12, atol=1e-12)


def test_unequal_work_pulls_fed_avg_only(quadratics) -> None:
    """Equal curvature I: both fixed points are known; one is at the weighted optimum, up to O(lr).

    tau steps go the share c = 1 - (1 - lr)^tau of the way to b_k.  FedAvg rests where sum p c (b - w) = 0, FedNova
    where sum p c/tau (b - w) = 0; c/tau is lr (1 + O(lr)), c is not.
    """
    problem, lr, p = quadratics(spread=0.0), 1e-3, torch.tensor(WEIGHTS).double()
    assert torch.equal(problem.A, torch.eye(5, dtype=torch.float64).expand(4, 5, 5))
    c = 1 - (1 - lr) ** torch.tensor(STEPS, dtype=torch.float64)
    rests = {}
    for made, pull in ((FedAvg, p * c), (FedNova, p * c / torch.tensor(STEPS))):
        server, _ = problem.play(made(lr=lr), [ALL] * 6000, steps=STEPS, weights=WEIGHTS)
        rests[made] = server.params
        expected = (pull[:, None] * problem.b).sum(0) / pull.sum()
        torch.testing.assert_close(server.params, expected, rtol=1e-6, atol=1e-6)
    optimum = problem.optimum(WEIGHTS)
    assert (rests[FedNova] - optimum).norm() < 0.01
    assert (rests[FedAvg] - optimum).norm() > 0.3
