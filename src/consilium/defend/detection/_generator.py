"""A small generator trained against a critic (Wasserstein, with a gradient penalty), and the projection on its range.

    critic   minimise  D(G(z)) - D(x) + 10 (|grad D| - 1)^2 on lines between both        generator   minimise  -D(G(z))
    projection of x    G(z*), z* the best of several starts of gradient steps on |G(z) - x|^2 (Adam, in float64)

In float64 a record is projected to the same point in any batch.

Source: Gulrajani et al. 2017, Improved Training of Wasserstein GANs, arXiv 1704.00028
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from consilium.core.random import Stream, scoped

__all__ = ["generated", "projected", "trained_generator"]

_BATCH, _RATE, _CRITIC_STEPS, _PENALTY = 64, 2e-3, 3, 10.0
_STEP, _MOMENTUM, _SQUARES, _TINY = 0.1, 0.9, 0.99, 1e-8


def generated(z: Tensor, parts: Sequence[Tensor]) -> Tensor:
    """Inputs ``(n, d)`` in [0, 1] from latents ``z (n, k)``; ``parts`` are weights ``(in, out)`` and biases in turn."""
    layers = list(zip(parts[::2], parts[1::2], strict=True))
    for weight, bias in layers[:-1]:
        z = (z @ weight + bias).relu()
    return (z @ layers[-1][0] + layers[-1][1]).sigmoid()


def trained_generator(x: Tensor, latent: int, hidden: int, steps: int, stream: Stream) -> list[Tensor]:
    """The parts of a generator of what is like ``x (n, d)``."""
    d, draws = x.shape[1], stream.child("batches").generator()
    with scoped(stream.child("start")):
        network = nn.Sequential(*_layers(latent, hidden, nn.ReLU()), nn.Linear(hidden, d), nn.Sigmoid())
        critic = nn.Sequential(*_layers(d, hidden, nn.LeakyReLU(0.2)), nn.Linear(hidden, 1))
    ours, theirs = (torch.optim.Adam(net.parameters(), _RATE, betas=(0.5, 0.9)) for net in (network, critic))
    with torch.enable_grad():
        for _ in range(steps):
            for _ in range(_CRITIC_STEPS):
                real = x[torch.randint(len(x), (_BATCH,), generator=draws)]
                fake = network(torch.randn(_BATCH, latent, generator=draws)).detach()
                mixed = torch.rand(_BATCH, 1, generator=draws)
                _descend(theirs, critic, _criticism(critic, real, fake, mixed * real + (1 - mixed) * fake))
            _descend(ours, network, -critic(network(torch.randn(_BATCH, latent, generator=draws))).mean())
    linear = [layer for layer in network if isinstance(layer, nn.Linear)]
    return [part for layer in linear for part in (layer.weight.detach().T.contiguous(), layer.bias.detach())]


def projected(x: Tensor, parts: Sequence[Tensor], starts: Tensor, steps: int) -> Tensor:
    """For each of ``x (n, d)`` the nearest point of the generator's range found from latents ``starts (r, k)``."""
    n, r = len(x), len(starts)
    parts = [part.detach().double() for part in parts]
    wanted, z = x.detach().double().repeat_interleave(r, 0), starts.double().repeat(n, 1)
    mean, square = torch.zeros_like(z), torch.zeros_like(z)
    for step in range(1, steps + 1):
        with torch.enable_grad():
            leaf = z.requires_grad_(True)
            (gradient,) = torch.autograd.grad((generated(leaf, parts) - wanted).square().sum(), leaf)
        mean = _MOMENTUM * mean + (1 - _MOMENTUM) * gradient
        square = _SQUARES * square + (1 - _SQUARES) * gradient.square()
        size = (square / (1 - _SQUARES**step)).sqrt() + _TINY
        z = z.detach() - _STEP * mean / (1 - _MOMENTUM**step) / size
    with torch.no_grad():
        points = generated(z, parts)
        nearest = (points - wanted).square().sum(1).view(n, r).argmin(1)
        return points.view(n, r, -1)[torch.arange(n, device=x.device), nearest].to(x.dtype)


def _layers(inputs: int, hidden: int, activation: nn.Module) -> tuple[nn.Module, ...]:
    return nn.Linear(inputs, hidden), activation, nn.Linear(hidden, hidden), activation


def _criticism(critic: nn.Module, real: Tensor, fake: Tensor, between: Tensor) -> Tensor:
    leaf = between.requires_grad_(True)
    (slope,) = torch.autograd.grad(critic(leaf).sum(), leaf, create_graph=True)
    penalty = (torch.linalg.vector_norm(slope, dim=1) - 1).square().mean()
    loss: Tensor = critic(fake).mean() - critic(real).mean() + _PENALTY * penalty
    return loss


def _descend(optimiser: torch.optim.Optimizer, network: nn.Module, loss: Tensor) -> None:
    parameters = list(network.parameters())
    gradients = torch.autograd.grad(loss, parameters, allow_unused=True)
    for parameter, gradient in zip(parameters, gradients, strict=True):
        parameter.grad = gradient
    optimiser.step()
