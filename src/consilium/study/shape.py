"""Whether evidence that lies in a folder has the form that is written: every field of its own kind of value.

What somebody has edited, or another program wrote, is then called by name and made again, and nothing trips over it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["wrong_field"]

_NUMBER = (int, float)
_FINDING: Mapping[str, type | tuple[type, ...]] = {
    "status": str, "error": (str, type(None)), "measures": list, "notes": list, "threat": dict
}  # fmt: skip
_CLAIM: Mapping[str, type | tuple[type, ...]] = {
    "site": str, "unit": str, "adjacency": str, "epsilon": _NUMBER, "delta": _NUMBER, "n": int
}  # fmt: skip
_MEASURE: Mapping[str, type | tuple[type, ...]] = {"name": str}


def wrong_field(held: Mapping[str, Any], begun: Mapping[str, Any]) -> str:
    """The first field of ``held`` with another kind of value than it has in a record just ``begun``; empty if none."""
    for name, plain in begun.items():
        if name in held and isinstance(plain, dict | list | int) and not isinstance(held[name], type(plain)):
            return name
    wrong = [_wrong(f"{table}.{n}", f, _FINDING) for table in ("findings", "set_aside") for n, f in _of(held, table)]
    wrong += [_wrong("utility", one, _MEASURE) for one in held.get("utility", ())]
    wrong += [_wrong("cost", one, _MEASURE) for one in held.get("cost", ())]
    claims = held.get("privacy", {}).get("claims", [])
    wrong += [_wrong("privacy.claims", one, _CLAIM) for one in claims] if isinstance(claims, list) else ["privacy"]
    wrong += ["" if isinstance(value, _NUMBER) else f"seconds.{name}" for name, value in _of(held, "seconds")]
    return next((name for name in wrong if name), "")


def _of(held: Mapping[str, Any], table: str) -> list[tuple[str, Any]]:
    return list(held.get(table, {}).items())


def _wrong(name: str, value: object, kinds: Mapping[str, type | tuple[type, ...]]) -> str:
    if not isinstance(value, dict):
        return name
    odd = (f"{name}.{field}" for field, kind in kinds.items() if not isinstance(value.get(field), kind))
    return next(odd, "")
