"""The graph of a plan: every stage, in the order of a run that has one worker.

    train-T  ->  evaluate-C                      a cell waits for its training
    train-S  ->  release-M  ->  evaluate-C       and for the model that a transfer attack crafts on

Cells of one training run one after the other where an attack writes beside the training: shadows, or the memory of an
attack that watches a replay.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from consilium.core.round_observer import RoundObserver
from consilium.study.plan.nodes import CellNode
from consilium.study.plan.plan import Plan
from consilium.study.plan.stage_keys import digest
from consilium.study.progress.callbacks import training_label

from .evaluation import EvaluateStage, evaluate_key
from .releasing import ReleaseStage, release_key
from .stage import Stage
from .training import TrainStage, train_key

__all__ = ["stages_of", "study_digest", "width"]


def stages_of(plan: Plan) -> Mapping[str, Stage]:
    """By key: of each seed the trainings, the models that others craft on, and the cells."""
    sources = {cell.digest: _sources(plan, cell) for cell in plan.cells}
    crafted_on = {source.digest for cell, named in sources.items() for source in named if source.digest != cell}
    stages: list[Stage] = []
    for seed in plan.spec.seeds:
        cells = [cell for cell in plan.cells if cell.seed == seed]
        for node in plan.trainings.values():
            if node.seed == seed:
                stages.append(TrainStage(train_key(node.digest), f"training {training_label(node)}", seed, node=node))
        for cell in cells:
            if cell.digest in crafted_on:
                label, after = f"model of {cell.label}", _trained(cell)
                stages.append(ReleaseStage(release_key(cell.model), label, seed, after, cell=cell))
        for cell in cells:
            needed = [release_key(one.model) for one in (cell, *sources[cell.digest]) if one.digest in crafted_on]
            after = (*_trained(cell), *dict.fromkeys(needed))
            key, shared = evaluate_key(cell.digest), _shared(plan, cell)
            stages.append(EvaluateStage(key, f"cell {cell.label}", seed, after, shared, cell=cell))
    return {stage.key: stage for stage in stages}


def study_digest(plan: Plan) -> str:
    """16 digits of what a study will do: the name of every stage, and the attacks, which name none."""
    attacks = {attack.name: attack.configuration() for attack in plan.spec.attacks}
    return digest({"schema": 1, "stages": list(stages_of(plan)), "attacks": attacks})


def width(stages: Sequence[Stage]) -> int:
    """How many of ``stages`` can run at once, at most: of those that share a name one."""
    kinds: dict[str, set[object]] = {}
    for stage in stages:
        kinds.setdefault(type(stage).__name__, set()).add(stage.exclusive or stage.key)
    return max((len(apart) for apart in kinds.values()), default=0)


def _sources(plan: Plan, cell: CellNode) -> list[CellNode]:
    return [source for attack in plan.spec.attacks if (source := plan.source(attack, cell)) is not None]


def _trained(cell: CellNode) -> tuple[str, ...]:
    return tuple(train_key(node.digest) for node in cell.after)


def _shared(plan: Plan, cell: CellNode) -> frozenset[str]:
    attacks = [one.attack for one in plan.spec.attacks]
    if not any(a.retrains() or isinstance(a, RoundObserver) for a in attacks):
        return frozenset()
    return frozenset(f"beside {node.digest}" for node in cell.after)
