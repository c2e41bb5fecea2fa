"""Every error a user can meet: what went wrong, where, why, and what to do about it.

ConsiliumError
|-- Refused           the study, the data or an argument cannot be used as given   (exit code 2)
|   |-- Unlawful      a combination that LAWS forbid, or a claim that cannot be made
|   `-- MissingExtra  an optional dependency is not installed
`-- Failed            something that was lawful broke while it ran                 (exit code 3)
"""

from __future__ import annotations

import os
import traceback
from collections.abc import Mapping
from typing import Any

__all__ = ["ConsiliumError", "Failed", "MissingExtra", "Refused", "Unlawful", "capitalised"]

_COMMANDS = ("pip", "chmod", "consilium", "numpy", "python")
_ELLIPSIS = "..."


class ConsiliumError(Exception):
    """One line, as sentences: ``where: reason. Remedy.``  The remedy itself is kept as it was written."""

    exit_code = 3

    def __init__(self, reason: str, *, remedy: str = "", where: str = "") -> None:
        self.reason, self.remedy, self.where = _without_stop(reason), _without_stop(remedy), where
        super().__init__(str(self))

    def __str__(self) -> str:
        head = _sentence(f"{self.where}: {self.reason}" if self.where else self.reason)
        return f"{head} {_sentence(capitalised(self.remedy))}" if self.remedy else head

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, (type(self), self._arguments())

    def _render_traceback_(self) -> list[str]:
        """What a notebook shows: the line, and with CONSILIUM_DEBUG set the traceback too."""
        trace = traceback.format_exception(self) if os.environ.get("CONSILIUM_DEBUG") else []
        return [*trace, f"{type(self).__name__}: {self}"]

    def at(self, where: str, joint: str = ".") -> ConsiliumError:
        """The same error, located: the innermost place is kept at the end, behind ``joint`` (": " for a file)."""
        joint = "" if self.where.startswith("[") else joint  # an item of what stands at ``where``
        place = f"{where}{joint}{self.where}" if self.where else where
        return _rebuild(type(self), {**self._arguments(), "where": place})

    def _arguments(self) -> Mapping[str, Any]:
        """Its constructor's arguments, so that it can be rebuilt in another process."""
        return {"reason": self.reason, "remedy": self.remedy, "where": self.where}


class Refused(ConsiliumError):
    """The input cannot be used as given; nothing was trained for it."""

    exit_code = 2


class Unlawful(Refused):
    """A combination that a law forbids; the reason ends with the number of the ``law``, where it has one.

    ``cause`` is the reason without it.
    """

    def __init__(self, reason: str, *, law: int | None = None, remedy: str = "", where: str = "") -> None:
        self.cause, self.law = _without_stop(reason), law
        super().__init__(self.cause if law is None else f"{self.cause} (LAWS {law})", remedy=remedy, where=where)

    def _arguments(self) -> Mapping[str, Any]:
        return {"reason": self.cause, "law": self.law, "remedy": self.remedy, "where": self.where}


class MissingExtra(Refused):
    """An optional dependency is needed and not installed."""


class Failed(ConsiliumError):
    """Lawful work that broke while it ran."""


def capitalised(remedy: str) -> str:
    """A remedy as it stands after a full stop; a command, a parameter or code that it begins with stays as it is."""
    first = remedy.partition(" ")[0].rstrip(",:;")
    return remedy[:1].upper() + remedy[1:] if first.isalpha() and first not in _COMMANDS else remedy


def _sentence(text: str) -> str:
    return text if text.endswith(("?", _ELLIPSIS)) else f"{text}."


def _without_stop(text: str) -> str:
    return text if text.endswith(_ELLIPSIS) else text.rstrip(".")


def _rebuild(kind: type[ConsiliumError], arguments: Mapping[str, Any]) -> ConsiliumError:
    return kind(**arguments)
