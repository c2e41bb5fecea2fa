"""What the tests of update codecs share: one codec between sites and server, and descent through it."""

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
