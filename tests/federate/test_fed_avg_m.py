"""FedAvgM: the server's step is torch.optim.SGD's with momentum on the negative mean change."""

from __future__ import annotations

import pytest
import torch

from consilium.federate.algorithms.fed_avg import FedAvg
from consilium.federate.algorithms.fed_avg_m import FedAvgM


def plain(problem, cohorts, beta, server_lr, weights):
    """Hsu et al. 2019, section 4.3."""
    w = problem.start.clone().requires_grad_()
    server = torch.optim.SGD([w], lr=server_lr, momentum=beta)
    for cohort in cohorts:
        total, w.grad = sum(weights[k] for k in cohort), torch.zeros_like(w)
        for k in cohort:
            local = w.detach().clone()
            for _ in range(3):
                local -= 0.1 * problem.gradient(k, local)
            w.grad += weights[k] / total * (w.detach() - local)
        server.step()
    return w.detach()


@pytest.mark.parametrize(("beta", "server_lr"), [(0.9, 0.5), (0.5, 1.0)])
def test_equals_the_pseudocode(quadratics, cohorts, beta, server_lr) -> None:
    problem, weights = quadratics(), [1.0, 2.0, 3.0, 4.0]
    algorithm = FedAvgM(lr=0.1, server_lr=server_lr, server_momentum=beta)
    server, _ = problem.play(algorithm, cohorts(5), weights=weights)
    expected = plain(problem, cohorts(5), beta, server_lr, weights)
    torch.testing.assert_close(server.params, expected, rtol=1e-9, atol=1e-9)
    other = plain(problem, cohorts(5), beta + 0.05, server_lr, weights)
    assert not torch.allclose(server.params, other, rtol=1e-4, atol=1e-4)  # the comparison can fail


def test_without_momentum_it_is_fed_avg(quadratics, cohorts) -> None:
    ours, _ = quadratics().play(FedAvgM(lr=0.1, momentum=0.5, server_momentum=0.0), cohorts(4))
    theirs, _ = quadratics().play(FedAvg(lr=0.1, momentum=0.5), cohorts(4))
    assert torch.equal(ours.params, theirs.params)
