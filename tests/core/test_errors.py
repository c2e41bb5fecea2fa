"""Errors: one line, a reason, a remedy, a place, an exit code; they survive a process boundary."""

import pickle

import pytest

from consilium.core.errors import ConsiliumError, Failed, MissingExtra, Refused, Unlawful


def test_an_item_follows_its_place_directly():
    assert str(Refused("no", where="[y]").at("data")) == "data[y]: no."
    assert str(Refused("no", where="y").at("data")) == "data.y: no."


def test_the_line():
    assert str(Refused("too big.", remedy="use less.", where="data.x")) == "data.x: too big. Use less."
    assert str(Refused("too big")) == "too big."


def test_a_place_is_prefixed_and_the_rest_kept():
    inner = Unlawful("law 2", remedy="merge by the mean", where="merge")
    outer = inner.at("arms[3]").at("study.toml")
    assert type(outer) is Unlawful and outer.where == "study.toml.arms[3].merge" and outer.remedy == inner.remedy
    assert Refused("x").at("here").where == "here"


def test_an_unlawful_combination_carries_its_law():
    error = pickle.loads(pickle.dumps(Unlawful("too few records", law=7, remedy="use more"))).at("arms[1]")
    assert (error.law, error.cause, error.reason) == (7, "too few records", "too few records (LAWS 7)")
    assert str(error) == "arms[1]: too few records (LAWS 7). Use more."
    assert Unlawful("named twice").law is None


@pytest.mark.parametrize(
    ("kind", "code"), [(ConsiliumError, 3), (Failed, 3), (Refused, 2), (Unlawful, 2), (MissingExtra, 2)]
)
def test_exit_codes(kind, code):
    assert kind("x").exit_code == code and issubclass(kind, ConsiliumError)


@pytest.mark.parametrize("kind", [Failed, Refused, Unlawful, MissingExtra])
def test_they_cross_a_process_boundary(kind):
    """What a worker raises must arrive as it was: multiprocessing pickles errors."""
    error = kind("reason", remedy="remedy", where="where")
    back = pickle.loads(pickle.dumps(error))
    assert type(back) is kind and str(back) == str(error)
