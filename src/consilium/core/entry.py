"""An entry: anything a study can name.  One file, one frozen dataclass; its fields are its knobs.

The kind of an entry is its file's name with dashes: ``defend/training/dp_sgd.py`` is ``dp-sgd``.  A user's own file
beside the study (:mod:`.code_file`) is named by its path, and its digest is part of the configuration.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import ClassVar

from .code_file import NOTEBOOK, CodeFile
from .errors import Refused
from .plain import Json

__all__ = ["Entry", "check", "check_used"]


@dataclass(frozen=True)
class Entry:
    """Base of everything in the catalogue; its repr is its configuration."""

    __pydantic_config__: ClassVar[dict[str, str | bool]] = {"extra": "forbid", "allow_inf_nan": False}
    added_later: ClassVar[tuple[str, ...]] = ()
    """Fields that did not exist in a release: at their default they are no part of the configuration, so that what was
    trained before they could be set keeps its digest."""
    code: ClassVar[CodeFile | None] = None
    """Where it is from, if it is in a user's file beside the study and in no catalogue."""

    @classmethod
    def kind(cls) -> str:
        """The name a study uses; of a class of a notebook, its own."""
        return cls.__name__ if cls.__module__ == NOTEBOOK else cls.__module__.rsplit(".", 1)[-1].replace("_", "-")

    @classmethod
    def is_builtin(cls) -> bool:
        """Whether its code is this package's own, which the contract suites hold to every promise."""
        return cls.__module__.partition(".")[0] == __name__.partition(".")[0]

    def configuration(self) -> dict[str, Json]:
        """The kind and every knob, defaults included but for ``added_later``; of a user's file its digest too."""
        code: dict[str, Json] = {} if self.code is None else {"path": self.code.path, "sha256": self.code.sha256}
        shown = [f for f in fields(self) if f.name not in self.added_later or getattr(self, f.name) != f.default]
        knobs = {f.name.replace("_", "-"): getattr(self, f.name) for f in shown}
        return {"kind": self.kind(), **code, **{k: list(v) if isinstance(v, tuple) else v for k, v in knobs.items()}}


def check(condition: bool, knob: str, value: object, allowed: str) -> None:
    """Refuse a knob whose value is outside its range, naming both.

    Raises Refused: the value is outside its range.
    """
    if not condition:
        raise Refused(f"{value!r} is out of range", remedy=f"use {allowed}", where=knob.replace("_", "-"))


def check_used(entry: Entry, knob: str, used: bool, where: str) -> None:
    """Refuse a knob that was set (to another value than its default) and has no effect, for the reason ``where``.

    Raises Refused: the knob has another value than its default and no effect.
    """
    value, default = getattr(entry, knob), next(f.default for f in fields(entry) if f.name == knob)
    if not used and value != default:
        name = knob.replace("_", "-")
        raise Refused(f"{name} = {value!r} does nothing where {where}", remedy=f"leave out {name}", where=name)
