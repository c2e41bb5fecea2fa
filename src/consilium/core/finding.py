"""Figures that can stand in a table: value, interval, chance level and n, or a reason why there is none."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

from torch import Tensor

__all__ = ["RED_FLAG", "Finding", "Measure"]

RED_FLAG = "Red flag: "
"""How a note begins that speaks against the figures of robustness of the model it is about."""


@dataclass(frozen=True)
class Measure:
    """One figure.

    ``low`` and ``high`` bound it at 95 % unless ``notes`` of the finding say otherwise; ``chance`` is the
    figure of random guessing; ``n`` counts what it was measured on, ``unit_count`` the units (patients) that the n
    records are of, 0 where each is its own.  Where it is undefined ``value`` is None and ``reason`` states why: never
    a placeholder 0 or 1.
    """

    name: str
    value: float | None
    low: float | None = None
    high: float | None = None
    chance: float | None = None
    n: int = 0
    unit: str = ""
    reason: str = ""
    unit_count: int = field(default=0, metadata={"absent": True})

    def __post_init__(self) -> None:
        for field_name in ("value", "low", "high", "chance"):
            number = getattr(self, field_name)
            if number is not None and not math.isfinite(number):
                raise ValueError(f"measure {self.name}: {field_name} is {number}; give None and a reason")
        if self.value is None and not self.reason:
            raise ValueError(f"measure {self.name} has neither a value nor a reason")

    @classmethod
    def undefined(cls, name: str, reason: str, n: int = 0, unit: str = "") -> Measure:
        """A figure that does not exist here, with the reason."""
        return cls(name, None, n=n, unit=unit, reason=reason)

    def to_json(self) -> dict[str, object]:
        """Plain JSON values."""
        return asdict(self)


@dataclass(frozen=True, eq=False)
class Finding:
    """What an attack found: measures, per-example scores ``(n,)`` and a few examples to look at.

    ``examples`` holds small image stacks by name (``clean``, ``adversarial``); private unless the data are bundled.
    """

    measures: tuple[Measure, ...]
    scores: Mapping[str, Tensor] = field(default_factory=dict)
    examples: Mapping[str, Tensor] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def __getitem__(self, name: str) -> Measure:
        for measure in self.measures:
            if measure.name == name:
                return measure
        raise KeyError(name)
