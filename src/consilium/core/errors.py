"""Every error a user can meet: what went wrong, where, why, and what to do about it.

ConsiliumError
|-- Refused           the study, the data or an argument cannot be used as given   (exit code 2)
|   |-- Unlawful      a combination that LAWS forbid, or a claim that cannot be made
|   `-- MissingExtra  an optional dependency is not installed
`-- Failed            something that was lawful broke while it ran                 (exit code 3)
"""

from __future__ import annotations

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
        return _rebuild, (type(self), self.reason, self.remedy, self.where)

    def at(self, where: str) -> ConsiliumError:
        """The same error, located: the innermost place is kept at the end."""
        place = f"{where}.{self.where}" if self.where else where
        return type(self)(self.reason, remedy=self.remedy, where=place)


class Refused(ConsiliumError):
    """The input cannot be used as given; nothing was trained for it."""

    exit_code = 2


class Unlawful(Refused):
    """A combination that a law forbids; the reason names the law."""


class MissingExtra(Refused):
    """An optional dependency is needed and not installed."""


class Failed(ConsiliumError):
    """Lawful work that broke while it ran."""


def _sentence(text: str) -> str:
    return text if text.endswith("?") else f"{text}."


def _rebuild(kind: type[ConsiliumError], reason: str, remedy: str, where: str) -> ConsiliumError:
    return kind(reason, remedy=remedy, where=where)
