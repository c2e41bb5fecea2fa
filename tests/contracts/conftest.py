"""What every contract suite asks of every entry, whatever it does.

A check takes the catalogue's card and an instance with its defaults, and raises ``AssertionError`` where the entry
breaks its word.  Nothing here names an entry: a file dropped into a room is covered as it is.
"""

import contextlib
import json
import random
import tomllib

import numpy as np
import pytest
import torch
from pydantic import TypeAdapter
from torch import nn


class Contract:
    """Checks and tools that the suites share; handed to them by the fixture ``contract``."""

    seeds = range(20)
    level = 1e-4

    @staticmethod
    def documented(card):
        """A sentence of documentation and a source."""
        assert card.doc.strip().endswith(".") and len(card.doc) <= 120, "needs a one-line doc that is a sentence"
        assert card.source.strip(), "needs a line 'Source: ...'"

    @staticmethod
    def round_trips(entry):
        """configuration() -> TOML text -> pydantic -> an equal entry."""
        given = {key: value for key, value in entry.configuration().items() if value is not None}
        assert given.pop("kind") == entry.kind()
        read = tomllib.loads("".join(f"{key} = {_toml(value)}\n" for key, value in given.items()))
        knobs = {key.replace("-", "_"): value for key, value in read.items()}
        again = TypeAdapter(type(entry)).validate_json(json.dumps(knobs))
        assert again == entry, f"{again!r} came back for {entry!r}"

    @staticmethod
    def same(one, other):
        """Equal findings: measures, scores and examples, to the last bit."""
        assert one.measures == other.measures
        for ours, theirs in ((one.scores, other.scores), (one.examples, other.examples)):
            assert ours.keys() == theirs.keys()
            assert all(torch.equal(ours[key], theirs[key]) for key in ours)

    @staticmethod
    @contextlib.contextmanager
    def untouched(*things):
        """Modules (weights, buffers, ``.grad``, mode), tensors and every global generator stay as they were."""
        before = [_state(thing) for thing in things]
        generators = _generators()
        yield
        for thing, state in zip(things, before, strict=True):
            assert _equal(_state(thing), state), f"{type(thing).__name__} was changed"
        assert all(_equal(a, b) for a, b in zip(_generators(), generators, strict=True)), "a global generator was used"

    @staticmethod
    def refuses(call, *said):
        """``call`` raises one clear line that holds every one of ``said``."""
        try:
            call()
        except Exception as error:
            text = str(error)
            assert type(error).__name__ == "Refused", f"{type(error).__name__}: {text}"
            assert "\n" not in text and all(word in text for word in said), text
        else:
            raise AssertionError("it was not refused")


def _toml(value):
    return "[" + ", ".join(map(_toml, value)) + "]" if isinstance(value, list) else json.dumps(value)


def _state(thing):
    if isinstance(thing, nn.Module):
        grads = [(name, p.grad) for name, p in thing.named_parameters()]
        modes = [(name, m.training) for name, m in thing.named_modules()]
        return [(k, v.clone()) for k, v in thing.state_dict().items()], _cloned(grads), modes
    return thing.clone()


def _cloned(grads):
    return [(name, None if grad is None else grad.clone()) for name, grad in grads]


def _generators():
    return [torch.get_rng_state(), torch.tensor(np.random.get_state()[1].astype(np.int64)), list(random.getstate()[1])]


def _equal(one, other):
    if isinstance(one, torch.Tensor) or isinstance(other, torch.Tensor):
        return isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor) and torch.equal(one, other)
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(_equal(a, b) for a, b in zip(one, other, strict=True))
    return one == other


@pytest.fixture(scope="session")
def contract():
    return Contract
