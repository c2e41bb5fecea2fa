"""Which of a study's files are not those that were written: their figures are not shown as if they had been measured.

Evidence that was changed is dropped, a changed log of rounds or file of scores is not drawn, and a model that is not
the one that was judged is said to be another one: the figures are still those of the model that was.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from consilium.core.errors import ConsiliumError
from consilium.core.seal import file_digest, is_altered, is_sealed
from consilium.evidence.cell import CellEvidence
from consilium.study.evaluate.seals import altered_evidence, check_released, other_cell, scores_hold, table
from consilium.study.store.store import read_stored

__all__ = ["ALTERED", "evidence_trouble", "files_trouble", "rounds_hold", "study_trouble", "unsealed_note"]

ALTERED = "altered"
"""The status of a cell one of whose files is not the one that was written."""


def study_trouble(top: Mapping[str, Any]) -> str:
    """What is to be said of ``study.json``; empty where its seal holds, or it has none."""
    return (
        "study.json was changed after it was written: run the study again to write it anew" if is_altered(top) else ""
    )


def evidence_trouble(evidence: Mapping[str, Any], known: object, digest: str) -> str:
    """Why the figures of ``evidence`` are not shown as those of the cell ``digest``.

    ``known`` is the seal that the study's record has of it.
    """
    if other := other_cell(evidence, digest):
        return (
            f"its evidence.json is that of another cell, {other}: none of it is shown; run the study again to measure"
        )
    if not evidence or not altered_evidence(evidence, known):
        return ""
    return "its evidence.json was changed after it was written, so none of it is shown; run the study again to measure"


def files_trouble(folder: Path, cell: Path, evidence: CellEvidence) -> str:
    """What of the model, the scores and the rounds behind ``evidence`` is not what was written; empty for nothing."""
    lost = [finding.scores for finding in evidence.findings.values() if not scores_hold(cell, finding)]
    wrong = [_model(folder, evidence), *(f"{name} was changed or is gone: it is not drawn" for name in lost)]
    training = evidence.training
    if training is not None and not rounds_hold(folder / "trainings" / Path(training).name):
        wrong.append("rounds.jsonl or training.json of its training was changed: its rounds are not drawn")
    return "; ".join(text for text in wrong if text)


def rounds_hold(training: Path) -> bool:
    """True where the log of rounds is the one that the finished training ended with, or nothing is known of it."""
    record, path = _record(training / "training.json"), training / "rounds.jsonl"
    wanted = table(record, "seals").get(path.name)
    return not is_altered(record) and (wanted is None or not path.is_file() or file_digest(path) == wanted)


def unsealed_note(evidence: Mapping[str, Any]) -> str:
    """What is to be said of evidence from before there were seals."""
    if not evidence or is_sealed(evidence):
        return ""
    return "Not sealed: this evidence was written before there were seals, so a change would not be noticed."


def _model(folder: Path, evidence: CellEvidence) -> str:
    name = evidence.model
    if name is None or Path(name).name != name:
        return ""
    home = folder / "models" / name
    if not _record(home / "recipe.json") and not (home / "model.safetensors").is_file():
        return ""  # evidence that is passed on without its models
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
