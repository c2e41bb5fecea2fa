"""A model under Gaussian noise: its votes, a differentiable mean, and the radius that counted votes prove.

Source: Cohen et al. 2019, Certified Adversarial Robustness via Randomized Smoothing, arXiv 1902.02918 (theorem 1);
Salman et al. 2019, arXiv 1906.04584 (mean of the softmax over draws)
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from scipy import special
from torch import Tensor, nn

from consilium.learn.record_noise import record_noise

__all__ = ["MeanSoftmax", "Votes", "certified_radius", "votes_under_noise"]

_ROWS = 4096
"""Noisy copies that the model is asked at once."""
_FLOOR = 1e-12


class Votes(nn.Module):
    """x -> logarithm of the shares of ``samples`` votes ``(n, classes)``."""

    def __init__(self, model: nn.Module, sigma: float, samples: int) -> None:
        super().__init__()
        self.model, self.sigma, self.samples = model, sigma, samples

    def forward(self, x: Tensor) -> Tensor:
        """``(n, classes)``."""
        with torch.no_grad():
            shares = torch.cat([self._shares(part) for part in torch.split(x, max(1, _ROWS // self.samples))])
        return shares.clamp_min(_FLOOR).log()

    def _shares(self, x: Tensor) -> Tensor:
        logits = _under_noise(self.model, x, self.sigma, self.samples)
        votes = nn.functional.one_hot(logits.argmax(2), logits.shape[2])
        return votes.to(x.dtype).mean(1)


class MeanSoftmax(nn.Module):
    """x -> logarithm of the mean softmax over ``samples`` draws ``(n, classes)``, which has a gradient."""

    def __init__(self, model: nn.Module, sigma: float, samples: int) -> None:
        super().__init__()
        self.model, self.sigma, self.samples = model, sigma, samples

    def forward(self, x: Tensor) -> Tensor:
        """``(n, classes)``."""
        return _under_noise(self.model, x, self.sigma, self.samples).softmax(2).mean(1).clamp_min(_FLOOR).log()


def _under_noise(model: nn.Module, x: Tensor, sigma: float, samples: int) -> Tensor:
    """Logits ``(n, samples, classes)`` of the records under the noise drawn from each."""
    noisy = x[:, None] + sigma * record_noise(x, samples)
    logits: Tensor = model(noisy.flatten(0, 1))
    return logits.reshape(len(x), samples, -1)


def votes_under_noise(model: nn.Module, x: Tensor, sigma: float, samples: int, generator: torch.Generator) -> Tensor:
    """Votes ``(n, classes)`` over fresh noise, on the CPU."""
    counted: list[Tensor] = []
    with torch.no_grad():
        for record in x:
            answers = [model(record + sigma * z.to(x)) for z in _draws(record, samples, generator)]
            logits = torch.cat(answers)
            counted.append(torch.bincount(logits.argmax(1).cpu(), minlength=logits.shape[1]))
    return torch.stack(counted)


def _draws(record: Tensor, samples: int, generator: torch.Generator) -> Iterator[Tensor]:
    """Standard normal noise for one record, as many rows at once as are asked together."""
    for first in range(0, samples, _ROWS):
        rows = min(_ROWS, samples - first)
        yield torch.randn(rows, *record.shape, generator=generator, device=generator.device)


def certified_radius(votes: Tensor, samples: int, sigma: float, failure: float) -> Tensor:
    """L2 radii ``(n,)`` proven by ``votes (n,)`` of ``samples`` for a class; 0 where no majority is proven.

    The bound of Clopper and Pearson, one-sided at ``failure``.
    """
    k = votes.double().numpy()
    lower = special.betaincinv(k.clip(1), samples - k + 1, failure)
    radius = torch.from_numpy(sigma * special.ndtri(lower))
    return radius.masked_fill((votes == 0) | (radius < 0), 0.0)
