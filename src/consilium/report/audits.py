"""The audits of one cell as the report shows them: what is claimed beside the least that was found."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .evidence import CellRecord

__all__ = ["Audit", "audits"]

_TERMS = ("unit", "adjacency", "sampler", "accountant")


@dataclass(frozen=True)
class Audit:
    """One audit: lower bounds of epsilon at ``confidence``; ``claimed`` is None where nothing is claimed.

    A claim of sites is compared at the epsilon of replacing one.
    """

    name: str
    claimed: float | None
    terms: str
    epsilon: float
    gaussian: float | None
    delta: float | None
    confidence: float
    canaries: int
    guesses: int
    right: int
    adversary: str
    exceeded: bool
    warned: bool

    @property
    def word(self) -> str:
        """In a word or three."""
        if self.exceeded:
            return "claim broken"
        return "warning" if self.warned else "no claim" if self.claimed is None else "not broken, not proved"

    @property
    def mood(self) -> str:
        """The class of the chip."""
        return "bad" if self.exceeded else "warn" if self.warned else ""


def audits(cell: CellRecord) -> tuple[Audit, ...]:
    """Those of ``cell`` that can be read; one without a bound is none."""
    held = _map(cell.raw.get("audits"))
    return tuple(
        _audit(str(name), _map(a))
        for name, a in held.items()
        if _number(_map(_map(a).get("audited")), "epsilon") is not None
    )


def _audit(name: str, entry: Mapping[str, Any]) -> Audit:
    claimed, found, tighter = (_map(entry.get(key)) for key in ("claimed", "audited", "gaussian"))
    who = _map(found.get("adversary"))
    return Audit(
        name=name,
        claimed=_number(claimed, "epsilon" if claimed.get("record_epsilon") is None else "record_epsilon"),
        terms=", ".join(f"{term} {claimed[term]}" for term in _TERMS if claimed.get(term)),
        epsilon=_number(found, "epsilon") or 0.0,
        gaussian=_number(tighter, "epsilon"),
        delta=_number(found, "delta"),
        confidence=_number(found, "confidence") or 0.0,
        canaries=int(_number(found, "canaries") or 0),
        guesses=int(_number(found, "guesses") or 0),
        right=int(_number(found, "right") or 0),
        adversary=" ".join(str(who[key]) for key in ("knowledge", "actor") if who.get(key)),
        exceeded=entry.get("exceeded") is True,
        warned=entry.get("warned") is True,
    )


def _map(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _number(entry: Mapping[str, Any], name: str) -> float | None:
    value = entry.get(name)
    fine = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return float(value) if fine and value is not None else None
