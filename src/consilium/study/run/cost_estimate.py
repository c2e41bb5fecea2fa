"""How long a plan will take: a few gradients of every kind of training are timed and multiplied by the steps to come.

So are the shadows that attacks will train.  Evaluation and attacks are not included; a run's progress line has them.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping

from torch import Tensor

from consilium.federate.client.frozen_features import rehearsal
from consilium.federate.client.participant import Participant
from consilium.study.build.factory import participants
from consilium.study.evaluate.shadow_training import shadow_workers, shadows_made, shadows_wanted
from consilium.study.plan.nodes import TrainingNode
from consilium.study.plan.plan import Plan
from consilium.study.store.environment import settled
from consilium.study.store.store import Store, is_trained

__all__ = ["expected_seconds", "unfinished", "unfinished_shadows"]

_CALLS = 2
_SITES = 20
_KINDS = 30
"""Of more sites, and of more kinds of training, about so many are timed, evenly spaced, and stand for the others."""


def unfinished(plan: Plan, store: Store | None) -> list[TrainingNode]:
    """The trainings of ``plan`` that ``store`` does not hold."""
    if store is None:
        return list(plan.trainings.values())
    return [node for node in plan.trainings.values() if not is_trained(store, node.digest)]


def unfinished_shadows(plan: Plan, store: Store | None) -> dict[str, int]:
    """How many shadows of each training are still to train."""
    return {
        training: max(0, wanted - shadows_made(store, training)) for training, wanted in shadows_wanted(plan).items()
    }


def expected_seconds(plan: Plan, nodes: list[TrainingNode], shadows: Mapping[str, int] | None = None) -> float:
    """Seconds of training in ``nodes`` and of so many ``shadows`` by training.

    Each kind (arm and infection) is probed on every site, or a sample of both; shadows are trained side by
    side, one a core.
    """
    todo = {node.digest: 1.0 for node in nodes}
    for training, count in (shadows or {}).items():
        if count:
            todo[training] = todo.get(training, 0.0) + count / min(count, shadow_workers(plan.trainings[training].spec))
    kinds: dict[tuple[str, str], tuple[TrainingNode, float]] = {}
    for training, times in todo.items():
        node = plan.trainings[training]
        kind = (node.arm.name, "" if node.corruption is None else node.corruption.name)
        kinds[kind] = kinds.get(kind, (node, 0.0))[0], kinds.get(kind, (node, 0.0))[1] + times
    sample = list(kinds.values())[:: max(1, len(kinds) // _KINDS)]
    with settled(plan.spec.device, plan.spec.threads):
        known = [_seconds(plan, node) * times for node, times in sample]
    share = sum(times for _, times in sample) / max(1.0, sum(todo.values()))
    return math.fsum(known) / share if known else 0.0


def _seconds(plan: Plan, node: TrainingNode) -> float:
    data, net = plan.materials.consortium(node.seed), plan.materials.network(node.seed)
    people = participants(node.spec, node.arm, node.seed, node.corruption, data, net)
    params, buffers = net.start()  # the whole model's: a personalised algorithm's server may hold a part of it
    sample = list(people.values())[:: max(1, len(people) // _SITES)]
    probes = [_seconds_of(person, params, buffers) for person in sample]
    once, each = (math.fsum(seconds) / len(sample) * len(people) for seconds in zip(*probes, strict=True))
    return once + float(node.rounds) * each * node.spec.federation.shape.fraction


def _seconds_of(person: Participant, params: Tensor, buffers: Tensor) -> tuple[float, float]:
    """Seconds spent once (a model's fixed front on the records), and those of one local round.

    The first call, which sets things up, is not timed.
    """
    taught, once = rehearsal(person.train, person.network, person.objective)

    def calls(name: str, most: int) -> tuple[float, int]:
        stream = person.stream.child("probe", name)
        oracle = person.rule.oracle(*taught, person.objective, person.schedule, stream)
        start = time.perf_counter()
        for _ in range(min(most, oracle.steps)):
            oracle(params, buffers)
        return (time.perf_counter() - start) / max(1, min(most, oracle.steps)), oracle.steps

    calls("warm-up", 1)
    each, steps = calls("timed", _CALLS)
    return once, each * steps
