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

__all__ = ["ConsiliumError", "Failed", "MissingExtra", "Refused", "Unlawful"]


class ConsiliumError(Exception):
    """One line: ``where: reason. remedy``."""

    exit_code = 3

    def __init__(self, reason: str, *, remedy: str = "", where: str = "") -> None:
        self.reason, self.remedy, self.where = reason.rstrip("."), remedy.rstrip("."), where
        super().__init__(str(self))

    def __str__(self) -> str:
        head = _sentence(f"{self.where}: {self.reason}" if self.where else self.reason)
        return f"{head} {_sentence(self.remedy)}" if self.remedy else head

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, (type(self), self._arguments())

    def _render_traceback_(self) -> list[str]:
        """What a notebook shows: the line, and with CONSILIUM_DEBUG set the traceback too."""
        trace = traceback.format_exception(self) if os.environ.get("CONSILIUM_DEBUG") else []
        return [*trace, f"{type(self).__name__}: {self}"]

    def at(self, where: str) -> ConsiliumError:
        """The same error, located: the innermost place is kept at the end."""
        place = f"{where}.{self.where}" if self.where else where
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
        self.cause, self.law = reason.rstrip("."), law
        super().__init__(self.cause if law is None else f"{self.cause} (LAWS {law})", remedy=remedy, where=where)

    def _arguments(self) -> Mapping[str, Any]:
        return {"reason": self.cause, "law": self.law, "remedy": self.remedy, "where": self.where}


class MissingExtra(Refused):
    """An optional dependency is needed and not installed."""


class Failed(ConsiliumError):
    """Lawful work that broke while it ran."""


def _sentence(text: str) -> str:
    return text if text.endswith("?") else f"{text}."


def _rebuild(kind: type[ConsiliumError], arguments: Mapping[str, Any]) -> ConsiliumError:
    return kind(**arguments)
