"""What runs where the records are: a site's half of a federated round.

begin, as many steps as its rule gives, finish, then the site halves of the update defences in the order of the study.
Only an :class:`~consilium.core.update.Update` and an assessment come out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property, partial

import torch

from consilium.core.algorithm import Algorithm, AlgorithmState, Broadcast, Work
from consilium.core.charge import Charge
from consilium.core.defence import UpdateDefence
from consilium.core.errors import ConsiliumError, Failed
from consilium.core.gradient import GradientRule, Objective, Schedule
from consilium.core.network import Network
from consilium.core.random import Stream
from consilium.core.records import Records, Site
from consilium.core.update import Payload, Update
from consilium.federate.client.participation import Participation

from .charges_paid import entered
from .frozen_features import TrainingInputs, training_inputs
from .lr_schedule import LRSchedule

__all__ = ["Participant", "SiteState", "stage"]


@dataclass(frozen=True, eq=False)
class SiteState:
    """What a site carries from round to round: its algorithm's state, the ledger of charges it has paid, what its
    update defences keep (error feedback), by kind, and its gradient rule's state (correlated noise).
    """

    algorithm: AlgorithmState = field(default_factory=AlgorithmState)
    ledger: tuple[Charge, ...] = ()
    defences: Mapping[str, Payload] = field(default_factory=dict)
    rule: Payload = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Participant:
    """One site, ready to train: ``train`` are the records after data defences (or a corruption)."""

    site: Site
    train: Records
    weight: float
    network: Network
    algorithm: Algorithm
    objective: Objective
    rule: GradientRule
    schedule: Schedule
    defences: tuple[UpdateDefence, ...]
    stream: Stream
    participation: Participation = field(default_factory=Participation)
    rate: LRSchedule = field(default_factory=LRSchedule)

    def algorithm_in(self, number: int) -> Algorithm:
        """The algorithm with the learning rate of round ``number``."""
        return self.rate.at(self.algorithm, number)

    def steps(self, planned: int, number: int) -> int:
        """The local steps of round ``number``: those ``planned``, or a straggler's share of them."""
        return self.participation.steps(planned, self.site.id, number, self.stream)

    @cached_property
    def training_inputs(self) -> TrainingInputs:
        """The training inputs and the network, built in the process that does the work."""
        return training_inputs(self.train, self.network, self.objective)

    def work(self, broadcast: Broadcast, state: SiteState) -> tuple[Update, SiteState]:
        """This site's update for one round, and its state after."""
        here = self.stream.child(self.site.id, broadcast.round)
        with stage("begin"):
            records, network = self.training_inputs
            predict = partial(network.logits, broadcast.params, broadcast.buffers)
            objective = self.objective.in_round(broadcast.round).for_round(broadcast.params, predict)
            oracle = self.rule.oracle(records, network, objective, self.schedule, here.child("gradient"))
            oracle.resume(state.rule)
            steps = self.steps(oracle.steps, broadcast.round)
            algorithm = self.algorithm_in(broadcast.round)
            work = algorithm.begin(broadcast, state.algorithm, steps)
        for step in range(steps):
            with stage(f"step {step + 1} of {steps}"):
                work = algorithm.step(work, oracle(work.params, work.buffers))
        return self.leave(broadcast, work, state, oracle.charge(), oracle.memory())

    def leave(
        self, broadcast: Broadcast, work: Work, state: SiteState, charge: Charge | None, memory: Payload | None = None
    ) -> tuple[Update, SiteState]:
        """What becomes of finished work: an update, through the site halves of the defences, and the state after."""
        with stage("finish"):
            payload, algorithm_state = self.algorithm_in(broadcast.round).finish(broadcast, work)
        update = Update(self.site.id, broadcast.round, self.weight, payload)
        memories = dict(state.defences)
        for defence in self.defences:
            kind = defence.kind()
            with stage(kind):
                update, memories[kind] = defence.configured_by(broadcast.extra).protect(
                    update, memories.get(kind, {}), self.stream.child(self.site.id, broadcast.round, kind)
                )
        kept_by_defences = {kind: tensors for kind, tensors in memories.items() if tensors}
        return update, SiteState(algorithm_state, entered(state.ledger, charge), kept_by_defences, memory or {})


@contextmanager
def stage(name: str) -> Iterator[None]:
    """Name the stage in whatever error leaves the block.

    Raises Failed: an error that is not of Consilium; others are located and raised again.
    """
    try:
        yield
    except ConsiliumError as error:
        raise error.at(name) from error
    except (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        remedy = "" if not isinstance(error, torch.OutOfMemoryError) else "use a smaller batch or chunk"
        raise Failed(reason, remedy=remedy, where=name) from error
