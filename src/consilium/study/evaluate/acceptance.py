"""What a study accepts, as its record has it: when it was stated, what stood there before, and the verdicts.

Thresholds prove something only if nobody knew the figures when they were stated.  The first run in a folder writes
them with their SHA-256 and the time, before it trains; as long as they stay the same, so does that time.  Others take
their place under the time of that run, the earlier ones stay beside them, and where a figure was known by then (a model
was judged, or a round was assessed) the record says so.  No recipe and no digest depends on any of it.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, replace

from consilium.core.errors import Failed
from consilium.core.finding import Measure
from consilium.core.seal import is_altered
from consilium.evidence.acceptance import AcceptanceEvidence, StatementEvidence, ThresholdEvidence, VerdictEvidence
from consilium.evidence.cell import CellEvidence
from consilium.evidence.storage.read import read_cell, read_study_record
from consilium.evidence.study import ArmEvidence, StudyEvidence
from consilium.measure.acceptance import OF_ATTACKS, OF_MODELS, Decision, FigureKind, decide
from consilium.study.spec.spec import Spec, Threshold
from consilium.study.spec.thresholds import canonical_thresholds
from consilium.study.store.store import Store, read_stored

__all__ = ["cells_in", "state_thresholds", "verdicts", "with_verdicts"]

_AFTER = "stated after the figures were known: it says what the figures allow, not what was wanted of them"
_UNKNOWN = "study.json was changed or could not be read, so what was stated before is not known"


def state_thresholds(spec: Spec, store: Store) -> AcceptanceEvidence | None:
    """What ``study.json`` says from now on of the study's thresholds; None where there are none and never were."""
    (before, lost), thresholds = _before(store), spec.accept
    plain = canonical_thresholds(spec)
    sha256 = hashlib.sha256(json.dumps(plain, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
    if before is None and not thresholds:
        return None
    rows = tuple(_row(one) for one in thresholds)
    if before is not None and before.sha256 == sha256:
        return replace(before, thresholds=rows, verdicts=())
    known = _figures_known(store)
    earlier = () if before is None else (*before.earlier, _statement(before))
    notes = (*(() if before is None else before.notes), *_notes(earlier, sha256, known, bool(thresholds), lost))
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    return AcceptanceEvidence(rows, sha256, now, known, earlier, (), notes)


def with_verdicts(record: StudyEvidence, cells: Iterable[CellEvidence]) -> StudyEvidence:
    """``record`` with the verdicts that ``cells`` allow."""
    if record.accept is None:
        return record
    return replace(record, accept=replace(record.accept, verdicts=verdicts(record, cells)))


def verdicts(record: StudyEvidence, cells: Iterable[CellEvidence]) -> tuple[VerdictEvidence, ...]:
    """One for each threshold and arm that it is of, over all seeds."""
    accept = record.accept or AcceptanceEvidence()
    figures: dict[tuple[int, str], list[Measure]] = {}
    for cell in cells:
        for i, threshold in enumerate(accept.thresholds):
            if cell.judged and cell.cell.infected_by == (threshold.corruption or "none"):
                figures.setdefault((i, cell.arm), []).append(_measure(threshold, cell))
    return tuple(
        _verdict(i, threshold, arm, figures.get((i, arm.name), []), len(record.seeds))
        for i, threshold in enumerate(accept.thresholds)
        for arm in record.arms
        if threshold.arm in (None, arm.name)
    )


def cells_in(store: Store, record: StudyEvidence) -> Iterator[CellEvidence]:
    """The evidence of a study's cells, one at a time; what is missing, altered or unreadable gives no figure."""
    for entry in record.cells:
        try:
            plain = read_stored(store.cell(entry.digest) / "evidence.json")
        except Failed:
            continue
        if plain is not None and not is_altered(plain):
            yield read_cell(plain)


def _verdict(
    number: int, threshold: ThresholdEvidence, arm: ArmEvidence, measures: Sequence[Measure], seeds: int
) -> VerdictEvidence:
    bounds, figure = (threshold.at_least, threshold.at_most), _figure(threshold)
    if arm.refusal is not None or arm.status == "refused":
        why = "" if arm.refusal is None else f": {arm.refusal.title}"
        decision = Decision("undecided", f"the arm was refused{why}")
    elif len(measures) < seeds:
        decision = Decision(
            "undecided", f"{seeds - len(measures)} of {seeds} models were not judged", seeds=len(measures)
        )
    elif threshold.measure == "epsilon" and threshold.at_most is not None and any(m.value is None for m in measures):
        decision = Decision("not met", "no finite epsilon is claimed", seeds=len(measures))
    elif figure is None:
        decision = Decision("undecided", "this version does not know the measure", seeds=len(measures))
    else:
        decision = decide(figure, *bounds, measures)
    return VerdictEvidence(number, arm.name, **asdict(decision))


def _figure(threshold: ThresholdEvidence) -> FigureKind | None:
    if not threshold.attack:
        return OF_MODELS.get(threshold.measure)
    return next((known[threshold.measure] for known in OF_ATTACKS.values() if threshold.measure in known), None)


def _measure(threshold: ThresholdEvidence, cell: CellEvidence) -> Measure:
    """The named measure of one cell, undefined where it has none."""
    name = threshold.measure
    if threshold.attack:
        finding = cell.findings.get(threshold.attack)
        if finding is None or finding.status != "ok":
            return Measure.undefined(name, f"{threshold.attack} was not run, or failed")
        return finding.measure(name) or Measure.undefined(name, f"{threshold.attack} did not measure it")
    if name == "epsilon":
        epsilon = cell.privacy.epsilon
        return Measure.undefined(name, "no finite epsilon is claimed") if epsilon is None else Measure(name, epsilon)
    every = (*cell.utility, *cell.mediators, *cell.cost)
    return next((m for m in every if m.name == name), Measure.undefined(name, "it was not measured"))


def _row(one: Threshold) -> ThresholdEvidence:
    names = {name: getattr(one, name) or None for name in ("attack", "arm", "corruption")}
    return ThresholdEvidence(one.measure, **names, at_least=one.at_least, at_most=one.at_most)


def _statement(accept: AcceptanceEvidence) -> StatementEvidence:
    return StatementEvidence(accept.thresholds, accept.sha256, accept.stated, accept.after_figures)


def _before(store: Store) -> tuple[AcceptanceEvidence | None, bool]:
    """What the record of an earlier run says, and whether that record is lost."""
    try:
        plain = read_stored(store.folder / "study.json")
    except Failed:
        return None, True
    if plain is None:
        return None, False
    return (None, True) if is_altered(plain) else (read_study_record(plain).accept, False)


def _figures_known(store: Store) -> bool:
    """True where this folder holds an assessed round or a judged model of any study that ran in it."""
    if any(path.stat().st_size for path in store.folder.glob("trainings/*/rounds.jsonl")):
        return True
    return any(_is_judged(store, path.parent.name) for path in store.folder.glob("cells/*/evidence.json"))


def _is_judged(store: Store, cell: str) -> bool:
    try:
        return bool((read_stored(store.cell(cell) / "evidence.json") or {}).get("utility"))
    except Failed:
        return True  # unreadable evidence may have been read before


def _notes(
    earlier: Sequence[StatementEvidence], sha256: str, known: bool, any_stated: bool, lost: bool
) -> Iterator[str]:
    if lost:
        yield _UNKNOWN
    now = f"thresholds {sha256[:16]}"
    instead = f", in place of {earlier[-1].sha256[:16]} of {earlier[-1].stated}" if earlier else ""
    if not any_stated:
        yield f"{now}{instead}: all thresholds were withdrawn{' after the figures were known' if known else ''}"
    elif known:
        yield f"{now}{instead}: {_AFTER}"
    elif earlier:
        yield f"{now}{instead}: changed before any figure was known"
