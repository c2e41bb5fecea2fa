"""What a finished training left, and whether it still lies there as it was left.

    training.json                                       its own seal
    checkpoint.safetensors, rounds.jsonl, engine.json   digests in training.json, in the evidence of every cell that was
                                                        judged after the training, and in the study's record

So a log of rounds that was changed is noticed without a ``training.json``, or with one made for it.  A training that
has to be run again, because its checkpoint is gone, has other seconds in its log: its ``training.json`` names the
digests that it ``replaced``.  What lies in the folder of a training of which nothing is known (from before there were
digests, or killed before it ended) is gone on with.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from consilium.core.errors import Failed
from consilium.core.plain import Json
from consilium.core.seal import file_digest, is_altered
from consilium.federate.checkpoint import load_checkpoint
from consilium.study.store.store import read_stored, rounds_in

__all__ = ["FileSeals", "check_begun", "check_finished", "check_renewal", "file_seals", "left_files",
           "replaced_seals", "training_trouble"]  # fmt: skip

FileSeals = Mapping[str, Any]
"""Digests of a training's files by their names."""

_CHECKPOINT, _RECORD = "checkpoint.safetensors", "training.json"
_FILES = (_CHECKPOINT, "rounds.jsonl", "engine.json")
_CHANGED, _GONE = "was changed after it was written", "is gone"


def file_seals(folder: Path) -> dict[str, str]:
    """What ``training.json`` keeps of a training that is done."""
    return {name: file_digest(folder / name) for name in _FILES if (folder / name).is_file()}


def left_files(folder: Path) -> Mapping[str, Json]:
    """What others keep of the finished training in ``folder``; empty where its record is from before there were any."""
    seals = _record(folder).get("seals")
    return seals if isinstance(seals, dict) else {}


def check_finished(folder: Path, digest: str, known: Sequence[FileSeals]) -> None:
    """Fail for a finished training whose files are not those that it ended with, or that are ``known`` of it."""
    _check(folder, digest, training_trouble(folder, known))


def check_begun(folder: Path, digest: str, known: Sequence[FileSeals]) -> list[FileSeals]:
    """The seals that a training which is run again replaces; Failed where it would go on from changed files.

    Without a checkpoint it begins anew, and without ``known`` seals nothing was made of it yet.
    """
    allowed = [seals for seals in known if seals in replaced_seals(folder)]
    if not (folder / _CHECKPOINT).is_file() or allowed:
        return [*allowed, *(seals for seals in known if seals not in allowed)]
    if known:  # training.json itself is made again
        _check(folder, digest, {n: why for n, why in training_trouble(folder, known).items() if n != _RECORD})
    return []


def check_renewal(folder: Path, judged: FileSeals) -> None:
    """Check that a training which was run again ended as the one that was ``judged``.

    Raises Failed: its checkpoint has another digest.
    """
    if left_files(folder).get(_CHECKPOINT) != judged.get(_CHECKPOINT):
        raise Failed(
            f"the training in {folder} was run again and did not end as the one that was judged",
            remedy="delete the folders of the cell and of its model to judge this one",
        )


def training_trouble(folder: Path, known: Sequence[FileSeals]) -> dict[str, str]:
    """What is wrong, by the name of a file: what its own record says of it, and what is ``known`` of it elsewhere."""
    record, replaced = _record(folder), replaced_seals(folder)
    trouble: dict[str, str] = {_RECORD: _CHANGED} if is_altered(record) else {}
    if record.get("digest", folder.name) != folder.name:
        trouble = {_RECORD: "is that of another training"}
    elif known and not record:
        trouble = {_RECORD: _CHANGED if (folder / _RECORD).exists() else _GONE}
    wanted: list[FileSeals] = [seals for seals in known if seals not in replaced]
    wanted += [] if trouble else [table for table in (record.get("seals"),) if isinstance(table, dict)]
    for name in _FILES:
        expected = {seals[name] for seals in wanted if name in seals}
        if expected and not (folder / name).is_file():
            trouble[name] = _GONE
        elif expected and expected != {file_digest(folder / name)}:
            trouble[name] = _CHANGED
    return trouble


def _check(folder: Path, digest: str, trouble: Mapping[str, str]) -> None:
    if _CHECKPOINT in trouble and (folder / _CHECKPOINT).is_file():
        load_checkpoint(folder / _CHECKPOINT, training=digest)  # says why, where its own seal does not hold either
        reason = f"checkpoint {folder / _CHECKPOINT} is not the one that its training ended with"
        raise Failed(reason, remedy="delete it to train again")
    if "rounds.jsonl" in trouble:
        rounds_in(folder)  # likewise
    for name, why in trouble.items():
        meaning = ", which says who took part in the training," if name == "rounds.jsonl" else ""
        remedy = "put it back, or delete checkpoint.safetensors beside it to train again"
        raise Failed(f"{folder / name}{meaning} {why}", remedy=remedy)


def replaced_seals(folder: Path) -> list[FileSeals]:
    """The digests that the training in ``folder``, which was run again, replaced."""
    record = _record(folder)
    named = record.get("replaced")
    return [] if is_altered(record) or not isinstance(named, list) else [one for one in named if isinstance(one, dict)]


def _record(folder: Path) -> Mapping[str, Json]:
    try:
        return read_stored(folder / _RECORD) or {}
    except Failed:
        return {}
