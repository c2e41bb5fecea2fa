"""A small network trained on scikit-learn's digits, and views of small models."""

import pytest
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional as F

from consilium.core.random import Stream, scoped
from consilium.core.records import Records
from consilium.core.threat import ModelView, RetrainView, Shadow
from consilium.learn.tasks.single_label import SingleLabel


@pytest.fixture(scope="session")
def digits():
    """Train and test records of the digits, in [0, 1]."""
    bunch = load_digits()
    x = torch.tensor(bunch.images / 16, dtype=torch.float32)[:, None]
    y = torch.tensor(bunch.target)
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))
    return tuple(Records.of(x[rows], y[rows]) for rows in (order[:1400], order[1400:]))


def trained(records, seed):
    with scoped(Stream(seed)):
        network = nn.Sequential(
            nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 16, 3, stride=2, padding=1), nn.ReLU(),
            nn.Flatten(), nn.Linear(256, 10),
        )  # fmt: skip
        optimiser = torch.optim.Adam(network.parameters(), 5e-3)
        for _ in range(12):
            for rows in torch.randperm(len(records)).split(100):
                optimiser.zero_grad()
                F.cross_entropy(network(records.x[rows]), records.y[rows]).backward()
                optimiser.step()
    optimiser.zero_grad()
    return network.eval()


@pytest.fixture(scope="session")
def network(digits):
    """A CNN that answers about 97 % of the test digits rightly; its weights require gradients and hold none."""
    return trained(digits[0], 1)


@pytest.fixture(scope="session")
def other_network(digits):
    """The same architecture from another start."""
    return trained(digits[0], 2)


@pytest.fixture(scope="session")
def view(network, digits):
    return ModelView(classes=10, module=network, surrogate=network, targets=digits[1], task=SingleLabel())


@pytest.fixture
def retrain_view():
    """``retrain_view(shape)``: 40 candidates, a linear model, and shadows that know nothing of what they included."""

    def make(shape=(4,), n=40):
        g = torch.Generator().manual_seed(0)
        module = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(torch.Size(shape).numel(), 3))
        records = Records.of(torch.rand(n, *shape, generator=g), torch.randint(3, (n,), generator=g))
        half, places = torch.arange(n) % 2 == 0, torch.arange(n)
        return RetrainView(
            *(3, module, records, half, torch.arange(n) % 4 < 2),
            pool=records,
            site=torch.zeros(n, dtype=torch.long),
            sizes=torch.tensor([n // 2]),
            at=places,
            retrain=lambda masks, seeds: [
                Shadow(3, module, module, records, included=mask, task=SingleLabel()) for mask in masks
            ],
            stream=Stream(0),
            task=SingleLabel(),
        )

    return make
