"""The third step of a cell, once for each attack of the study that has no finding yet."""

from __future__ import annotations

from dataclasses import replace

from torch import nn

from consilium.evidence.cell import CellEvidence
from consilium.monitor.eta import Kind
from consilium.study.evaluate.canary_audit import Auditor
from consilium.study.evaluate.draft import Draft
from consilium.study.evaluate.evaluate import AttackContext, attack_digest, implied, run_attack
from consilium.study.plan.nodes import CellNode
from consilium.study.progress.events import Began, Skipped
from consilium.study.spec.spec import AttackSpec

from .context import StageContext
from .origin_choice import origin_of

__all__ = ["attack_model", "is_attacked"]


def attack_model(context: StageContext, cell: CellNode, attack: AttackSpec, draft: Draft) -> bool:
    """Attack the model of ``cell`` unless it was attacked; True if there is something new in ``draft``."""
    source, sites = context.plan.source(attack, cell), context.asked(cell, attack.attack)
    auditor = Auditor.of(context.plan, attack, draft.evidence.privacy.claims)
    wanted = attack_digest(cell.digest, attack, None if source is None else source.digest, sites, auditor)
    known = context.seals.finding(cell.digest, draft.evidence.findings.get(attack.name))
    if known is not None and known.digest == wanted and known.status == "ok":
        context.outcome.attacks_reused += 1
        context.tell(Skipped(Kind("attacks", attack.name)))
        return False
    context.guard()
    context.tell(Began(f"{attack.name} on {cell.label}"))
    finding = run_attack(attack, _scene(context, cell, attack, sites, auditor))
    notes = context.asked.caveats(cell, finding)
    measures = (*finding.measures, *implied(finding, draft.evidence.privacy))
    context.outcome.attacks_run += 1
    draft.found(attack.name, replace(finding, measures=measures, notes=(*finding.notes, *notes)))
    return True


def is_attacked(evidence: CellEvidence, attack: AttackSpec) -> bool:
    """Whether there is a finding of ``attack`` with these knobs, as far as the evidence alone can tell."""
    finding = evidence.findings.get(attack.name)
    return finding is not None and finding.status == "ok" and dict(finding.configuration) == attack.configuration()


def _scene(
    context: StageContext, cell: CellNode, attack: AttackSpec, sites: tuple[str, ...], auditor: Auditor | None
) -> AttackContext:
    source, origin = context.plan.source(attack, cell), origin_of(context, cell)
    return AttackContext(
        cell=cell.digest,
        folder=context.store.cell(cell.digest),
        model=context.released(cell.digest),
        source=lambda: None if source is None else (source.digest, context.released(source.digest)),
        data=context.data(cell.seed),
        asked=sites,
        seed=cell.seed,
        retraining=origin.retraining(sites),
        replay=origin.replay(),
        auditor=auditor,
        start=None if auditor is None else _before(context, cell),
    )


def _before(context: StageContext, cell: CellNode) -> nn.Module:
    """The model before training."""
    net = context.network(cell)
    return net.module_at(*net.start()).cpu()
