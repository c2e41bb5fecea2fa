"""Sites whose losses are quadratics, and rounds over them: optima are known in closed form, gradients are exact.

F_k(w) = (w - b_k)' A_k (w - b_k) / 2        A_k positive definite, different at every site, in float64
"""

from __future__ import annotations

import torch
from torch import nn

from consilium.core.algorithm import AlgorithmState
from consilium.core.gradient import Gradient
from consilium.core.network import Network
from consilium.core.update import Update
from consilium.federate.round.weighted_mean import WeightedMean


class Quadratics:
    """``sites`` losses of ``size`` variables; ``spread`` says how different their curvatures are."""

    def __init__(self, sites=4, size=5, spread=1.0, seed=0):
        generator = torch.Generator().manual_seed(seed)
        self.sites = sites
        self.b = torch.randn(sites, size, generator=generator, dtype=torch.float64)
        roots = spread * torch.randn(sites, size, size, generator=generator, dtype=torch.float64) / size**0.5
        self.A = roots @ roots.mT + torch.eye(size, dtype=torch.float64)
        module = nn.Module()
        module.w = nn.Parameter(torch.full((size,), 0.5, dtype=torch.float64))
        self.network = Network(module)

    @property
    def start(self):
        return self.network.start()[0]

    def loss(self, k, w):
        return (w - self.b[k]) @ self.A[k] @ (w - self.b[k]) / 2

    def gradient(self, k, w):
        return self.A[k] @ (w - self.b[k])

    def optimum(self, weights=None):
        """Where the weighted sum of the losses is smallest."""
        p = torch.ones(self.sites, dtype=torch.float64) if weights is None else torch.tensor(weights).double()
        summed = (p[:, None, None] * self.A).sum(0)
        return torch.linalg.solve(summed, (p[:, None] * (self.A @ self.b[..., None])[..., 0]).sum(0))

    def play(self, algorithm, cohorts, steps=3, weights=None):
        """(server, what the sites keep) after one round per cohort; ``steps`` local ones, or one number per site."""
        algorithm = algorithm.bound(self.network)
        server, kept = algorithm.start(self.network, self.sites), {}
        for cohort in cohorts:
            sent = algorithm.broadcast(server)
            updates = []
            for k in cohort:
                work = algorithm.begin(
                    sent, kept.get(k, AlgorithmState()), steps if isinstance(steps, int) else steps[k]
                )
                for _ in range(work.planned):
                    work = algorithm.step(work, Gradient(self.gradient(k, work.params), work.buffers))
                payload, kept[k] = algorithm.finish(sent, work)
                assert {name: tuple(t.shape) for name, t in payload.items()} == dict(algorithm.expects(server))
                updates.append(Update(str(k), sent.round, 1.0 if weights is None else weights[k], payload))
            server = algorithm.advance(server, WeightedMean().merge(updates, {})[0])
        return server, kept


def cohorts(rounds, sites=4, size=2, seed=1):
    """``rounds`` cohorts of ``size`` of the sites; every site is in one at least."""
    generator = torch.Generator().manual_seed(seed)
    drawn = [sorted(torch.randperm(sites, generator=generator)[:size].tolist()) for _ in range(rounds)]
    return [[0, 1], [2, 3], *drawn][:rounds] if (sites, size) == (4, 2) else drawn
