"""Which of a study's files are not those that were written: their figures are not shown as if they had been measured.

Evidence that was changed is dropped, a changed log of rounds or file of scores is not drawn, and a model that is not
the evaluated one is reported as another one: the figures are still those of the model that was.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from consilium.core.errors import ConsiliumError
from consilium.core.seal import is_altered, is_sealed
from consilium.evidence.cell import CellEvidence
from consilium.evidence.finding import FindingEvidence
from consilium.evidence.storage.read import read_cell
from consilium.study.evaluate.seals import (
    altered_evidence,
    check_released,
    known_cells,
    known_trainings,
    other_cell,
    scores_hold,
)
from consilium.study.evaluate.training_files import FileSeals, training_trouble
from consilium.study.store.store import read_stored

__all__ = ["ALTERED", "evidence_alerts", "evidence_trouble", "files_trouble", "study_trouble",
           "training_files_trouble", "unsealed_note"]  # fmt: skip

ALTERED = "altered"
"""The status of a cell one of whose files is not the one that was written."""
_UNUSED = "it is not drawn, and nothing is compared by it"


def study_trouble(top: Mapping[str, Any]) -> str:
    """The complaint about ``study.json``; empty where its seal holds, or it has none."""
    return "study.json was changed after it was written: run the study again to rewrite it" if is_altered(top) else ""


def evidence_trouble(evidence: Mapping[str, Any], known: object, digest: str) -> str:
    """Why the figures of ``evidence`` are not shown as those of the cell ``digest``.

    ``known`` is the seal that the study's record has of it.
    """
    if other := other_cell(evidence, digest):
        return (
            f"its evidence.json is that of another cell, {other}: none of it is shown; run the study again to measure"
        )
    if not evidence:
        return "its evidence.json is gone: run the study again to measure" if known else ""
    if not altered_evidence(evidence, known):
        return ""
    return "its evidence.json was changed after it was written, so none of it is shown; run the study again to measure"


def files_trouble(folder: Path, cell: Path, evidence: CellEvidence, training: Mapping[str, str]) -> str:
    """What of the model, the scores and the rounds behind ``evidence`` is not what was written; empty for nothing.

    ``training`` is what is wrong with the files of its training, by name (:func:`training_files_trouble`).
    """
    judged: tuple[CellEvidence | FindingEvidence, ...] = (evidence, *evidence.findings.values())
    altered = [one.scores for one in judged if not scores_hold(cell, one)]
    wrong = [_model(folder, evidence), *(f"{name} was changed or is gone: {_UNUSED}" for name in altered)]
    for name, why in training.items():
        wrong.append(f"{name} of its training {why}{': its rounds are not drawn' if name == 'rounds.jsonl' else ''}")
    return "; ".join(text for text in wrong if text)


def training_files_trouble(folder: Path, training: str | None, known: Sequence[FileSeals]) -> dict[str, str]:
    """What is wrong with the files of a training, by name; nothing where evidence is passed on without it."""
    place = folder / "trainings" / Path(training or "").name
    return training_trouble(place, known) if training and place.is_dir() else {}


def evidence_alerts(cell: Path, raw: Mapping[str, Any]) -> list[str]:
    """The complaint about one cell's evidence and the files around it; ``raw`` is its ``evidence.json``."""
    home = cell.resolve()
    study = home.parent.parent
    if trouble := evidence_trouble(raw, known_cells(study).get(home.name), home.name):
        return [trouble]
    evidence = read_cell(raw)
    known = [seals for seals in (evidence.trained, known_trainings(study).get(evidence.training or "")) if seals]
    trouble = files_trouble(study, home, evidence, training_files_trouble(study, evidence.training, known))
    return [trouble] if trouble else []


def unsealed_note(evidence: Mapping[str, Any]) -> str:
    """The complaint about evidence from before seals existed."""
    if not evidence or is_sealed(evidence):
        return ""
    return "Not sealed: this evidence was written before there were seals, so a change would not be noticed."


def _model(folder: Path, evidence: CellEvidence) -> str:
    name = evidence.model
    if name is None or Path(name).name != name:
        return ""
    home = folder / "models" / name
    if evidence.status == "failed" and not evidence.released:
        return ""  # it failed before there was a model to judge
    if not _record(home / "recipe.json") and not (home / "model.safetensors").is_file():
        return ""  # evidence that is passed on without its models
    if evidence.released and not (home / "model.safetensors").is_file():
        return f"{home / 'model.safetensors'} is gone"
    try:
        check_released(home, evidence.released)
    except ConsiliumError as error:
        return str(error).rstrip(".")
    return ""


def _record(path: Path) -> Mapping[str, Any]:
    try:
        return read_stored(path) or {}
    except ConsiliumError:
        return {}
