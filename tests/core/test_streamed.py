"""A mapping whose values are computed while they are read."""

import pytest

from consilium.core.streamed import Streamed


def test_values_are_computed_when_they_are_read_and_anew_each_time() -> None:
    computed = []

    def read():
        for name in ("a", "b", "c"):
            computed.append(name)
            yield name, name * 2

    streamed = Streamed(("a", "b", "c"), read)
    assert (list(streamed), len(streamed), "b" in streamed, "z" in streamed) == (["a", "b", "c"], 3, True, False)
    assert not computed, "asking who is there computes nothing"
    assert next(iter(streamed.items())) == ("a", "aa")
    assert computed == ["a"]
    assert dict(streamed.items()) == {"a": "aa", "b": "bb", "c": "cc"} and len(computed) == 4
    assert streamed["b"] == "bb" and computed[4:] == ["a", "b"]
    with pytest.raises(KeyError):
        streamed["z"]
