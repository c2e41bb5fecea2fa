"""What broke, in one line: for evidence, and for people."""

from __future__ import annotations

import os
import sysconfig
import traceback
from pathlib import Path

from consilium.core.errors import ConsiliumError
from consilium.monitor.interrupt import check_interrupt

__all__ = ["error_summary", "own_code"]


def error_summary(error: BaseException) -> str:
    """The error's first line, with its type where that is not Consilium's own.

    With CONSILIUM_DEBUG set the error is raised again instead, so that its traceback is seen; after a request to stop
    no failure is recorded, and KeyboardInterrupt is raised again.  What a user's own code raised names its line.
    """
    check_interrupt()
    if isinstance(error, KeyboardInterrupt):
        raise error
    if isinstance(error, ConsiliumError):
        return str(error)
    if os.environ.get("CONSILIUM_DEBUG"):
        raise error
    lines = str(error).strip().splitlines()
    line = f"{type(error).__name__}: {lines[0][:300]}" if lines else type(error).__name__
    file, _, number = own_code(error).rpartition(":")
    file = Path(file).name if isinstance(error, Exception) else file  # on other machines it has another path
    return f"{line} ({file}:{number})" if file else line


def own_code(error: BaseException) -> str:
    """``FILE:LINE`` of the innermost code in ``error``'s traceback that is a user's own; empty if there is none.

    Installed code is not a user's own: this package, Python and its packages.
    """
    installed = [
        Path(__file__).parents[2],
        *(Path(sysconfig.get_path(name)) for name in ("stdlib", "purelib", "platlib")),
    ]
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        path = Path(frame.filename)
        if path.is_file() and not any(path.is_relative_to(folder) for folder in installed):
            return f"{frame.filename}:{frame.lineno}"
    return ""
