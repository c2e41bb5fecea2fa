"""Derived randomness: the address alone decides, and the global generators are left as they were."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import nn

from consilium.core.random import Stream, scoped


def draws(stream, n=5):
    return torch.rand(n, generator=stream.generator()).tolist()


def test_the_same_address_draws_the_same_everywhere():
    stream = Stream(7).child("noise", "site-2", 3)
    assert (
        draws(stream) == draws(Stream(7, ("noise", "site-2", 3))) == draws(Stream(7).child("noise").child("site-2", 3))
    )
    code = "from consilium.core.random import Stream; print(Stream(7).child('noise', 'site-2', 3).number())"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=600).stdout
    assert int(said) == stream.number()


def test_the_order_of_drawing_does_not_matter():
    """A resumed run starts in the middle and draws what the killed one would have drawn."""
    whole = [draws(Stream(0).child("round", r)) for r in range(6)]
    assert [draws(Stream(0).child("round", r)) for r in reversed(range(6))] == whole[::-1]
    assert draws(Stream(0).child("round", 4)) == whole[4]


def test_addresses_do_not_collide():
    root = Stream(1)
    kin = [root, root.child("a"), root.child("b"), root.child("a", "b"), root.child("ab"), root.child("a", 1),
           root.child("a", "1"), root.child("a1"), Stream(2), Stream(11), Stream(1, ("1",))]  # fmt: skip
    numbers = [s.number() for s in kin]
    assert len(set(numbers)) == len(kin) and all(0 <= n < 2**63 for n in numbers)


def test_streams_look_independent():
    """Correlation over 2000 pairs of neighbours, and the mean of first draws, stay within 4.5 standard errors."""
    first = np.array([draws(Stream(0).child("site", k), 1)[0] for k in range(2001)])
    assert abs(np.corrcoef(first[:-1], first[1:])[0, 1]) < 4.5 / 2000**0.5
    assert abs(first.mean() - 0.5) < 4.5 * (1 / 12 / 2001) ** 0.5


def test_a_plain_counter_would_not():
    """What the check above would catch: the same numbers under two purposes."""
    assert draws(Stream(0)) == draws(Stream(0)) != draws(Stream(1))


def test_scoped_leaves_the_global_generator_as_it_was():
    torch.manual_seed(3)
    state = torch.get_rng_state()
    with scoped(Stream(1).child("init")):
        first = nn.Linear(3, 3).weight
        torch.rand(100)
    assert torch.equal(torch.get_rng_state(), state)
    torch.rand(7)
    with scoped(Stream(1).child("init")):
        second = nn.Linear(3, 3).weight
    assert torch.equal(first, second)
    with scoped(Stream(2).child("init")):
        assert not torch.equal(first, nn.Linear(3, 3).weight)


def test_scoped_restores_after_an_error_and_nests():
    state = torch.get_rng_state()
    with pytest.raises(RuntimeError), scoped(Stream(1)):
        torch.rand(1)
        with scoped(Stream(2)):
            torch.rand(1)
        raise RuntimeError
    assert torch.equal(torch.get_rng_state(), state)


def test_a_generator_leaves_the_global_state_alone():
    state = torch.get_rng_state()
    draws(Stream(5))
    assert torch.equal(torch.get_rng_state(), state)
