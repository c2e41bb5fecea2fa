"""The model that every attack of benchmarks/evasion.py is run on: a small network for Fashion-MNIST, trained to resist.

One plain epoch, then FGSM from a random start, radius .1, four epochs of 20,000 images (Wong et al. 2020, arXiv
2001.03994), from one seed.
"""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_model, save_model
from torch import Tensor, nn
from torch.nn import functional as F

from consilium.core.random import Stream, scoped
from consilium.core.records import Records
from consilium.data.dataset import TEST, TRAIN
from consilium.data.sources.fashion_mnist import FashionMNIST
from consilium.learn.perturbation.goals import Misclassification
from consilium.learn.perturbation.linf import Linf
from consilium.learn.perturbation.losses import CrossEntropyLoss
from consilium.learn.perturbation.maximise import maximise
from consilium.learn.tasks.single_label import SingleLabel

__all__ = ["attacked_model", "attacked_records"]

_RADIUS, _TRAINED_ON, _EPOCHS, _BATCH = 0.1, 20_000, 4, 128


def attacked_records(n: int) -> Records:
    """The first ``n`` test records."""
    return _split(TEST).select(torch.arange(n))


def attacked_model(weights: Path | None) -> nn.Module:
    """The trained network; read from ``weights`` where that is there, else trained and kept there."""
    with scoped(Stream(0)):
        network = _network()
        if weights is not None and weights.exists():
            load_model(network, weights)
        else:
            _train(network)
    if weights is not None and not weights.exists():
        save_model(network, str(weights))
    return network.eval()


def _split(split: int) -> Records:
    data = FashionMNIST().load()
    assert data.split is not None
    return data.records.select(torch.nonzero(data.split == split)[:, 0])


def _network() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, stride=2, padding=1), nn.ReLU(), nn.Conv2d(16, 32, 3, stride=2, padding=1), nn.ReLU(),
        nn.Flatten(), nn.Linear(1568, 64), nn.ReLU(), nn.Linear(64, 10),
    )  # fmt: skip


def _train(network: nn.Module) -> None:
    train, optimiser = _split(TRAIN), torch.optim.Adam(network.parameters(), 1e-3)
    noise = torch.Generator().manual_seed(0)
    for epoch in range(1 + _EPOCHS):
        for rows in torch.split(torch.randperm(len(train.x))[:_TRAINED_ON], _BATCH):
            x, y = train.x[rows], train.y[rows]
            optimiser.zero_grad()
            F.cross_entropy(network(_perturbed(network, x, y, noise) if epoch else x), y).backward()
            optimiser.step()
    optimiser.zero_grad(set_to_none=True)


def _perturbed(network: nn.Module, x: Tensor, y: Tensor, noise: torch.Generator) -> Tensor:
    return maximise(
        network, x, y, ball=Linf(_RADIUS), steps=1, step_size=1.25 * _RADIUS, generator=noise,
        loss=CrossEntropyLoss(), goal=Misclassification(SingleLabel()),
    )  # fmt: skip
