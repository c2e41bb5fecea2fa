"""What is claimed of one released model: ``privacy`` in a cell's evidence."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from pydantic import BeforeValidator, ValidationInfo

from .fields import Count, Flag, Items, Name, Number, Text, Texts, refused, required

__all__ = ["ClaimEvidence", "PrivacyEvidence"]


@dataclass(frozen=True)
class ClaimEvidence:
    """One claim, as in :class:`~consilium.measure.accounting.privacy.Claim`; None where nothing was written."""

    site: Text = ""
    unit: Text = ""
    adjacency: Text = ""
    epsilon: Number = None
    delta: Number = None
    sampler: Text = ""
    accountant: Text = ""
    n: Count = None
    batch_size: Number = None
    noise_multiplier: Number = None
    steps: Count = None
    against: Text = ""
    noise: Text = ""
    n_public: Flag = True
    record_epsilon: Number = None


def _claims(value: object, info: ValidationInfo) -> list[object]:
    """Those that state a guarantee."""
    if not isinstance(value, list):
        refused(info, "a list of claims")
        return []
    tables: list[object] = [one for one in value if isinstance(one, dict) and one]
    if len(tables) < len(value):
        refused(info, "a list of claims alone")
    return tables


_Claim = Annotated[ClaimEvidence, BeforeValidator(required("site", "unit", "adjacency", "epsilon", "delta", "n"))]


@dataclass(frozen=True)
class PrivacyEvidence:
    """``epsilon`` is the maximum over sites of one unit, None without a claim (LAWS 13).

    ``record_epsilon`` bounds the inference of a record's membership; None where no claim does.
    """

    epsilon: Number = None
    record_epsilon: Number = None
    delta: Number = None
    unit: Name = None
    adjacency: Name = None
    claims: Annotated[Items[_Claim], BeforeValidator(_claims)] = ()
    statements: Texts = ()
    notes: Texts = ()
