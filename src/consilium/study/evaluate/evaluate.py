"""A cell: one released model, judged once on the whole test set, then attacked; findings are kept one by one."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from consilium.core.attack import Attack
from consilium.core.errors import Failed
from consilium.core.finding import Finding, Measure
from consilium.core.random import Stream
from consilium.core.records import Consortium
from consilium.core.round_observer import RoundObserver
from consilium.core.seal import file_digest
from consilium.core.tensor_files import write_tensors
from consilium.core.threat import BackdoorView, CanaryView, ModelView, View
from consilium.core.update import Payload
from consilium.evidence.audit import AuditEvidence
from consilium.evidence.cell import CellEvidence
from consilium.evidence.finding import FindingEvidence
from consilium.evidence.privacy import PrivacyEvidence
from consilium.evidence.round import RoundReport
from consilium.evidence.threat import ThreatEvidence
from consilium.learn.alike import answered_apart, departure
from consilium.learn.user_code.custom_code import has_custom_code
from consilium.measure.clustered import with_unit_counts
from consilium.measure.convergence import to_accuracy
from consilium.measure.cost import latency_ratio, stored_bytes
from consilium.measure.membership import bounds
from consilium.study.plan.checks.weak_knobs import weak_knobs
from consilium.study.plan.stage_keys import attack_recipe, digest
from consilium.study.spec.spec import JUDGED, AttackSpec
from consilium.study.store.environment import code
from consilium.study.store.error_summary import error_summary

from .canary_audit import Auditor
from .observer_replay import ObserverReplay
from .release import Released, certificates, custom_answers
from .seals import scores_hold
from .shadow_training import Retraining
from .views import grant

__all__ = [
    "AttackContext",
    "Judgement",
    "answers",
    "asks",
    "attack_digest",
    "costs",
    "implied",
    "is_judged",
    "judge",
    "run_attack",
]

_FILE = f"{JUDGED}.safetensors"
_BATCH = 512
_ATTACKED = (2, 64, 128, 256, 1024, 2048)
"""Batches that attacks ask in, those of membership up to the last."""
_LATENCY_REPEATS = 15
_LATENCY_BATCH = 64


def asks(attack: Attack) -> bool:
    """True where ``attack`` asks whose records were trained on: test records and canaries are those of the cell."""
    return attack.needs not in (ModelView, CanaryView, BackdoorView)


@dataclass(frozen=True)
class Judgement:
    """``utility`` on the whole test set, whether the model has ``collapsed`` to one class, and its file of answers."""

    utility: tuple[Measure, ...]
    collapsed: bool
    scores: str
    scores_sha256: str


def judge(model: Released, data: Consortium, stream: Stream, folder: Path) -> Judgement:
    """What the model is worth on the whole test set.

    What it answered of each record lies in ``folder`` beside the evidence, so that two models can be compared record by
    record: ``id``, ``unit``, ``correct``, and ``label`` and ``predicted`` ``(n,)`` (without classes the stratum alone,
    and what the task compares its score by).
    """
    logits, test = answers(model.module, data.test.x), data.test
    if has_custom_code(model.plain):
        _refuse_company(model.plain, "the model", data)
    if custom_answers(model.module):
        _refuse_odd_answers(model, logits, data)
    task = data.task
    figures = with_unit_counts(task.measures(logits, test.y, test.units, data.classes, stream), test.units)
    figures += certificates(model.module, test, task, stream.child("certificate"))
    scores = {"id": test.ids, "unit": test.units, "correct": task.right(logits, test.y).cpu()}
    if task.exclusive:
        scores |= {"label": test.y, "predicted": task.predicted(logits).cpu()}
    else:  # masks would be as large as the pictures, and as private
        scores["label"] = task.strata(test.y)
    scores |= {name: value.cpu() for name, value in task.stored(logits, test.y).items()}
    write_tensors(folder / _FILE, scores)
    return Judgement(figures, task.is_collapsed(logits), _FILE, file_digest(folder / _FILE))


def _refuse_odd_answers(model: Released, logits: Tensor, data: Consortium) -> None:
    """An answer defence from elsewhere is held to what a model is: one answer a record, the same in any company."""
    again = answers(model.module, data.test.x)
    if not torch.equal(torch.nan_to_num(again), torch.nan_to_num(logits)):
        reason = "the answer defences answer the same records otherwise when they are asked again"
        raise Failed(reason, remedy="draw nothing in an answer, or derive it from the record alone", where="answer")
    if bool(logits.isnan().any()) and not bool(answers(model.plain, data.test.x).isnan().any()):
        reason = "the answer defences make NaN of answers that the model has"
        raise Failed(reason, remedy="return probabilities from 0 to 1", where="answer")
    _refuse_company(model.module, "the answer defences", data)


def _refuse_company(module: nn.Module, whose: str, data: Consortium) -> None:
    """Custom code may answer otherwise in a batch of another size, or beside another record: no figure is right then.

    Compared on test records, in the batches of this judgement and in those that attacks ask in.
    """
    x, most = data.test.x, sum(len(site.records.train) for site in data.sites)
    tolerance = 1e-3 if x.device.type == "cpu" else 1e-2
    together = answers(module, x)
    if not bool(together.isfinite().all()):  # a model that diverged is said to be so by its figures
        return
    record = answered_apart(module, x, together, tolerance)
    spread = x[:: -(-len(x) // _LATENCY_BATCH)]
    difference = (
        None if record is not None else departure(module, spread, tolerance, [n for n in _ATTACKED if n < most])
    )
    if record is None and difference is None:
        return
    alone = f"in batches of {min(_BATCH, len(x))} test record {record} is answered otherwise than alone"
    raise Failed(
        f"an answer of {whose} depends on the other records of its batch: {difference or alone}",
        remedy="let forward treat each record alone, in batches of every size and whatever is in them",
        where="model",
    )


def is_judged(evidence: CellEvidence, folder: Path) -> bool:
    """True if the model of this cell was judged, members and others too, and its answers of each record are there."""
    there = evidence.scores == _FILE and (folder / _FILE).is_file()
    return evidence.judged and bool(evidence.mediators) and there and scores_hold(folder, evidence)


def costs(model: Released, data: Consortium, rounds: list[RoundReport], target: float = 0.0) -> tuple[Measure, ...]:
    """Bytes of the stored artefact, latency against the same model in fp32, bytes sent per round and site.

    With a ``target`` accuracy also the rounds and bytes until it was reached.
    """
    example = data.test.x[:_LATENCY_BATCH]
    measures = [
        stored_bytes(model.size),
        latency_ratio(model.module, model.plain, example, _LATENCY_REPEATS),
    ]
    for way in ("bytes_up", "bytes_down"):
        sent = [r[way] / max(1, len(r["cohort"])) for r in rounds]
        name = f"{way}_per_round_site"
        measures.append(
            Measure(name, sum(sent) / len(sent), min(sent), max(sent), n=len(sent), unit="B")
            if sent
            else Measure.undefined(name, "nothing was trained")
        )
    if target and rounds:
        measures += to_accuracy(target, rounds)
    return tuple(measures)


def answers(module: nn.Module, x: Tensor, batch: int = _BATCH) -> Tensor:
    """Logits ``(n, classes)`` as the released model answers them."""
    with torch.no_grad():
        return torch.cat([module(x[i : i + batch]) for i in range(0, len(x), batch)])


def attack_digest(
    cell: str, attack: AttackSpec, source: str | None, sites: tuple[str, ...], auditor: Auditor | None = None
) -> str:
    """What a finding depends on; ``sites`` are those whose records are asked about, where an attack asks."""
    audit = None if auditor is None else auditor.configuration()
    return digest(attack_recipe(cell, attack, source, audit, sites if asks(attack.attack) else None))


@dataclass(frozen=True, eq=False)
class AttackContext:
    """One released model as it is attacked: which ``cell``, and the ``folder`` where scores are left.

    ``source`` makes the model that a transfer attack crafts on, with its cell.  ``asked`` are the sites whose records
    are asked about, all of them in the model.  ``replay`` knows what an attack that observes the rounds has seen of
    them; ``auditor`` holds an audit's coins and judges what such an attack guessed; ``start`` is the model before
    training.
    """

    cell: str
    folder: Path
    model: Released
    source: Callable[[], tuple[str, Released] | None]
    data: Consortium
    asked: tuple[str, ...]
    seed: int
    retraining: Callable[[], Retraining] | None = None
    replay: ObserverReplay | None = None
    auditor: Auditor | None = None
    start: nn.Module | None = None

    def view(self, attack: Attack, source: Released | None) -> tuple[View, Payload]:
        """What ``attack`` is granted, and what it remembers of the rounds."""
        if isinstance(attack, RoundObserver) and self.replay is not None:
            return self.replay.view(attack, self.model, self.asked), self.replay.memory(attack)
        stream = Stream(self.seed)
        return grant(attack, self.data, self.asked, self.model, source, stream, self.retraining, self.start), {}


def run_attack(attack: AttackSpec, context: AttackContext) -> FindingEvidence:
    """Run one attack; a failure is a finding that says so, and loses nothing else."""
    start_time = time.perf_counter()
    record = FindingEvidence(
        kind=attack.attack.kind(),
        threat=ThreatEvidence.of(attack.attack.threat, attack.attack.nist),
        sees_model=attack.attack.sees_model,
        configuration=attack.configuration(),
        code=code(),
        asked=context.asked if asks(attack.attack) else None,
    )
    try:
        origin = context.source()
        source = None if origin is None else origin[0]
        record = replace(record, digest=attack_digest(context.cell, attack, source, context.asked, context.auditor))
        finding, audit = _run(attack.attack, context, None if origin is None else origin[1])
        record = _written(replace(record, audit=audit), finding, context.folder, attack.name)
        weak = weak_knobs([attack.attack], len(context.data.classes))
        record = replace(record, notes=(*record.notes, *weak))
        if source == context.cell:
            note = "Crafted on this very model: here transfer is the white-box attack."
            record = replace(record, notes=(*record.notes, note))
    except (Exception, SystemExit) as error:  # an attack may be anyone's code
        record = replace(record, status="failed", error=error_summary(error))
    return replace(record, seconds=time.perf_counter() - start_time)


def _run(attack: Attack, context: AttackContext, source: Released | None) -> tuple[Finding, AuditEvidence | None]:
    """The finding, with ids beside its scores, and the record of the audit where it is one."""
    stream = Stream(context.seed).child("attack", digest(attack.configuration()))
    view, memory = context.view(attack, source)
    finding, audit = attack(view, memory, stream.child("run").generator()), None
    if context.auditor is not None:
        finding, audit = context.auditor.judge(finding, attack.threat, context.data, context.asked, stream)
    return _named(finding, view), audit


def implied(finding: FindingEvidence, privacy: PrivacyEvidence) -> tuple[Measure, ...]:
    """What the model's claim allows at most, beside each figure of a membership attack; nothing without a claim.

    A claim of labels alone bounds nothing here; one of patients covers each of their records, and one of sites at the
    epsilon of replacing a site.  An attack that sees no model is bound by nobody's.
    """
    epsilon = privacy.record_epsilon
    if finding.threat.aim != "membership" or not finding.sees_model or epsilon is None:
        return ()
    return bounds(finding.measures, float(epsilon), float(privacy.delta or 0.0))


def _named(finding: Finding, view: View) -> Finding:
    """``finding`` with the candidates' ids and units beside their scores: of whom each score is."""
    records = getattr(view, "candidates", None)
    if records is None or any(len(scores) != len(records) for scores in finding.scores.values()):
        return finding
    return replace(finding, scores={**finding.scores, "id": records.ids, "unit": records.units})


def _written(record: FindingEvidence, finding: Finding, folder: Path, name: str) -> FindingEvidence:
    record = replace(record, measures=tuple(finding.measures), notes=tuple(finding.notes))
    tensors = dict(finding.scores) | {f"example/{k}": v for k, v in finding.examples.items()}
    if not tensors:
        return record
    path = folder / f"{name}.safetensors"
    write_tensors(path, tensors)
    return replace(record, scores=path.name, scores_sha256=file_digest(path))
