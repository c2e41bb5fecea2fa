"""The numbers of a data set that scikit-learn bundles, read from its file without importing scikit-learn.

Importing it takes pandas along where that is installed: a second for every command, to read one small file.
"""

from __future__ import annotations

import gzip
import importlib.metadata
import importlib.util
from pathlib import Path

import numpy as np
import numpy.typing as npt

from consilium.core.errors import Refused

__all__ = ["bundled_rows", "scikit_learn_version"]


def bundled_rows(name: str) -> npt.NDArray[np.float64]:
    """The rows of numbers ``(n, columns)`` in the gzipped CSV file ``name``, which has no header.

    Raises Refused: the installed scikit-learn has no such file.
    """
    spec = importlib.util.find_spec("sklearn")
    places = () if spec is None else spec.submodule_search_locations or ()
    for place in places:
        path = Path(place) / "datasets" / "data" / name
        if path.is_file():
            with gzip.open(path, "rt", encoding="utf-8") as lines:
                return np.loadtxt(lines, delimiter=",")
    raise Refused(f"scikit-learn has no file {name}", remedy="install scikit-learn again: pip install scikit-learn")


def scikit_learn_version() -> str:
    """The version of scikit-learn that is installed."""
    return importlib.metadata.version("scikit-learn")
