"""Read a study's folder.

The folder is the interface: fields are only ever added, so unknown ones are ignored, and what is missing becomes an
empty value rather than an error.  A cell that was killed, failed or cannot be read stays in the study under that name:
a report that drops its failures would flatter the study.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from consilium.core.count_words import count_words
from consilium.core.errors import Refused
from consilium.core.plain import read_json, read_json_lines
from consilium.core.terminal import printable
from consilium.evidence.cell import CellEvidence
from consilium.evidence.finding import FindingEvidence
from consilium.evidence.privacy import PrivacyEvidence
from consilium.evidence.round import RoundEvidence
from consilium.evidence.storage.read import SCHEMA, read_cell, read_round, read_study_record
from consilium.evidence.study import ArmEvidence, CellEntry
from consilium.study.evaluate.seals import scores_hold
from consilium.study.evaluate.training_files import FileSeals

from .records import CellRecord, FindingRecord, StudyRecord
from .seals import (
    ALTERED,
    evidence_trouble,
    files_trouble,
    study_trouble,
    training_files_trouble,
    unsealed_note,
)

__all__ = ["read_study"]

_GONE = "no evidence was written"
_DIGEST = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def read_study(folder: Path) -> StudyRecord:
    """The study in ``folder``; refused where there is no ``study.json``, or one that cannot be understood."""
    raw = _read_top(folder)
    top = read_study_record(_texts(raw))
    arms = {arm.name: arm for arm in top.arms}
    trainings = _Trainings(folder, {} if study_trouble(raw) else top.trainings or {})
    cells = tuple(_cell(folder, entry, arms, trainings) for entry in top.cells)
    for cell in cells:  # an arm that only its cells name
        arms.setdefault(cell.arm, ArmEvidence(cell.arm, cell.choices))
    altered = (study_trouble(raw), *(f"{c.arm}, seed {c.seed}: {c.altered}" for c in cells if c.altered))
    rounds = {
        digest: _rounds(folder / "trainings" / digest, trainings.all_trouble(digest))
        for digest in dict.fromkeys(cell.training for cell in cells if cell.training)
    }
    whole = {
        **vars(top),
        "name": top.name or str(printable(folder.name)),
        "seeds": top.seeds or tuple(dict.fromkeys(c.seed for c in cells)),
        "arms": tuple(arms.values()),
    }
    return StudyRecord(
        **whole,
        folder=folder,
        evidence=cells,
        rounds={digest: reports for digest, (reports, _) in rounds.items()},
        altered=tuple(str(printable(text)) for text in altered if text),
        unread={digest: why for digest, (_, why) in rounds.items() if why},
    )


def _read_top(folder: Path) -> Mapping[str, object]:
    path = folder / "study.json"
    if not path.exists():
        raise Refused(f"{folder} is not a study's folder: it has no study.json", remedy="name OUT/<study> of a run")
    try:
        top = read_json(path)
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise Refused(f"{path} cannot be read: {why}", remedy="run the study again: it resumes") from error
    schema = top.get("schema")
    if not isinstance(schema, int) or isinstance(schema, bool):
        raise Refused(f"{path} is not a study's record: it names no schema", remedy="name OUT/<study> of a run")
    if schema > SCHEMA:
        raise Refused(f"{path} has schema {schema}; this version reads up to {SCHEMA}", remedy="update consilium")
    return top


class _Trainings:
    """What is wrong with the files of the trainings in ``folder``; each is looked at once.

    ``known`` are the digests of their files in the study's record.
    """

    def __init__(self, folder: Path, known: Mapping[str, object]) -> None:
        self._folder, self._known = folder, known
        self._looked: dict[str, list[tuple[list[FileSeals], dict[str, str]]]] = {}

    def trouble(self, training: str | None, trained: FileSeals | None) -> dict[str, str]:
        """By name of a file, of the training of a cell whose record of the files is ``trained``."""
        if training is None:
            return {}
        known: list[FileSeals] = []
        for seals in (trained, self._known.get(training)):
            known += [seals] if isinstance(seals, Mapping) and seals and seals not in known else []
        readings = self._looked.setdefault(training, [])
        for seals_known, trouble in readings:
            if seals_known == known:
                return trouble
        readings.append((known, training_files_trouble(self._folder, training, known)))
        return readings[-1][1]

    def all_trouble(self, training: str) -> dict[str, str]:
        """Whatever any cell finds wrong, and the rounds of a training that is not there at all."""
        self.trouble(training, None)
        every = {name: why for _, trouble in self._looked[training] for name, why in trouble.items()}
        there = (self._folder / "trainings" / training).is_dir()
        is_gone = not there and any(known for known, _ in self._looked[training])
        return {"rounds.jsonl": "is not in this folder"} if is_gone else every


def _rounds(training: Path, trouble: Mapping[str, str]) -> tuple[tuple[RoundEvidence, ...], str]:
    """Every line that can be read, and what could not be: the last line of a killed run may be cut off.

    Nothing of a log that was changed after its training ended, or whose ``training.json`` was.
    """
    if why := trouble.get("rounds.jsonl"):
        return (), why
    if why := trouble.get("training.json"):
        return (), f"is not drawn: training.json beside it {why}"
    try:
        entries = [entry for _, entry in read_json_lines(training / "rounds.jsonl")]
    except FileNotFoundError:
        return (), ""
    except OSError as error:
        return (), f"cannot be read: {error.strerror}"
    count = entries.count(None)
    why = f"{count} of {count_words(len(entries), 'line')} cannot be read" if count else ""
    return tuple(read_round(_texts(entry)) for entry in entries if entry), why


def _cell(folder: Path, entry: CellEntry, arms: Mapping[str, ArmEvidence], trainings: _Trainings) -> CellRecord:
    """One cell: the plan's entry in ``study.json``, overlaid by its evidence where there is some."""
    home = folder / "cells" / entry.digest
    known = bool(_DIGEST.fullmatch(entry.digest))
    raw, trouble = _evidence(home / "evidence.json") if known else ({}, "the digest is no name")
    altered = evidence_trouble(raw, entry.seal, entry.digest)
    shown = {} if altered else raw
    shown = _texts(shown)
    evidence = read_cell({**shown, "cell": {**_names(entry), **_table(shown, "cell"), "digest": entry.digest}})
    damage = trainings.trouble(_name(evidence.training) or _name(entry.training), evidence.trained)
    altered = "; ".join(text for text in (altered, files_trouble(folder, home, evidence, damage)) if text)
    attacks = tuple(_attack(home, name, finding) for name, finding in evidence.findings.items())
    return CellRecord(
        **vars(_planned(evidence, entry, arms, trouble, altered)),
        attacks=attacks,
        file=_beside(home, evidence),
        altered=altered,
        unsealed=unsealed_note(shown),
        written=bool(raw),
    )


def _texts(record: Mapping[str, object]) -> dict[str, object]:
    """``record`` with printable texts: what a user named reaches page, table and terminal from here."""
    return {str(printable(name)): printable(value) for name, value in record.items()}


def _names(entry: CellEntry) -> Mapping[str, object]:
    return {"arm": entry.arm, "seed": entry.seed, "infected_by": entry.infected_by}


def _table(record: Mapping[str, object], name: str) -> Mapping[str, object]:
    value = record.get(name)
    return value if isinstance(value, Mapping) else {}


def _planned(
    evidence: CellEvidence, entry: CellEntry, arms: Mapping[str, ArmEvidence], trouble: str, altered: str
) -> CellEvidence:
    """``evidence``, completed by the plan."""
    name, planned = evidence.cell, entry.status if trouble else ""
    arm = arms.get(name.arm)
    choices = name.choices or (arm.choices if arm else {})
    status = evidence.status or (planned if planned not in ("", "ok") else "missing")
    return replace(
        evidence,
        cell=replace(name, choices=choices, infected_by=name.infected_by or "none"),
        status=ALTERED if altered and trouble != _GONE else status,
        error=str(printable("; ".join(text for text in (altered, evidence.error or trouble) if text))) or None,
        training=_name(evidence.training) or _name(entry.training),
        model=_name(evidence.model) or _name(entry.model),
        privacy=_with_record_epsilon(evidence.privacy),
    )


def _with_record_epsilon(privacy: PrivacyEvidence) -> PrivacyEvidence:
    """That of evidence from before it was written down."""
    if privacy.record_epsilon is not None or privacy.unit not in {"example", "patient"}:
        return privacy
    return replace(privacy, record_epsilon=privacy.epsilon)


def _evidence(path: Path) -> tuple[Mapping[str, object], str]:
    """The record and, where there is none, why."""
    try:
        return read_json(path, nan_is_null=True), ""  # no number is no figure: it is shown as undefined
    except FileNotFoundError:
        return {}, _GONE
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        return {"status": "failed"}, f"its evidence cannot be read: {why}"


def _attack(home: Path, name: str, finding: FindingEvidence) -> FindingRecord:
    fields = {**vars(finding), "kind": finding.kind or name}
    return FindingRecord(**fields, name=name, file=_beside(home, finding))


def _beside(home: Path, judged: CellEvidence | FindingEvidence) -> Path | None:
    """The file of scores that is named there, if it is there as written; only ever one beside the evidence."""
    name = judged.scores or ""
    path = home / Path(name).name
    return path if name and path.is_file() and scores_hold(home, judged) else None


def _name(text: str | None) -> str | None:
    """A digest that may name a folder, else nothing."""
    return text if text and _DIGEST.fullmatch(text) else None
