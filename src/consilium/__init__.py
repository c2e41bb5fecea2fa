"""Consilium: federated learning under many defences and adversaries, with evidence of what each one buys.

    import consilium
    results = consilium.Study.quickstart().run("out")
    frame = results.table()
    model, test = results.cells[0].model, results.cells[0].test

Names are imported when they are first used: ``import consilium`` costs no torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .api.results import Results
    from .api.study import Study
    from .report.render.page import write_page
    from .report.render.table import write_csv
    from .study.run.load import load, test_set

__all__ = ["Results", "Study", "load", "test_set", "write_csv", "write_page"]

_HOMES = {
    "Results": "api.results",
    "Study": "api.study",
    "load": "study.run.load",
    "test_set": "study.run.load",
    "write_csv": "report.render.table",
    "write_page": "report.render.page",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'consilium' has no attribute {name!r}")
    return getattr(importlib.import_module(f"consilium.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
