"""What colluding sites see of a round before they send: more than their own updates, if their threat model grants it.

    RoundView         the broadcast; their own updates are handed to ``forge``
    ColludingView     besides, what each update of the round counts, and numbers to draw from
    AggregateView     besides, the weighted mean of what the honest sites send in this round
    OmniscientView    besides, what every honest site sends in this round

What the honest send is shown as the server reads it: decoded, bounded by the server halves, without what it refuses.

Source: Shejwalkar and Houmansadr 2021, Manipulating the Byzantine, NDSS (knowledge of the others' gradients)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from .random import Stream
from .threat import RoundView
from .update import Payload, Update

__all__ = ["AggregateView", "ColludingView", "OmniscientView"]


@dataclass(frozen=True, eq=False)
class ColludingView(RoundView):
    """``weights`` are those that the server gives the updates of the round, by site; ``stream`` is drawn from.

    Weights are numbers of records, which count as public (LAWS 9).
    """

    weights: Mapping[str, float] = field(default_factory=dict, kw_only=True)
    stream: Stream = field(default_factory=lambda: Stream(0), kw_only=True)


@dataclass(frozen=True, eq=False)
class AggregateView(ColludingView):
    """The mean of the honest updates, weighted as the server weighs them; empty where no honest site sends any."""

    mean: Payload


@dataclass(frozen=True, eq=False)
class OmniscientView(AggregateView):
    """Every honest update, by site."""

    updates: Mapping[str, Update]
