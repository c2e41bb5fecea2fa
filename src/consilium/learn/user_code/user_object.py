"""A class or function of the user's, by import path; importing it runs the user's code."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

from consilium.core.errors import Refused
from consilium.core.random import Stream, scoped

__all__ = ["first_line", "user_object"]


def user_object(path: str, where: str) -> Any:
    """What ``package.module:Name`` names, looked for in the current folder first, as ``python -m`` does.

    Numbers that the file draws from torch when it is imported have a stream of their own: the same numbers in every
    process, and those of the class are the same whether the file was imported before or not.

    Raises Refused: it cannot be imported.
    """
    module, _, name = path.partition(":")
    here = str(Path.cwd())
    sys.path.insert(0, here)
    try:
        with scoped(Stream(0, ("import", module))):
            return getattr(importlib.import_module(module), name)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # anyone's code
        known = isinstance(error, ImportError | AttributeError | ValueError)
        raise Refused(
            f"cannot import {path!r}: {error if known else first_line(error)}",
            remedy='give "package.module:Name" of a file that Python can import, and run in its folder, '
            "or set PYTHONPATH",
            where=where,
        ) from error
    finally:
        if here in sys.path:  # the user's code may have changed it
            sys.path.remove(here)


def first_line(error: BaseException) -> str:
    """The kind of ``error`` and the first line of what it says."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:300]}" if lines else type(error).__name__
