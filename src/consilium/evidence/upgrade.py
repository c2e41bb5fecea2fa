"""What older versions did not write, worked out from what they did: the one place where evidence is upgraded."""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["upgraded_findings"]

_RECORDS_ALONE = frozenset({"blind"})
"""The kinds of attack that were granted no model when findings did not say so."""


def upgraded_findings(value: object) -> object:
    """A table of findings in which each says whether its attack saw the model (``sees_model``)."""
    if not isinstance(value, Mapping):
        return value
    return {name: _with_sight(str(name), finding) for name, finding in value.items()}


def _with_sight(name: str, finding: object) -> object:
    if not isinstance(finding, Mapping) or "sees_model" in finding:
        return finding
    kind = finding.get("kind") or name  # the first versions named no kind, where the name is the kind
    return {**finding, "sees_model": kind not in _RECORDS_ALONE}
