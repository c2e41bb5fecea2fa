"""One cell: its model is released, judged once on the whole test set, and attacked; all of it in one evidence.json."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

from consilium.core.errors import ConsiliumError
from consilium.core.seal import seal_of
from consilium.evidence.cell import CellEvidence
from consilium.evidence.storage.read import read_cell
from consilium.monitor.eta import Kind
from consilium.study.evaluate.canary_audit import made_audits
from consilium.study.evaluate.draft import Draft
from consilium.study.plan.nodes import CellNode
from consilium.study.progress.events import PieceDone, ShadowsOver, Skipped
from consilium.study.progress.outcome import Outcome
from consilium.study.progress.stage_monitor import Monitor
from consilium.study.spec.arms import Arm
from consilium.study.store.error_summary import error_summary
from consilium.study.store.store import Store, read_stored

from .attacking import attack_model, is_attacked
from .context import StageContext
from .judging import judge_model
from .manifest import cell_name, cell_record, given
from .stage import Stage

__all__ = ["EvaluateStage", "evaluate_key"]


def evaluate_key(digest: str) -> str:
    """The key of the stage that makes the cell ``digest``."""
    return f"evaluate-{digest}"


@dataclass(frozen=True, eq=False)
class EvaluateStage(Stage):
    """Makes ``cells/<digest>``, and ``models/<digest>`` before it."""

    cell: CellNode = field(kw_only=True)

    @property
    def arm(self) -> Arm:
        """That of its cell."""
        return self.cell.arm

    def done(self, context: StageContext) -> bool:
        """The cell is ok, with a finding for every attack as the study has it now."""
        evidence = self._stored(context.store)
        attacks = context.plan.spec.attacks
        return evidence is not None and evidence.status == "ok" and all(is_attacked(evidence, a) for a in attacks)

    def run(self, context: StageContext) -> None:
        """Release, judge, attack; whatever breaks, what was measured until then stays."""
        draft = self._draft(context)
        try:
            self._steps(context, draft)
            draft.end()
        except (Exception, SystemExit) as error:  # the other cells go on
            draft.fail(error_summary(error))
        self._settle(context, draft)

    def fail(self, context: StageContext, error: str) -> None:
        """What was measured until then stays."""
        draft = self._draft(context)
        draft.fail(error)
        self._settle(context, draft)

    def outputs(self, store: Store) -> tuple[Path, ...]:
        """The evidence."""
        return (store.cell(self.cell.digest) / "evidence.json",)

    def conclude(self, context: StageContext, monitor: Monitor, outcome: Outcome) -> None:
        """Its status and its seal go into the study's record, its figures to the sinks."""
        evidence = self._stored(context.store)
        if evidence is None:
            context.status[self.cell.digest] = "started"
            return
        context.seals.cells[self.cell.digest] = seal_of(read_stored(self.outputs(context.store)[0]) or {})
        context.status[self.cell.digest] = evidence.status
        if evidence.status == "failed":
            outcome.failed[self.cell.label] = str(evidence.error)
            monitor.say(f"cell {self.cell.label} failed: {evidence.error}")
        monitor.cell(self.cell, evidence)

    def _steps(self, context: StageContext, draft: Draft) -> None:
        cell, queue = self.cell, list(context.plan.spec.attacks)
        try:
            context.require_training(cell)
            make = lambda: context.released(cell.digest)  # noqa: E731
            context.seals.check_model(cell.model, draft.evidence.released, make)
            draft.evidence = context.seals.renewed(draft.evidence)
            if judge_model(context, cell, draft):
                self._save(context, draft)
            while queue:
                if attack_model(context, cell, queue[0], draft):
                    self._save(context, draft)
                    context.tell(PieceDone(Kind("attacks", queue[0].name)))
                del queue[0]
        finally:
            for attack in queue:
                context.tell(Skipped(Kind("attacks", attack.name)))
            for node in cell.after:
                context.tell(ShadowsOver(node.digest))

    def _draft(self, context: StageContext) -> Draft:
        stored = context.seals.evidence(self.cell.digest, cell_record(context.plan, self.cell))
        return Draft(_arranged(context, replace(stored, cell=cell_name(self.cell))))

    def _save(self, context: StageContext, draft: Draft) -> None:
        """Between two findings: not done yet."""
        context.guard()
        context.seals.write(self.cell.digest, replace(draft.evidence, status="started", error=None))

    def _settle(self, context: StageContext, draft: Draft) -> None:
        context.guard()
        context.seals.settle(self.cell.digest, _arranged(context, draft.evidence))

    def _stored(self, store: Store) -> CellEvidence | None:
        try:
            record = read_stored(self.outputs(store)[0])
            return None if record is None else read_cell(record, strict=True)
        except (ConsiliumError, ValueError):
            return None


def _arranged(context: StageContext, evidence: CellEvidence) -> CellEvidence:
    """Findings in the order of the study; those of attacks that it does not have are set aside, never lost."""
    names = [attack.name for attack in context.plan.spec.attacks]
    known = {**evidence.set_aside, **evidence.findings}
    findings = {name: known[name] for name in names if name in known}
    aside = {name: finding for name, finding in known.items() if name not in names}
    audits = made_audits(findings)
    return replace(evidence, given=given(context.plan.spec), findings=findings, set_aside=aside, audits=audits)
