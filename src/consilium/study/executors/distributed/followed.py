"""A stage that runs elsewhere, as the store shows it: told as if it ran here, a little later."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from consilium.core.plain import read_json_lines
from consilium.monitor.eta import Kind
from consilium.study.executors.perform import Prepared
from consilium.study.plan.nodes import CellNode, TrainingNode
from consilium.study.progress.callbacks import rounds_kind, training_curve
from consilium.study.progress.events import (
    Began,
    CurveBegan,
    CurveEnded,
    PieceDone,
    RoundDone,
    ShadowsOver,
    Skipped,
    TrainingDone,
)
from consilium.study.stages.evaluation import EvaluateStage
from consilium.study.stages.stage import Stage
from consilium.study.stages.training import TrainStage
from consilium.study.store.store import read_stored

__all__ = ["Followed"]


class Followed:
    """Looked at from time to time, and once more at its end."""

    def __init__(self, prepared: Prepared, stage: Stage) -> None:
        self.stage, self._plan, self._store = stage, prepared.context.plan, prepared.context.store
        self._tell, self._rounds, self._attacks = prepared.teller(stage.key), 0, set[str]()
        if isinstance(stage, TrainStage):
            self._rounds = len(self._reports(stage.node))
            self._tell(Began(stage.label, stage.node.rounds))
            self._tell(Skipped(rounds_kind(stage.node), self._rounds))
            self._tell(CurveBegan(training_curve(stage.node), self._rounds))
        else:
            self._tell(Began(stage.label))

    def look(self) -> None:
        """Tell what is new."""
        if isinstance(self.stage, TrainStage):
            for report in self._reports(self.stage.node)[self._rounds :]:
                self._rounds += 1
                self._tell(RoundDone(rounds_kind(self.stage.node), report))
        elif isinstance(self.stage, EvaluateStage):
            for name in self._found(self.stage.cell) - self._attacks:
                self._attacks.add(name)
                self._tell(PieceDone(Kind("attacks", name)))

    def end(self) -> None:
        """Nothing more comes; what was never seen is done or will never be."""
        self.look()
        if isinstance(self.stage, TrainStage):
            self._tell(Skipped(rounds_kind(self.stage.node), max(0, self.stage.node.rounds - self._rounds)))
            self._tell(TrainingDone())
            self._tell(CurveEnded(True))
        elif isinstance(self.stage, EvaluateStage):
            for attack in self._plan.spec.attacks:
                if attack.name not in self._attacks:
                    self._tell(Skipped(Kind("attacks", attack.name)))
            for node in self.stage.cell.after:
                self._tell(ShadowsOver(node.digest))

    def _reports(self, node: TrainingNode) -> list[Mapping[str, Any]]:
        try:
            lines = read_json_lines(self._store.training(node.digest) / "rounds.jsonl")
        except (OSError, ValueError):
            return []
        return [report for line, report in lines if report is not None and line.endswith(b"}\n")]

    def _found(self, cell: CellNode) -> set[str]:
        try:
            record = read_stored(self._store.cell(cell.digest) / "evidence.json") or {}
        except Exception:  # it is being replaced, or is somebody else's: the stage's end says what it was
            return set()
        known = {attack.name for attack in self._plan.spec.attacks}
        findings = record.get("findings")
        return known.intersection(findings) if isinstance(findings, dict) else set()
