"""The table ``[federation]``: an algorithm with its knobs, and the shape of the rounds beside them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, ClassVar, Literal

from pydantic import ConfigDict

from consilium.core.algorithm import Algorithm
from consilium.core.entry import check
from consilium.core.errors import Refused
from consilium.core.gradient import Schedule
from consilium.core.merge import Cohort
from consilium.core.plain import Json
from consilium.federate.client.lr_schedule import LRSchedule
from consilium.federate.client.participation import Participation
from consilium.federate.round.model_ema import ModelEMA

from .toml_binding import STRICT, as_mapping, card_of, entry, refuse_unknown, value

__all__ = ["FederationShape", "FederationSpec", "federation_of"]


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

    def cohort(self, sites: int) -> Cohort:
        """Who merges in a round, of so many sites."""
        return Cohort(sites, self.shape.rounds, self.shape.fraction, self.shape.participation.sampling)


def federation_of(table: Mapping[str, Any]) -> FederationSpec:
    """What ``[federation]`` asks for.  Refused: an unknown knob, and knobs that do not go together."""
    card = card_of(table, "federation", "federate/algorithms")
    shape = [f.name.replace("_", "-") for f in fields(FederationShape)]
    knobs = {k: v for k, v in table.items() if k != "kind"}
    refuse_unknown(knobs, [*card.knobs, *shape], "federation", card.kind)
    parameters = {k: v for k, v in knobs.items() if k in card.knobs}
    presence = _participation(knobs.pop("participation", {}))
    rounds = value(FederationShape, {k: v for k, v in knobs.items() if k in shape}, "federation")
    algorithm = entry({"kind": card.kind, **parameters}, "federation", "federate/algorithms")
    try:
        return FederationSpec(algorithm, replace(rounds, participation=presence))
    except Refused as error:
        raise error.at("federation") from None


def _participation(raw: object) -> Participation:
    where = "federation.participation"
    knobs = as_mapping(raw, where)
    refuse_unknown(knobs, [f.name.replace("_", "-") for f in fields(Participation)], where, "participation")
    return value(Participation, knobs, where)
