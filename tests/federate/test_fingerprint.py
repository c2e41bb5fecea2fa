"""Whose records a study learns from: by content, whatever their order, numbers and labels."""

import pytest
import torch

from consilium.core.errors import Refused
from consilium.core.records import Records
from consilium.deploy.site.record_tokens import fingerprint, split_tokens

KEY = bytes(32)


def records(n=40, seed=1, units=None):
    g = torch.Generator().manual_seed(seed)
    return Records.of(torch.rand(n, 4, generator=g), torch.randint(2, (n,), generator=g), units)


def test_a_fingerprint_is_of_the_set_of_records():
    data = records()
    shuffled = data.select(torch.randperm(40, generator=torch.Generator().manual_seed(3)))
    renumbered = Records.of(shuffled.x.reshape(40, 2, 2), 1 - shuffled.y)
    one, two, three = (fingerprint(d, KEY) for d in (data, shuffled, renumbered))
    assert one.digest() == two.digest() == three.digest() and len({f.order for f in (one, two, three)}) == 3
    assert fingerprint(data, bytes([1] * 32)).digest() != one.digest()
    assert fingerprint(data.select(torch.arange(39)), KEY).digest() != one.digest()


def test_negative_zero_and_no_records_and_wrong_names():
    zero = Records.of(torch.zeros(1, 2), torch.zeros(1, dtype=torch.long))
    minus = Records.of(-torch.zeros(1, 2), torch.zeros(1, dtype=torch.long))
    assert fingerprint(zero, KEY).digest() == fingerprint(minus, KEY).digest()
    with pytest.raises(Refused, match="no training records"):
        fingerprint(records().select(torch.arange(0)), KEY)
    with pytest.raises(Refused, match="2 names for 40 records"):
        fingerprint(records(), KEY, ["a", "b"])


def test_persons_are_units_and_the_cases_are_the_largest_ones():
    data = records(4, units=torch.tensor([0, 0, 1, 2]))
    made = fingerprint(data, KEY)
    assert sorted(map(len, made.persons)) == [1, 1, 2] and made.n == 4
    tokens = [fingerprint(data.select(torch.tensor([k])), KEY).tokens() for k in range(4)]
    known = {"a": split_tokens(tokens[0]), "b": split_tokens(tokens[1] + tokens[2]), "c": split_tokens(tokens[3])}
    assert made.shares(known) == {frozenset("ab"), frozenset("c")}, "b alone is part of a and b"
    assert made.shares({}) == {frozenset()} == fingerprint(records(3, seed=9), KEY).shares(known)
