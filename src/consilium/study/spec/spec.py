"""A study as it was meant: the file's tables resolved to entries, every default filled in."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal, Self

from pydantic import ConfigDict

from consilium.core.algorithm import Algorithm
from consilium.core.attack import Attack, Corruption
from consilium.core.defence import Defence
from consilium.core.entry import check
from consilium.core.errors import Refused
from consilium.core.gradient import Schedule
from consilium.core.plain import Json
from consilium.core.task import Task
from consilium.data.partition import Partition
from consilium.data.source import Source
from consilium.federate.client.lr_schedule import LRSchedule
from consilium.federate.client.participation import Participation
from consilium.federate.round.model_ema import ModelEMA
from consilium.learn.architecture import Architecture
from consilium.learn.models.file import File
from consilium.learn.tasks.single_label import SingleLabel

from .canary_spec import CanarySpec
from .fine_tuning import FineTuning, ModelSpec
from .toml_binding import check_length

__all__ = [
    "JUDGED",
    "STRICT",
    "AttackSpec",
    "Choice",
    "CorruptionSpec",
    "DataShares",
    "DataSpec",
    "FederationShape",
    "FederationSpec",
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
STRICT: ConfigDict = {"extra": "forbid", "allow_inf_nan": False}


@dataclass(frozen=True)
class DataShares:
    """How a data set is divided: number of sites, and the shares of the pools of LAWS 17.

    ``shared-patients``: one id means one person at all natural sites, however many come to several.
    """

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    sites: int = 1
    public: float = 0.05
    validation: float = 0.1
    test: float = 0.2
    non_members: float = 0.2
    shared_patients: bool = False

    def __post_init__(self) -> None:
        check(1 <= self.sites <= 100_000, "sites", self.sites, "1 to 100000 sites")


@dataclass(frozen=True)
class DataSpec:
    """A source, divided, and what is asked of each record."""

    source: Source
    partition: Partition
    shares: DataShares
    task: Task = field(default_factory=SingleLabel)

    def configuration(self) -> dict[str, Json]:
        """Canonical JSON."""
        shares = {name.replace("_", "-"): value for name, value in vars(self.shares).items()}
        if not self.shares.shared_patients:  # as before it could be said
            del shares["shared-patients"]
        task: dict[str, Json] = {} if self.task == SingleLabel() else {"task": self.task.configuration()}
        return {**self.source.configuration(), "partition": self.partition.configuration(), **shares, **task}


@dataclass(frozen=True)
class FederationShape:
    """The local work asked of a site, and who takes part.

    ``batch`` B (0: all records at once), ``local-epochs`` E, ``fraction`` C; ``weights``: n_k or 1, or as the
    algorithm's paper has it; ``engine``: what carries the rounds, with
    ``workers`` processes (0: one per core); ``compile`` fuses the steps of a stack.  ``precision`` and ``layout`` are
    performance knobs of training; the model is judged in fp32.  The model is judged by ``all`` sites or the round's
    ``cohort``, every ``assess-every`` rounds and after the last.  The rounds
    and bytes until their mean accuracy is ``target-accuracy`` are measured if one is given (0: none).
    ``lr-schedule`` and ``warm-up`` (rounds) shape the algorithm's ``lr`` over the rounds; with ``ema`` (a decay per
    round, 0: none) an average of the server's models is released.  No site has more than ``max-share`` of a merge, and
    a round with fewer updates than that allows changes no model; no site of a deployment may declare more than
    ``max-records``.
    """

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    rounds: int = 10
    local_epochs: int = 1
    batch: int = 32
    fraction: float = 1.0
    weights: Literal["algorithm", "records", "uniform"] = "algorithm"
    engine: Literal["auto", "loop", "pool", "stacked"] = "auto"
    workers: int = 0
    compile: bool = False
    precision: Literal["fp32", "bf16"] = "fp32"
    layout: Literal["contiguous", "channels-last"] = "contiguous"
    assess: Literal["all", "cohort"] = "all"
    assess_every: int = 1
    target_accuracy: float = 0.0
    lr_schedule: Literal["constant", "cosine", "linear"] = "constant"
    warm_up: int = 0
    ema: float = 0.0
    max_share: float = 1.0
    max_records: int = 10_000_000
    participation: Participation = field(default_factory=Participation)

    def __post_init__(self) -> None:
        check(1 <= self.rounds <= 1_000_000, "rounds", self.rounds, "1 to 1000000 rounds")
        check(1 <= self.local_epochs <= 10_000, "local_epochs", self.local_epochs, "1 to 10000 epochs")
        check(self.batch >= 0, "batch", self.batch, "a batch size, or 0 for all records at once")
        check(0 < self.fraction <= 1, "fraction", self.fraction, "a share of the sites above 0, at most 1")
        check(
            0 <= self.target_accuracy <= 1,
            "target_accuracy",
            self.target_accuracy,
            "an accuracy up to 1, or 0 for none",
        )
        check(0 <= self.workers <= 4096, "workers", self.workers, "1 to 4096 processes, or 0 for one per core")
        check(
            0 <= self.warm_up < self.rounds,
            "warm_up",
            self.warm_up,
            f"0 to {self.rounds - 1} rounds, fewer than there are",
        )
        check(0 <= self.ema < 1, "ema", self.ema, "a decay above 0 and below 1, or 0 for none")
        check(
            1e-6 <= self.max_share <= 1, "max_share", self.max_share, "a share of the merge from 1e-6 on, 1 for no cap"
        )
        check(1 <= self.max_records <= 1 << 40, "max_records", self.max_records, "1 to 2^40 records")
        if self.compile and self.engine in ("loop", "pool"):
            raise Refused(
                f"compile fuses the steps of a stack, and does nothing where engine = {self.engine!r}",
                remedy='leave it out, or use engine = "stacked"',
                where="compile",
            )
        if self.compile and not self.rate().flat:
            raise Refused(
                "compile fuses a step with its learning rate, which lr-schedule and warm-up change in every round",
                remedy="leave out one of them",
                where="compile",
            )
        check(self.assess_every >= 1, "assess_every", self.assess_every, "1 (every round) or more")
        if self.participation.join_round > self.rounds:
            raise Refused(
                f"nobody joins in round {self.participation.join_round} of {self.rounds}",
                remedy="use an earlier round, or more of them",
                where="participation.join-round",
            )

    @property
    def not_everyone(self) -> bool:
        """True if some site may sit out a round, or do less in it than planned."""
        return self.fraction < 1 or self.participation != Participation()

    def rate(self) -> LRSchedule:
        """The learning rate over the rounds, as a factor."""
        return LRSchedule(self.lr_schedule, self.warm_up, self.rounds)

    def average(self) -> ModelEMA:
        """What is released of the server's models."""
        return ModelEMA(self.ema)

    def schedule(self) -> Schedule:
        """As the gradient rule reads it."""
        return Schedule(self.rounds, self.local_epochs, self.batch)


@dataclass(frozen=True)
class FederationSpec:
    """An algorithm and the shape of its rounds."""

    algorithm: Algorithm
    shape: FederationShape

    def configuration(self) -> dict[str, Json]:
        """Canonical JSON."""
        shape = {name.replace("_", "-"): value for name, value in vars(self.shape).items()}
        del shape["workers"], shape["max-records"]  # how many work, or may be declared, changes nothing computed
        if self.shape.max_share == 1:  # as before there was a cap
            del shape["max-share"]
        shape["participation"] = self.shape.participation.configuration()
        return {**self.algorithm.configuration(), **shape}


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
    """A corruption under the name its twins carry."""

    name: str
    corruption: Corruption


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
