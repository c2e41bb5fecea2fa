"""FedProx against torch.optim on the proximal loss, its fixed point in closed form, and FedAvg where mu is 0."""

from __future__ import annotations

import pytest
import torch

from consilium.federate.algorithms.fed_avg import FedAvg
from consilium.federate.algorithms.fed_prox import FedProx


def plain(problem, cohorts, steps, optimiser, mu):
    """Li et al. 2020, algorithm 2: sites minimise F_k(w) + mu/2 ||w - w_t||^2, the server averages."""
    shared = problem.start
    for cohort in cohorts:
        ends = []
        for k in cohort:
            w = shared.clone().requires_grad_()
            descent = optimiser([w])
            for _ in range(steps):
                descent.zero_grad()
                (problem.loss(k, w) + mu / 2 * (w - shared).square().sum()).backward()
                descent.step()
            ends.append(w.detach())
        shared = torch.stack(ends).mean(0)
    return shared


@pytest.mark.parametrize(
    ("algorithm", "optimiser"),
    [
        (FedProx(lr=0.1, mu=0.5), lambda w: torch.optim.SGD(w, 0.1)),
        (FedProx(lr=0.05, momentum=0.9, mu=0.5), lambda w: torch.optim.SGD(w, 0.05, momentum=0.9)),
        (FedProx(lr=0.05, optimiser="adam", mu=0.5), lambda w: torch.optim.Adam(w, 0.05)),
    ],
    ids=["sgd", "momentum", "adam"],
)
def test_equals_the_pseudocode(quadratics, cohorts, algorithm, optimiser) -> None:
    problem = quadratics()
    server, _ = problem.play(algorithm, cohorts(4), steps=5)
    expected = plain(problem, cohorts(4), 5, optimiser, 0.5)
    torch.testing.assert_close(server.params, expected, rtol=1e-9, atol=1e-9)
    other = plain(problem, cohorts(4), 5, optimiser, 0.6)
    assert not torch.allclose(server.params, other, rtol=1e-4, atol=1e-4)  # the comparison can fail


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_without_pull_it_is_fed_avg(quadratics, cohorts, momentum) -> None:
    ours, _ = quadratics().play(FedProx(lr=0.1, momentum=momentum, mu=0.0), cohorts(3))
    theirs, _ = quadratics().play(FedAvg(lr=0.1, momentum=momentum), cohorts(3))
    assert torch.equal(ours.params, theirs.params)


def test_many_local_steps_end_at_the_proximal_point(quadratics) -> None:
    """One site, one round: (A + mu I)^-1 (A b + mu w_0)."""
    problem, mu = quadratics(sites=1), 2.0
    server, _ = problem.play(FedProx(lr=0.1, mu=mu), [[0]], steps=500)
    A, b = problem.A[0], problem.b[0]
    expected = torch.linalg.solve(A + mu * torch.eye(5, dtype=A.dtype), A @ b + mu * problem.start)
    torch.testing.assert_close(server.params, expected, rtol=1e-9, atol=1e-9)


def test_a_strong_pull_holds_the_sites(quadratics, cohorts) -> None:
    near, _ = quadratics().play(FedProx(lr=0.001, mu=500.0), cohorts(1), steps=50)
    far, _ = quadratics().play(FedProx(lr=0.001, mu=0.0), cohorts(1), steps=50)
    start = quadratics().start
    assert (near.params - start).norm() < 0.2 * (far.params - start).norm()
