"""A user's files as a fresh process would import them: what they draw or compute at import is drawn again.

A file that draws weights when it is imported gives equal answers within one process, and other ones in the next.
"""

from __future__ import annotations

import sys
import sysconfig
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from types import ModuleType

__all__ = ["imported_afresh"]


@contextmanager
def imported_afresh() -> Iterator[tuple[str, ...]]:
    """Within the block imports run a user's files again; afterwards ``sys.modules`` is restored.  Yields their names.

    A user's files are those in folders where nothing is installed; what is installed is imported once.
    """
    before = dict(sys.modules)
    names = [name for name, module in before.items() if _is_own(name, module)]
    for name in names:
        del sys.modules[name]
    try:
        yield tuple(names)
    finally:
        for name in [name for name, module in sys.modules.items() if _is_own(name, module)]:
            del sys.modules[name]
        sys.modules.update({name: before[name] for name in names})


def _is_own(name: str, module: ModuleType | None) -> bool:
    file = getattr(module, "__file__", None)
    if name == "__main__":  # what runs is not imported
        return False
    if not isinstance(file, str) or not file.endswith(".py"):
        return False
    return _is_own_file(file, name.count("."))


@cache
def _is_own_file(file: str, packages: int) -> bool:
    """Whether the folder that a module of so many ``packages`` was found in is one where nothing is installed."""
    parents = Path(file).resolve().parents
    depth = packages + (Path(file).name == "__init__.py")
    return depth < len(parents) and not _is_installed(parents[depth])


@cache
def _is_installed(folder: Path) -> bool:
    """Whether packages of ``folder`` are Python's, this one's or were put there by an installer."""
    named = [Path(sysconfig.get_path(name)).resolve() for name in ("stdlib", "platstdlib", "purelib", "platlib")]
    if folder == Path(__file__).resolve().parents[2] or any(folder.is_relative_to(place) for place in named):
        return True
    return next(folder.glob("*.dist-info"), None) is not None
