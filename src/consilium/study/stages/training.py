"""One federated training: skipped where it is done, and gone on with from its last round where it is not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from consilium.core.seal import sealed
from consilium.federate.train import Trained, train
from consilium.study.build.engine_choice import engine_for
from consilium.study.build.factory import assessing, colluders, exchange, start
from consilium.study.evaluate.aggregation_notes import check_rounds
from consilium.study.evaluate.rounds.backdoor_series import backdoor_series
from consilium.study.evaluate.training_files import FileSeals, file_seals, replaced_seals
from consilium.study.plan.budget_stop import budget_stop
from consilium.study.plan.nodes import TrainingNode
from consilium.study.progress.callbacks import Watch, training_label
from consilium.study.progress.events import Waiting
from consilium.study.progress.outcome import Outcome
from consilium.study.progress.stage_monitor import Monitor
from consilium.study.spec.arms import Arm
from consilium.study.store.error_summary import error_summary
from consilium.study.store.store import Store, is_trained, read_rounds, write_json

from .context import StageContext
from .stage import Stage

__all__ = ["TrainStage", "train_key"]

_SCHEMA = 1


def train_key(digest: str) -> str:
    """The key of the stage that makes the training ``digest``."""
    return f"train-{digest}"


@dataclass(frozen=True, eq=False)
class TrainStage(Stage):
    """Makes ``trainings/<digest>``."""

    node: TrainingNode = field(kw_only=True)

    @property
    def arm(self) -> Arm:
        """That of its training."""
        return self.node.arm

    def done(self, context: StageContext) -> bool:
        """Its record says so and its last state is there."""
        return is_trained(context.store, self.node.digest)

    def run(self, context: StageContext) -> None:
        """Train, go on, or skip; a failure stands in ``training.json``."""
        watch = Watch(context.plan, self.node, context.tell)
        try:
            finished = self.done(context)
            replaced = context.check_training(self.node.digest, finished)  # its record is kept: right files hold again
            if finished:
                context.outcome.reused += 1
            else:
                self._train(context, watch, replaced)
            context.failures[self.node.digest] = ""
            watch.finished()
        except (Exception, SystemExit) as error:  # it may be anyone's code, and the other trainings go on
            context.failures[self.node.digest] = error_summary(error)
            watch.failed()
            context.say(f"training {training_label(self.node)} failed: {error_summary(error)}")

    def fail(self, context: StageContext, error: str) -> None:
        """Its record says why, as where the training itself had failed."""
        folder = context.store.training(self.node.digest)
        self._write(context, {"status": "failed", "error": error}, replaced_seals(folder))
        context.failures[self.node.digest] = error
        context.say(f"training {training_label(self.node)} failed: {error}")

    def failure(self, context: StageContext) -> str:
        """The training's own."""
        return context.failures.get(self.node.digest, "")

    def outputs(self, store: Store) -> tuple[Path, ...]:
        """Its last state."""
        return (store.training(self.node.digest) / "checkpoint.safetensors",)

    def conclude(self, context: StageContext, monitor: Monitor, outcome: Outcome) -> None:
        """The digests of what it left go into the study's record, unless its files are not those that it left."""
        if not context.training_failure(self.node.digest):
            context.seals.close_training(self.node.digest)

    def _train(self, context: StageContext, watch: Watch, replaced: Sequence[FileSeals]) -> None:
        """The record says what is going on at every moment."""
        node, folder = self.node, context.store.training(self.node.digest)
        try:
            self._write(context, {"status": "started"}, replaced)
            trained = _rounds(context, node, watch)
            check_rounds(read_rounds(context.store, node.digest), context.say)
            bad = colluders(node.corruption, context.data(node.seed).sites, node.seed)
            about = {"status": "ok", "seconds": trained.seconds, "corrupted": list(bad), "stopped": trained.stopped}
            if trained.stopped is not None:
                context.say(f"training {training_label(node)}: {trained.stopped}")
            self._write(context, {**about, "seals": file_seals(folder)}, replaced)
            context.outcome.trained += 1
            context.outcome.resumed += trained.resumed_from > 0
        except (Exception, SystemExit) as error:
            self._write(context, {"status": "failed", "error": error_summary(error)}, replaced)
            raise

    def _write(self, context: StageContext, about: Mapping[str, Any], replaced: Sequence[FileSeals]) -> None:
        context.guard()
        record = {"schema": _SCHEMA, "digest": self.node.digest, "recipe": dict(self.node.recipe), "error": None}
        record |= {"replaced": list(replaced)} if replaced else {}
        write_json(context.store.training(self.node.digest) / "training.json", sealed({**record, **about}))


def _rounds(context: StageContext, node: TrainingNode, watch: Watch) -> Trained:
    spec, net, data = node.spec, context.network(node), context.data(node.seed)
    shape, folder = spec.federation.shape, context.store.training(node.digest)
    whole = exchange(spec, node.arm, node.seed, node.corruption, data, net)
    whole = context.observer_replay(node).beside(whole, net)
    judging, begin = assessing(whole), start(spec, node.arm, data, net)
    if context.carrier is None:
        engine = engine_for(shape, spec.device, whole, judging, begin, folder, context.cores)
    else:
        engine, whole = context.carrier(node, whole, judging, lambda *wait: context.tell(_waiting(*wait)))
    with engine as carrying:
        return train(
            carrying,
            whole,
            judging,
            begin,
            shape.rounds,
            folder,
            watch,
            assess_every=shape.assess_every,
            assess_cohort=shape.assess == "cohort",
            stop=budget_stop(node, data),
            name=node.digest,
            guard=context.guard,
            judged=backdoor_series(node, net, data),
        )


def _waiting(question: str, sites: Sequence[str], seconds: float) -> Waiting:
    return Waiting(question, tuple(sites), seconds)
