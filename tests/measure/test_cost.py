"""Ratios on modules whose cost is known, and bytes of real files.  Time passes in those modules alone."""

import random

import pytest
import torch
from torch import nn

from consilium.core.errors import Refused
from consilium.measure import cost
from consilium.measure.cost import latency_ratio, stored_bytes


class Clock:
    """What the measurement reads; a sleep takes up to a tenth more than it should."""

    def __init__(self):
        self.now, self.jitter = 0.0, random.Random(0)

    def perf_counter(self):
        return self.now

    def sleep(self, seconds):
        self.now += seconds * self.jitter.uniform(1.0, 1.1)


@pytest.fixture(autouse=True)
def clock(monkeypatch):
    made = Clock()
    monkeypatch.setattr(cost, "time", made)
    return made


class Sleeper(nn.Module):
    def __init__(self, clock, seconds):
        super().__init__()
        self.clock, self.seconds, self.calls, self.with_gradients = clock, seconds, 0, False

    def forward(self, x):
        self.calls += 1
        self.with_gradients |= torch.is_grad_enabled()
        self.clock.sleep(self.seconds)
        return x


def test_a_known_ratio_is_found(clock):
    slow, fast, threads = Sleeper(clock, 0.006), Sleeper(clock, 0.002), torch.get_num_threads()
    measure = latency_ratio(slow, fast, torch.zeros(1, 1), repeats=15)
    assert measure.value == pytest.approx(3, rel=0.05)
    assert measure.low <= measure.value <= measure.high
    assert (measure.n, measure.name) == (15, "latency_ratio")
    assert slow.calls == fast.calls
    assert not slow.with_gradients
    assert torch.get_num_threads() == threads


def test_equal_modules_cannot_be_told_apart(clock):
    measure = latency_ratio(Sleeper(clock, 0.002), Sleeper(clock, 0.002), torch.zeros(1, 1), repeats=21)
    assert measure.low < 1 < measure.high


def test_a_slow_spell_of_the_machine_hits_both_sides(clock):
    """Timed one after the other these would differ by 2; interleaved they do not: the point of pairing."""

    class Machine:
        calls = 0

    class Shared(nn.Module):
        def forward(self, x):
            Machine.calls += 1
            clock.sleep(0.004 if Machine.calls > 30 else 0.002)
            return x

    assert latency_ratio(Shared(), Shared(), torch.zeros(1, 1), repeats=24).value == pytest.approx(1, abs=0.1)


def test_one_repeat_has_no_interval():
    with pytest.raises(Refused, match="interval"):
        latency_ratio(nn.Identity(), nn.Identity(), torch.zeros(1), repeats=1)


def test_bytes_are_those_that_were_stored():
    measure = stored_bytes(1234)
    assert (measure.name, measure.value, measure.unit, measure.n) == ("bytes", 1234.0, "B", 1)
