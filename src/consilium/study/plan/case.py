"""What a law looks at, and what it says: one arm of a study on one seed's data, and a refusal."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from consilium.core.errors import Refused, Unlawful, capitalised
from consilium.core.network import Network
from consilium.core.records import Consortium
from consilium.study.build.factory import gradient_rule
from consilium.study.spec.arms import Arm
from consilium.study.spec.spec import Spec, TrainingSpec

__all__ = ["Case", "Refusal", "TrainingCase"]


@dataclass(frozen=True)
class Refusal:
    """A law that an arm breaks."""

    law: int
    reason: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.reason} (LAWS {self.law}). {capitalised(self.remedy)}."

    @classmethod
    def of(cls, error: Refused, law: int, remedy: str) -> Refusal:
        """What ``error`` says, under the law that it names, else ``law``; ``remedy`` where it gives none."""
        reason, number = (error.cause, error.law) if isinstance(error, Unlawful) else (error.reason, None)
        return cls(number or law, f"{error.where}: {reason}" if error.where else reason, error.remedy or remedy)

    def to_json(self) -> dict[str, object]:
        """Plain JSON."""
        return asdict(self)


@dataclass(frozen=True, eq=False)
class Case:
    """What the laws look at: one arm of a study on one seed's data."""

    spec: Spec
    arm: Arm
    data: Consortium
    network: Network | None

    @property
    def private(self) -> bool:
        """True if the arm's gradient rule makes a claim."""
        return gradient_rule(self.arm).delta is not None


@dataclass(frozen=True, eq=False)
class TrainingCase(Case):
    """An arm that trains, its algorithm in the place of the study's own."""

    spec: TrainingSpec
