"""What every check of a user's model says, and where."""

from __future__ import annotations

from consilium.core.errors import Refused

__all__ = ["model_refusal"]


def model_refusal(reason: str, remedy: str) -> Refused:
    """The refusal of a model, at the study's table of that name."""
    return Refused(reason, remedy=remedy, where="model")
