"""Ratios on modules whose cost is known, and bytes of real files."""

import time

import pytest
import torch
from torch import nn

from consilium.core.errors import Refused
from consilium.measure.cost import latency_ratio, stored_bytes


class Sleeper(nn.Module):
    def __init__(self, seconds):
        super().__init__()
        self.seconds, self.calls, self.with_gradients = seconds, 0, False

    def forward(self, x):
        self.calls += 1
        self.with_gradients |= torch.is_grad_enabled()
        time.sleep(self.seconds)
        return x


def test_a_known_ratio_is_found():
    slow, fast, threads = Sleeper(0.006), Sleeper(0.002), torch.get_num_threads()
    measure = latency_ratio(slow, fast, torch.zeros(1, 1), repeats=15)
    assert 2.0 < measure.value < 3.3
    assert measure.low <= measure.value <= measure.high
    assert (measure.n, measure.name) == (15, "latency_ratio")
    assert slow.calls == fast.calls
    assert not slow.with_gradients
    assert torch.get_num_threads() == threads


def test_equal_modules_cannot_be_told_apart():
    measure = latency_ratio(Sleeper(0.002), Sleeper(0.002), torch.zeros(1, 1), repeats=21)
    assert measure.low < 1.1
    assert measure.high > 0.9


def test_a_slow_spell_of_the_machine_hits_both_sides():
    """Timed one after the other these would differ by 2; interleaved they do not: the point of pairing."""

    class Machine:
        calls = 0

    class Shared(nn.Module):
        def forward(self, x):
            Machine.calls += 1
            time.sleep(0.004 if Machine.calls > 30 else 0.002)
            return x

    assert latency_ratio(Shared(), Shared(), torch.zeros(1, 1), repeats=24).value == pytest.approx(1, abs=0.25)


def test_one_repeat_has_no_interval():
    with pytest.raises(Refused, match="interval"):
        latency_ratio(nn.Identity(), nn.Identity(), torch.zeros(1), repeats=1)


def test_bytes_are_those_of_the_file(tmp_path):
    (tmp_path / "model").write_bytes(b"x" * 1234)
    assert stored_bytes(tmp_path / "model").value == 1234
    with pytest.raises(Refused, match="no stored model"):
        stored_bytes(tmp_path / "gone")
