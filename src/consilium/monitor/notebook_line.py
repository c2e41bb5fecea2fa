"""One line of a notebook that is written over: what is running, and how far everything is.

IPython is not needed: where it is not in memory, or has no kernel that displays, there is no such line.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

__all__ = ["notebook_line"]


def notebook_line() -> Callable[[str], None] | None:
    """What writes the line, from its first call on; None outside of a notebook."""
    ipython: Any = sys.modules.get("IPython")
    shell = None if ipython is None else ipython.get_ipython()
    if shell is None or getattr(shell, "kernel", None) is None:
        return None
    from IPython.display import display

    handles: list[Any] = []

    def write(line: str) -> None:
        content = {"text/plain": line}
        if handles:
            handles[0].update(content, raw=True)
        else:
            handles.append(display(content, raw=True, display_id=True))

    return write
