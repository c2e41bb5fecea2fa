"""What the tests of update codecs share, one codec between sites and server, and descent through it; and of merges."""

import pytest
import torch

from consilium.core.random import Stream
from consilium.core.update import Update


class Line:
    """One site's connection: what it gives, what the server reads, what stays."""

    def __init__(self, codec, seed=0):
        self.codec, self.seed, self.memory, self.round = codec, seed, {}, 0

    def send(self, delta, **more):
        """The message and what the server reads of it."""
        self.round += 1
        given = Update("site-1", self.round, 3.0, {"delta": delta, **more})
        message, self.memory = self.codec.protect(given, self.memory, Stream(self.seed).child(self.round))
        expected = {name: tuple(t.shape) for name, t in given.payload.items()}
        return message, self.codec.enforce(message, expected)

    def read(self, delta):
        """Only the delta that the server reads."""
        return self.send(delta)[1].payload["delta"]


def descent(codec, pulls, optimum, rounds=1000, lr=0.01):
    """Distance to ``optimum`` after one step a round from 0 at every site, along ``pull(w)``, minus its gradient."""
    lines = [Line(codec, seed) for seed in range(len(pulls))]
    w = torch.zeros_like(optimum)
    for _ in range(rounds):
        w = w + torch.stack([line.read(lr * pull(w)) for line, pull in zip(lines, pulls, strict=True)]).mean(0)
    return float((w - optimum).norm())


@pytest.fixture
def line():
    """``line(codec)``: one site's connection."""
    return Line


@pytest.fixture
def descend():
    """``descend(codec, pulls, optimum)`` -> distance to the optimum."""
    return descent


@pytest.fixture
def draw():
    """``draw(n, seed)``: standard normal numbers."""
    return lambda n, seed=0: torch.randn(n, generator=Stream(seed).generator())


class Merging:
    """Rows as updates, and what a merge rule makes of them."""

    GRID = torch.tensor([[(7 * i * i + 3 * i * j + 5 * j) % 17 - 8 for j in range(4)] for i in range(11)]).double()
    """Eleven rows of which 4 and 9 are forged: the rows that byzfl 0.0.11 was asked about.

    Expected values in the tests of merge rules are its answers in float64, made once in an environment of their own
    with an empty stand-in for torchvision.
    """
    GRID[4] *= -20
    GRID[9] = torch.tensor([300.0, -5.0, 0.0, 40.0])

    @staticmethod
    def updates(rows, weights=None, round=1):
        weights = weights or [1.0] * len(rows)
        return [
            Update(f"site-{i:02}", round, w, {"delta": torch.as_tensor(r), "buffers": torch.as_tensor(r)[:1].clone()})
            for i, (r, w) in enumerate(zip(rows, weights, strict=True))
        ]

    def __call__(self, rule, rows, weights=None, memory=None):
        """The merged delta of ``rows``; ``rule`` is a merge defence or what it merges with."""
        rule = rule.merge() if hasattr(rule, "merge_for") else rule
        return rule.merge(iter(self.updates(rows, weights)), memory or {})[0].payload["delta"]


@pytest.fixture
def merging():
    return Merging()
