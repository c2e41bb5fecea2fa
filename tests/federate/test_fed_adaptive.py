"""FedAdagrad, FedAdam and FedYogi against algorithm 2 of Reddi et al. 2021, coordinate by coordinate."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from consilium.federate.algorithms.fed_adagrad import FedAdagrad
from consilium.federate.algorithms.fed_adam import FedAdam
from consilium.federate.algorithms.fed_avg import FedAvg
from consilium.federate.algorithms.fed_yogi import FedYogi

KNOBS = {"lr": 0.1, "server_lr": 0.1, "tau": 0.01}


def squares(kind, v, d, beta2):
    if kind == "fed-adagrad":
        return v + d * d
    if kind == "fed-adam":
        return beta2 * v + (1 - beta2) * d * d
    return v - (1 - beta2) * d * d * math.copysign(1.0, v - d * d) * (v != d * d)


def plain(problem, cohorts, kind, beta1, beta2=0.0, server_lr=0.1, tau=0.01):
    """Algorithm 2 in plain floats."""
    x, m, v = problem.start.tolist(), [0.0] * 5, [tau**2] * 5
    for cohort in cohorts:
        ends = []
        for k in cohort:
            local = torch.tensor(x, dtype=torch.float64)
            for _ in range(3):
                local -= 0.1 * problem.gradient(k, local)
            ends.append(local.tolist())
        for i in range(5):
            delta = sum(end[i] - x[i] for end in ends) / len(ends)
            m[i] = beta1 * m[i] + (1 - beta1) * delta
            v[i] = squares(kind, v[i], delta, beta2)
            x[i] += server_lr * m[i] / (math.sqrt(v[i]) + tau)
    return torch.tensor(x, dtype=torch.float64)


@pytest.mark.parametrize(
    ("algorithm", "knobs"),
    [
        (FedAdagrad(**KNOBS, beta1=0.3), {"beta1": 0.3}),
        (FedAdam(**KNOBS, beta1=0.8, beta2=0.9), {"beta1": 0.8, "beta2": 0.9}),
        (FedYogi(**KNOBS, beta1=0.8, beta2=0.9), {"beta1": 0.8, "beta2": 0.9}),
    ],
    ids=lambda v: v.kind() if hasattr(v, "kind") else "",
)
def test_equals_the_pseudocode(quadratics, cohorts, algorithm, knobs) -> None:
    problem = quadratics()
    server, _ = problem.play(algorithm, cohorts(6))
    expected = plain(problem, cohorts(6), algorithm.kind(), **knobs)
    torch.testing.assert_close(server.params, expected, rtol=1e-9, atol=1e-9)
    for knob in (*knobs, "tau", "server_lr"):  # every coefficient matters: the comparison can fail
        changed = {**knobs, knob: getattr(algorithm, knob) * 0.9}
        assert not torch.allclose(server.params, plain(problem, cohorts(6), algorithm.kind(), **changed), atol=1e-6)


def test_fed_adagrad_is_torch_adagrad_at_the_server(quadratics, cohorts) -> None:
    problem, (lr, tau) = quadratics(), (0.1, 0.01)
    server, _ = problem.play(FedAdagrad(lr=0.1, server_lr=lr, tau=tau), cohorts(6))
    w = problem.start.clone().requires_grad_()
    optimiser = torch.optim.Adagrad([w], lr=lr, initial_accumulator_value=tau**2, eps=tau)
    for cohort in cohorts(6):
        ends = []
        for k in cohort:
            local = w.detach().clone()
            for _ in range(3):
                local -= 0.1 * problem.gradient(k, local)
            ends.append(local)
        w.grad = w.detach() - torch.stack(ends).mean(0)
        optimiser.step()
    torch.testing.assert_close(server.params, w.detach(), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("made", [FedAdagrad, FedYogi], ids=lambda c: c.kind())
def test_a_large_tau_makes_it_fed_avg(quadratics, cohorts, made) -> None:
    """v is about tau^2, so the step is server-lr / (2 tau) of the mean change."""
    ours, _ = quadratics().play(made(lr=0.1, server_lr=90.0, beta1=0.0, tau=45.0), cohorts(3))
    theirs, _ = quadratics().play(FedAvg(lr=0.1), cohorts(3))
    torch.testing.assert_close(ours.params, theirs.params, rtol=1e-2, atol=1e-3)


def test_without_memory_fed_adam_follows_signs(quadratics, cohorts) -> None:
    """beta1 = beta2 = 0 and a small tau: every coordinate moves by the server's learning rate."""
    algorithm = FedAdam(lr=0.1, server_lr=0.1, beta1=0.0, beta2=0.0, tau=1e-10)
    server, _ = quadratics().play(algorithm, cohorts(1))
    theirs, _ = quadratics().play(FedAvg(lr=0.1), cohorts(1))
    start = quadratics().start
    torch.testing.assert_close(server.params - start, 0.1 * (theirs.params - start).sign())


def test_yogi_forgets_slower_than_adam() -> None:
    """After a large change come small ones: Adam's v falls by a share of itself, Yogi's by a share of the small one."""
    large, small = torch.tensor([1.0]), torch.tensor([1e-4])
    adam, yogi = (made(beta2=0.9).squares(large, small) for made in (FedAdam, FedYogi))
    assert float(adam) == pytest.approx(0.9, abs=1e-4)
    assert float(yogi) == pytest.approx(1 - 1e-5, abs=1e-7)
    assert float(replace(FedYogi(), beta2=0.9).squares(small, large)) == pytest.approx(0.1001, abs=1e-6)
