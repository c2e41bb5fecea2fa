"""Who is to blame where an entry's file cannot be imported: the file, by its name and line."""

from __future__ import annotations

import re
import traceback
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from types import TracebackType

from .errors import ConsiliumError, Refused

__all__ = ["import_refusal", "raised_by"]

_NO_DEFAULT = re.compile(r"non-default argument '(\w+)' follows default argument")
_BASES = {"Evasion": "an evasion attack", "Corruption": "a corruption"}
_MEND = "mend it there; CONSILIUM_DEBUG=1 shows the traceback"


def import_refusal(error: BaseException, file: Path) -> ConsiliumError:
    """What importing ``file`` raised, as a refusal that names the file and the line."""
    if isinstance(error, ConsiliumError):
        return error.at(file.name) if file.name not in str(error) else error
    namespace, line = _place(error.__traceback__, file)
    place = f"{file.name}, line {line}" if line else file.name
    if (match := _NO_DEFAULT.search(str(error))) and isinstance(error, TypeError):
        return _order_refusal(match[1], namespace, place)
    if isinstance(error, SyntaxError):
        place = f"{Path(error.filename or file).name}, line {error.lineno}"
        return Refused(f"{place}: {error.msg}", remedy="mend it there")
    return Refused(f"{place}: {raised_by(error)}", remedy=_MEND)


def raised_by(error: BaseException) -> str:
    """Type and first line of an error."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:300]}" if lines else type(error).__name__


def _order_refusal(name: str, namespace: Mapping[str, object], place: str) -> Refused:
    """A dataclass gave a default to one inherited parameter and not to the next."""
    for base in namespace.values():
        needs = _needs(base)
        if isinstance(base, type) and name in needs:
            what = _BASES.get(base.__name__, f"a subclass of {base.__name__}")
            names = " and ".join(sorted(needs))
            remedy = f"give {name} a default too: {name}: {needs[name]} = VALUE in the class"
            return Refused(f"{place}: {what} needs the parameters {names}", remedy=remedy)
    reason = f"{place}: the parameter {name} has no default and follows one that has"
    return Refused(reason, remedy=f"give {name} a default too, or write it first")


def _needs(base: object) -> dict[str, str]:
    """The fields without default of a class of entries, and their types."""
    if not isinstance(base, type) or not is_dataclass(base) or not base.__module__.startswith("consilium."):
        return {}
    needed = [f for f in fields(base) if f.default is MISSING and f.default_factory is MISSING]
    return {f.name: str(f.type) for f in needed}


def _place(trace: TracebackType | None, file: Path) -> tuple[Mapping[str, object], int]:
    """What the innermost frame of ``file`` knew, and its line; nothing where the error is of no line of it."""
    namespace: Mapping[str, object] = {}
    line = 0
    for frame, number in traceback.walk_tb(trace):
        if Path(frame.f_code.co_filename) == file:
            namespace, line = frame.f_globals, number
    return namespace, line
