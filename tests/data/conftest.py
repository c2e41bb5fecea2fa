"""A small data set of any make, shared by the tests of this room."""

import os
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from consilium.core.records import Records
from consilium.data.dataset import Dataset
from consilium.data.source import Source


@dataclass(frozen=True)
class Held(Source):
    """A source that hands over what it holds."""

    dataset: Dataset

    def load(self):
        return self.dataset


def make(x=None, y=(0, 1), *, units=None, split=None, keys=None, classes=None, **more):
    """A data set of labels ``y``; inputs are all different unless given."""
    y = torch.as_tensor(list(y))
    n = len(y)
    x = torch.arange(n, dtype=torch.float32)[:, None] / n if x is None else torch.as_tensor(x, dtype=torch.float32)
    units = None if units is None else torch.as_tensor(list(units))
    return Dataset(
        name="toy",
        records=Records.of(x, y, units),
        split=None if split is None else torch.as_tensor(list(split), dtype=torch.int8),
        keys=None if keys is None else torch.as_tensor(list(keys)),
        classes=tuple(classes or (str(k) for k in range(int(y.max()) + 1))),
        provenance="made here",
        bundled=True,
        **more,
    )


@pytest.fixture(scope="session")
def toy():
    return make


@pytest.fixture(scope="session")
def held():
    return lambda *arguments, **more: Held(make(*arguments, **more))


@pytest.fixture(scope="session")
def real():
    """The folder of real files; the test is skipped without it."""
    folder = os.environ.get("CONSILIUM_DATA")
    if not folder:
        pytest.skip("CONSILIUM_DATA is not set: no real files to test on")
    return Path(folder)
