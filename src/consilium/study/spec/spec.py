"""A study as it was meant: the file's tables resolved to entries, every default filled in."""

from __future__ import annotations

import math
import re
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal, Self

from pydantic import ConfigDict

from consilium.core.algorithm import Algorithm
from consilium.core.attack import Attack, Corruption
from consilium.core.defence import Defence
from consilium.core.entry import check
from consilium.core.errors import Refused
from consilium.core.plain import Json
from consilium.data.division.canaries import CanaryKind
from consilium.learn.architecture import Architecture
from consilium.learn.models.file import File

from .data_table import DataSpec
from .federation_table import FederationSpec
from .fine_tuning import FineTuning, ModelSpec
from .toml_binding import STRICT, check_length

__all__ = [
    "JUDGED",
    "AttackSpec",
    "CanarySpec",
    "Choice",
    "CorruptionSpec",
    "Spec",
    "StudyHead",
    "Threshold",
    "TrainedModelSpec",
    "TrainingSpec",
]

JUDGED = "scores"
"""What a cell's own answers are called where each attack's lie under its name."""

_MAX_SEEDS = 1000
_LONGEST_NAME = 100


@dataclass(frozen=True)
class Choice:
    """One choice on an axis: a label, and the defences, the algorithm or the model it stands for, none for the first.

    The first choice is ``none``, or on an axis of algorithms or models the study's own.
    """

    label: str
    defences: tuple[Defence, ...] = ()
    algorithm: Algorithm | None = None
    model: ModelSpec | None = None


@dataclass(frozen=True)
class AttackSpec:
    """An attack under the name its figures carry; ``source`` is the arm it crafts on, as choices by axis."""

    name: str
    attack: Attack
    source: Mapping[str, str] | None = None

    def configuration(self) -> dict[str, Json]:
        """Canonical JSON."""
        return self.attack.configuration() | ({} if self.source is None else {"from": dict(self.source)})


@dataclass(frozen=True)
class CorruptionSpec:
    """A corruption under the name its twins carry.

    ``site_share`` of the sites are corrupted, where it is given, and the entry's own number of them else.  It acts in
    ``rounds``, in all where none is named: in the others a corrupted site is an honest one.
    """

    name: str
    corruption: Corruption
    rounds: tuple[int, ...] = ()
    site_share: float | None = None

    def count(self, sites: int) -> int:
        """How many of so many ``sites`` are corrupted."""
        return self.corruption.sites if self.site_share is None else math.floor(self.site_share * sites + 1e-9)

    def by_site(self, sites: Sequence[str]) -> dict[str, Corruption]:
        """What each of the corrupted ``sites`` does."""
        return {site: self.corruption.for_site(number, len(sites)) for number, site in enumerate(sites)}

    def configuration(self) -> dict[str, Json]:
        """Canonical JSON: the entry's, and what the study says of sites and rounds where it does."""
        rounds: dict[str, Json] = {"rounds": list(self.rounds)} if self.rounds else {}
        share: dict[str, Json] = {} if self.site_share is None else {"site-share": self.site_share}
        return {**self.corruption.configuration(), **rounds, **share}


@dataclass(frozen=True)
class CanarySpec:
    """The table ``[audit]``: the canaries that every training of the study gets, and how its guesses are counted.

    ``site`` is where they are planted, empty for all sites alike.  ``guesses`` are shares of the canaries on which an
    attack does not abstain; the best of them is taken, and corrected for.  ``delta`` is that of the bound where an arm
    makes no claim to take it from.
    """

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    canaries: int
    kind: CanaryKind = "noise"
    site: str = ""
    guesses: tuple[float, ...] = (0.05, 0.2, 0.5)
    delta: float = 1e-5

    def __post_init__(self) -> None:
        check(2 <= self.canaries <= 1_000_000, "canaries", self.canaries, "2 to 1000000 canaries, better 1000")
        check(0 < len(self.guesses) <= 20, "guesses", f"{len(self.guesses)} shares", "1 to 20 of them")
        check(all(0 < share <= 1 for share in self.guesses), "guesses", self.guesses, "shares above 0, at most 1")
        check(0 <= self.delta < 1, "delta", self.delta, "a probability from 0 on and far below 1, such as 1e-5")

    def planting(self) -> dict[str, Json]:
        """What a training depends on, canonical JSON."""
        return {"canaries": self.canaries, "kind": self.kind, "site": self.site}

    def configuration(self) -> dict[str, Json]:
        """Canonical JSON."""
        return {**self.planting(), "guesses": list(self.guesses), "delta": self.delta}


@dataclass(frozen=True)
class Threshold:
    """What the study accepts: a bound on ``measure``, of the model itself or as ``attack`` found it.

    Of every arm unless ``arm`` names one; of clean models unless ``corruption`` names an infection.  No training, model
    or cell depends on it.
    """

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    measure: str
    attack: str = ""
    arm: str = ""
    corruption: str = ""
    at_least: float | None = None
    at_most: float | None = None

    def __post_init__(self) -> None:
        if (self.at_least is None) == (self.at_most is None):
            reason = "no bound is given" if self.at_least is None else "two bounds are given"
            raise Refused(reason, remedy="say at-least = ... or at-most = ...; two tables for both")

    @property
    def bound(self) -> float:
        """The number that is not to be crossed."""
        return float(self.at_least if self.at_least is not None else self.at_most or 0.0)


@dataclass(frozen=True)
class StudyHead:
    """The plain knobs at the top of a study.  Where curves are ``track``-ed beside the evidence changes no figure."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    name: str
    seeds: tuple[int, ...] = (0,)
    threads: int = 2
    device: str = "cpu"
    max_epsilon: float = 20.0
    unlawful: Literal["refuse", "skip"] = "refuse"
    question: str = ""
    track: tuple[Literal["tensorboard", "mlflow"], ...] = ()

    def __post_init__(self) -> None:
        check_length(self.name, _LONGEST_NAME, "name")
        check(re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", self.name) is not None, "name", self.name,
              "letters, digits, dots and dashes: it names a folder")  # fmt: skip
        check(0 < len(self.seeds) <= _MAX_SEEDS, "seeds", f"{len(self.seeds)} seeds", f"1 to {_MAX_SEEDS} of them")
        check(len(set(self.seeds)) == len(self.seeds), "seeds", self.seeds, "each seed once")
        check(all(0 <= s < 2**63 for s in self.seeds), "seeds", self.seeds, "seeds from 0 to 2^63 - 1")
        check(1 <= self.threads <= 1024, "threads", self.threads, "1 to 1024 threads")
        check(re.fullmatch(r"cpu|cuda(:\d+)?", self.device) is not None, "device", self.device, "cpu, cuda or cuda:N")
        check(len(set(self.track)) == len(self.track), "track", self.track, "each sink once")
        check(self.max_epsilon > 0, "max_epsilon", self.max_epsilon, "an epsilon above 0")


@dataclass(frozen=True, kw_only=True)
class Spec(StudyHead, ABC):
    """Abstract base: what both kinds of study say.  ``given`` is the table as it was written."""

    data: DataSpec
    model: Architecture
    vary: Mapping[str, tuple[Choice, ...]]
    attacks: tuple[AttackSpec, ...]
    corruptions: tuple[CorruptionSpec, ...] = ()
    canaries: CanarySpec | None = None
    accept: tuple[Threshold, ...] = ()
    given: Mapping[str, Any] = field(default_factory=dict)
    fine_tuning: FineTuning = field(default_factory=FineTuning)

    @property
    def start(self) -> ModelSpec:
        """The model, where it starts and what of it trains."""
        return ModelSpec(self.model, self.fine_tuning)

    @abstractmethod
    def with_model(self, model: ModelSpec | None) -> Self:
        """The study with ``model`` in the place of its own; None keeps it."""

    @abstractmethod
    def with_algorithm(self, algorithm: Algorithm | None) -> Self:
        """The study with ``algorithm`` in the place of its own; None keeps it."""

    @abstractmethod
    def training_configuration(self) -> dict[str, Json] | None:
        """How it trains, canonical JSON; null in evidence where it trains nothing."""

    @property
    @abstractmethod
    def spreads_training(self) -> bool:
        """Whether one training takes all cores by the word of the study: `stacked` rounds depend on their number."""


@dataclass(frozen=True, kw_only=True)
class TrainingSpec(Spec):
    """A study that trains its models: how, who is malicious in it, and an audit's canaries."""

    federation: FederationSpec

    def with_algorithm(self, algorithm: Algorithm | None) -> Self:
        """The federation is another."""
        if algorithm is None:
            return self
        return replace(self, federation=replace(self.federation, algorithm=algorithm))

    def with_model(self, model: ModelSpec | None) -> Self:
        """Architecture, start and what trains."""
        if model is None:
            return self
        return replace(self, model=model.architecture, fine_tuning=model.fine_tuning)

    def training_configuration(self) -> dict[str, Json]:
        """That of the federation."""
        return self.federation.configuration()

    @property
    def spreads_training(self) -> bool:
        """By its engine."""
        shape = self.federation.shape
        return shape.engine in ("pool", "stacked") and shape.workers != 1


@dataclass(frozen=True, kw_only=True)
class TrainedModelSpec(Spec):
    """A study of an existing ``model``: it is attacked and measured, and nothing is trained, infected or planted."""

    model: File
    corruptions: tuple[()] = field(default=(), init=False)
    canaries: None = field(default=None, init=False)

    def with_algorithm(self, algorithm: Algorithm | None) -> Self:
        """It has none."""
        return self

    def with_model(self, model: ModelSpec | None) -> Self:
        """It has its own."""
        return self

    def training_configuration(self) -> None:
        """Nothing is trained."""

    @property
    def spreads_training(self) -> bool:
        """Nothing is trained."""
        return False
