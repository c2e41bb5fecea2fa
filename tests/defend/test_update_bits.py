"""Packed bits against one long Python integer, and back."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from consilium.core.errors import Refused
from consilium.defend.update._bits import pack_bits, packed_length, unpack_bits


def long_integer(numbers, width):
    """The oracle: number i stands at bit i * width of one integer, little end first."""
    whole = sum(number << (i * width) for i, number in enumerate(numbers))
    return whole.to_bytes(-(-len(numbers) * width // 8), "little")


@st.composite
def some(draw):
    width = draw(st.integers(1, 16))
    return width, draw(st.lists(st.integers(0, 2**width - 1), max_size=70))


@settings(deadline=None)
@given(some())
def test_round_trip_and_oracle(of):
    width, numbers = of
    packed = pack_bits(torch.tensor(numbers, dtype=torch.int32), width)
    assert packed.dtype == torch.uint8 and len(packed) == packed_length(len(numbers), width)
    assert bytes(packed.tolist()) == long_integer(numbers, width)
    assert unpack_bits(packed, len(numbers), width).tolist() == numbers


def test_the_oracle_would_notice_another_order():
    numbers = [1, 2, 3, 4, 5]
    assert bytes(pack_bits(torch.tensor(numbers[::-1]), 3).tolist()) != long_integer(numbers, 3)


def test_there_is_one_message_for_one_content():
    packed = pack_bits(torch.tensor([1, 0, 1]), 1)
    packed[0] |= 0b1000
    with pytest.raises(Refused, match="padding"):
        unpack_bits(packed, 3, 1)
