"""What every engine trains: the same module, start, records, batch, cohort and rate of learning.

Fashion-MNIST (Xiao et al. 2017) is dealt out by one permutation, sites in a row; ``planted`` is a small stand-in of ten
Gaussian classes for machines without it.  A module is built once under a fixed seed and copied by whoever trains it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from consilium.core.random import Stream, scoped
from consilium.data.dataset import TEST, TRAIN
from consilium.data.sources.fashion_mnist import FashionMNIST
from consilium.learn.architecture import Normalise
from consilium.learn.models.logistic import Logistic
from consilium.learn.models.mlp import MLP
from consilium.learn.models.resnet9 import ResNet9

SEED = 0
CLASSES = 10


@dataclass(frozen=True)
class Job:
    """One training that all engines do: ``sites`` of ``records`` each, a cohort, one epoch of SGD a round.

    ``rounds`` are run before any timing, and then the accuracy on the test records is compared.
    """

    name: str
    rounds: int
    sites: int = 100
    records: int = 600
    cohort: int = 10
    batch: int = 32
    lr: float = 0.1
    data: str = "fashion-mnist"
    tested: int = 10_000

    @property
    def model(self) -> str:
        """``sites-1000`` trains the model of ``logistic``."""
        return "logistic" if self.name.startswith("sites") else self.name

    @property
    def shape(self) -> tuple[int, int, int]:
        """ResNet-9 reads 3 x 32 x 32."""
        return (3, 32, 32) if self.model == "resnet9" else (1, 28, 28)

    def module(self) -> nn.Module:
        """The untrained module; the same numbers in every process."""
        with scoped(Stream(SEED).child("init")):
            return MODELS[self.model]()

    def members(self, round_: int) -> list[int]:
        """The cohort of a round for engines that let the caller choose."""
        order = torch.randperm(self.sites, generator=Stream(SEED).child("cohort", round_).generator())
        return sorted(order[: self.cohort].tolist())

    def of(self, site: int) -> tuple[Tensor, Tensor]:
        """The records of one site: x ``(n, c, h, w)`` and y ``(n,)``; beyond the last record the deal begins anew."""
        x, y = _dealt(self.data)
        start = site * self.records % (len(y) // self.records * self.records)
        rows = slice(start, start + self.records)
        return _fitted(x[rows], self.shape), y[rows]

    def test(self) -> tuple[Tensor, Tensor]:
        """The first ``tested`` test records."""
        x, y = _records(self.data)[1]
        return _fitted(x[: self.tested], self.shape), y[: self.tested]

    def accuracy(self, module: nn.Module) -> float:
        """Share of right answers on the test records, by one function for all engines."""
        x, y = self.test()
        module.eval()
        with torch.no_grad():
            right = sum(int((module(a).argmax(1) == b).sum()) for a, b in zip(x.split(500), y.split(500), strict=True))
        return right / len(y)


def cnn() -> nn.Module:
    """46,730 parameters: two 5 x 5 convolutions (16, 32) with pooling, and 64 hidden units."""
    return nn.Sequential(
        *(Normalise(), nn.Conv2d(1, 16, 5), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(16, 32, 5), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Flatten(), nn.Linear(512, 64), nn.ReLU(), nn.Linear(64, CLASSES)),
    )


MODELS: Mapping[str, Callable[[], nn.Module]] = {
    "logistic": lambda: Logistic().build((1, 28, 28), CLASSES),
    "mlp": lambda: MLP(hidden=64).build((1, 28, 28), CLASSES),
    "cnn": cnn,
    "resnet9": lambda: ResNet9(width=32).build((3, 32, 32), CLASSES),
}

JOBS = {
    "logistic": Job("logistic", rounds=40, lr=0.03),
    "mlp": Job("mlp", rounds=40),
    "cnn": Job("cnn", rounds=20),
    "resnet9": Job("resnet9", rounds=16, sites=4, cohort=4, records=128, lr=0.003, tested=1000),
}
SITES = {n: Job(f"sites-{n}", rounds=3, sites=n, records=20, batch=10) for n in (10, 100, 1_000, 10_000)}


def shrunk(job: Job) -> Job:
    """A look at whether all works; nothing is measured well."""
    return replace(job, rounds=2, sites=min(job.sites, 20), records=64, cohort=min(job.cohort, 4), tested=500)


@cache
def _records(data: str) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Training and test records, both once per process."""
    if data == "planted":
        return _planted(6000, 1), _planted(1000, 2)
    made = FashionMNIST().load()
    assert made.split is not None
    parts = (made.records.select(made.split == which) for which in (TRAIN, TEST))
    train, test = ((part.x, part.y) for part in parts)
    return train, test


def _planted(n: int, part: int) -> tuple[Tensor, Tensor]:
    centres = torch.rand(CLASSES, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    own = torch.Generator().manual_seed(part)
    y = torch.randint(CLASSES, (n,), generator=own)
    return (centres[y] + 0.5 * torch.randn(n, 1, 28, 28, generator=own)).clamp(0, 1), y


@cache
def _dealt(data: str) -> tuple[Tensor, Tensor]:
    """The training records in the order of the deal: a site's are neighbours."""
    x, y = _records(data)[0]
    order = torch.randperm(len(y), generator=Stream(SEED).child("deal").generator())
    return x[order], y[order]


def _fitted(x: Tensor, shape: tuple[int, int, int]) -> Tensor:
    """Grey 28 x 28 as it is, or padded to 32 x 32 and put in three channels."""
    if tuple(x.shape[1:]) == shape:
        return x
    return F.pad(x, (2, 2, 2, 2)).expand(-1, 3, -1, -1).contiguous()
