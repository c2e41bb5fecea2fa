"""What colluding sites see of a round before they send: more than their own updates, if their threat model grants it.

    RoundView         the broadcast; their own updates are handed to ``forge``
    AggregateView     besides, the weighted mean of what the honest sites send in this round
    OmniscientView    besides, what every honest site sends in this round

What the honest send is shown as the server reads it: decoded, bounded by the server halves, without what it refuses.

Source: Shejwalkar and Houmansadr 2021, Manipulating the Byzantine, NDSS (knowledge of the others' gradients)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from .threat import RoundView
from .update import Payload, Update

__all__ = ["AggregateView", "OmniscientView"]


@dataclass(frozen=True, eq=False)
class AggregateView(RoundView):
    """The mean of the honest updates, weighted as the server weighs them; empty where no honest site sends any."""

    mean: Payload


@dataclass(frozen=True, eq=False)
class OmniscientView(AggregateView):
    """Every honest update, by site."""

    updates: Mapping[str, Update]
