"""What broke, in one line: for evidence, and for people."""

from __future__ import annotations

import os

from consilium.core.errors import ConsiliumError

from .stop import check

__all__ = ["told"]


def told(error: BaseException) -> str:
    """The error's first line, with its type where that is not Consilium's own.

    With CONSILIUM_DEBUG set the error is raised again instead, so that its traceback is seen; after a request to stop
    nothing is blamed, and the stop goes on.
    """
    check()
    if isinstance(error, ConsiliumError):
        return str(error)
    if os.environ.get("CONSILIUM_DEBUG"):
        raise error
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:300]}" if lines else type(error).__name__
