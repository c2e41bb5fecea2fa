"""Read a study's folder into frozen records.

The folder is the interface: fields are only ever added, so unknown ones are ignored, and what is missing becomes an
empty value rather than an error.  A cell that was killed, failed or cannot be read stays in the study under that name:
a report that drops its failures would flatter the study.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..core.errors import Refused
from ..core.finding import Measure
from ..core.plain import read_json, read_json_lines
from ..core.records import Omission
from ..study.sealing import scores_hold
from .evidence import (
    ArmRecord,
    CellRecord,
    DataRecord,
    FindingRecord,
    PrivacyRecord,
    Refusal,
    RoundRecord,
    SitePoint,
    StudyRecord,
)
from .seals import ALTERED, evidence_trouble, files_trouble, rounds_hold, study_trouble, unsealed_note

__all__ = ["SCHEMA", "read_study"]

SCHEMA = 1  # the highest schema this version understands
_DIGEST = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def read_study(folder: Path) -> StudyRecord:
    """The study in ``folder``; refused where there is no ``study.json``, or one that cannot be understood."""
    top = _read_top(folder)
    arms = {arm.name: arm for arm in (_arm(_map(entry)) for entry in _list(top.get("arms")))}
    cells = tuple(_cell(folder, _map(entry), arms) for entry in _list(top.get("cells")))
    for cell in cells:  # an arm that only its cells name
        arms.setdefault(cell.arm, ArmRecord(cell.arm, cell.choices, "", None))
    trainings = dict.fromkeys(cell.training for cell in cells if cell.training)
    altered = (study_trouble(top), *(f"{c.arm}, seed {c.seed}: {c.altered}" for c in cells if c.altered))
    rounds = {digest: _rounds(folder / "trainings" / digest) for digest in trainings}
    return StudyRecord(
        folder=folder,
        name=str(top.get("name") or folder.name),
        question=_text(top.get("question")),
        given=_map(top.get("study")),
        resolved=_map(top.get("resolved")),
        axes={str(axis): _texts(labels) for axis, labels in _map(top.get("axes")).items()},
        seeds=tuple(_whole(seed) for seed in _list(top.get("seeds"))) or tuple(dict.fromkeys(c.seed for c in cells)),
        data=_data(_map(top.get("data"))),
        arms=tuple(arms.values()),
        cells=cells,
        rounds={digest: said for digest, (said, _) in rounds.items()},
        unread={digest: why for digest, (_, why) in rounds.items() if why},
        command=_command(top.get("command")),
        threads=None if top.get("threads") is None else _whole(top.get("threads")),
        device=_text(top.get("device")),
        created=_text(top.get("created")),
        seconds=_number(top.get("seconds")),
        altered=tuple(text for text in altered if text),
    )


def _read_top(folder: Path) -> Mapping[str, Any]:
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
    return _map(top)


def _arm(entry: Mapping[str, Any]) -> ArmRecord:
    refusal = _map(entry.get("refusal"))
    law = _text(refusal.get("law"))
    law = f"LAWS {law}" if law.isdigit() else law
    why = Refusal(law, _text(refusal.get("reason")), _text(refusal.get("remedy")))
    choices = {str(axis): _text(label) for axis, label in _map(entry.get("choices")).items()}
    return ArmRecord(_text(entry.get("name")), choices, _text(entry.get("status")), why if refusal else None)


def _data(entry: Mapping[str, Any]) -> DataRecord:
    return DataRecord(
        name=_text(entry.get("name")),
        provenance=_text(entry.get("provenance")),
        bundled=entry.get("bundled") is True,  # unknown counts as not bundled: the careful side
        shape=tuple(_whole(size) for size in _list(entry.get("shape"))),
        classes=_texts(entry.get("classes")),
        sites=_texts(entry.get("sites")),
        label_counts=tuple(tuple(_whole(n) for n in _list(row)) for row in _list(entry.get("label_counts"))),
        pools=_map(entry.get("pools")),
        removed=_map(entry.get("removed")),
        notes=_texts(entry.get("notes")),
        omitted=tuple(_omission(_map(one)) for one in _list(entry.get("omitted"))),
    )


def _omission(entry: Mapping[str, Any]) -> Omission:
    return Omission(
        _text(entry.get("what")), _whole(entry.get("count")), _text(entry.get("site")), _texts(entry.get("examples"))
    )


def _rounds(training: Path) -> tuple[tuple[RoundRecord, ...], str]:
    """Every line that can be read, and what could not be: the last line of a killed run may be cut off.

    Nothing of a log that was changed after its training ended.
    """
    try:
        entries = [entry for _, entry in read_json_lines(training / "rounds.jsonl")]
        if not rounds_hold(training):
            return (), "was changed after it was written"
    except FileNotFoundError:
        return (), ""
    except OSError as error:
        return (), f"cannot be read: {error.strerror}"
    count = entries.count(None)
    why = f"{count} of its {len(entries)} lines cannot be read" if count else ""
    return tuple(_round(entry) for entry in entries if entry), why


def _round(entry: Mapping[str, Any]) -> RoundRecord:
    sites = [_map(site) for site in _list(entry.get("sites"))]
    refused = [_map(site) for site in _list(entry.get("refused"))]
    return RoundRecord(
        round=_whole(entry.get("round")),
        seconds=_number(entry.get("seconds")),
        cohort=_texts(entry.get("cohort")),
        bytes_up=_number(entry.get("bytes_up")),
        bytes_down=_number(entry.get("bytes_down")),
        mean_accuracy=_number(entry.get("mean_accuracy")),
        worst_accuracy=_number(entry.get("worst_accuracy")),
        mean_loss=_number(entry.get("mean_loss")),
        sites=tuple(
            SitePoint(_text(s.get("site")), _whole(s.get("n")), _number(s.get("accuracy")), _number(s.get("loss")))
            for s in sites
        ),
        refused=tuple((_text(s.get("site")), _text(s.get("reason"))) for s in refused),
        absent=_whole(entry.get("absent_count")),
        dropped=_texts(entry.get("dropped")),
        late=_texts(entry.get("late")),
        slow=_texts(entry.get("slow")),
        aborted=_text(entry.get("aborted")),
    )


def _cell(folder: Path, planned: Mapping[str, Any], arms: Mapping[str, ArmRecord]) -> CellRecord:
    """One cell: the plan's entry in ``study.json``, overlaid by its evidence where there is some."""
    digest = _text(planned.get("digest"))
    home = folder / "cells" / digest
    raw, trouble = _evidence(home / "evidence.json") if _DIGEST.fullmatch(digest) else ({}, "the digest is no name")
    altered = evidence_trouble(raw, planned.get("seal"), digest)
    if altered:
        raw = {}
    altered = altered or files_trouble(folder, home, raw)
    if altered:
        raw = {**raw, "status": ALTERED}
    said = {**planned, **_map(raw.get("cell"))}
    planned_status = _text(planned.get("status")) if trouble else ""
    arm = arms.get(_text(said.get("arm")))
    return CellRecord(
        digest=digest,
        arm=_text(said.get("arm")),
        choices={str(axis): _text(label) for axis, label in _map(said.get("choices")).items()}
        or (arm.choices if arm else {}),
        seed=_whole(said.get("seed")),
        infected_by=_text(said.get("infected_by")) or "none",
        status=_text(raw.get("status")) or (planned_status if planned_status not in ("", "ok") else "missing"),
        error="; ".join(text for text in (altered, _text(raw.get("error")) or trouble) if text),
        training=_name(raw.get("training")) or _name(planned.get("training")),
        model=_name(raw.get("model")) or _name(planned.get("model")),
        privacy=_privacy(_map(raw.get("privacy"))),
        utility=_measures(raw.get("utility")),
        cost=_measures(raw.get("cost")),
        findings=tuple(_finding(home, str(name), _map(f)) for name, f in _map(raw.get("findings")).items()),
        collapsed=raw.get("collapsed") is True,
        notes=_texts(raw.get("notes")),
        seconds={str(k): v for k, v in ((k, _number(v)) for k, v in _map(raw.get("seconds")).items()) if v is not None},
        raw=raw,
        scores=_beside(home, raw),
        altered=altered,
        unsealed=unsealed_note(raw),
    )


def _evidence(path: Path) -> tuple[Mapping[str, Any], str]:
    """The record and, where there is none, why."""
    try:
        return read_json(path, nan_is_null=True), ""  # no number is no figure: it is shown as undefined
    except FileNotFoundError:
        return {}, "no evidence was written"
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        return {"status": "failed"}, f"its evidence cannot be read: {why}"


def _privacy(entry: Mapping[str, Any]) -> PrivacyRecord:
    claims = tuple(claim for claim in (_map(c) for c in _list(entry.get("claims"))) if claim)
    epsilon, delta, unit = _number(entry.get("epsilon")), _number(entry.get("delta")), _text(entry.get("unit"))
    of_a_record = _number(entry.get("record_epsilon"))
    if of_a_record is None and unit in {"example", "patient"}:  # evidence from before it was written down
        of_a_record = epsilon
    return PrivacyRecord(epsilon, of_a_record, delta, unit, claims, _texts(entry.get("notes")))


def _finding(home: Path, name: str, entry: Mapping[str, Any]) -> FindingRecord:
    return FindingRecord(
        name=name,
        kind=_text(entry.get("kind")) or name,
        status=_text(entry.get("status")) or "ok",
        error=_text(entry.get("error")),
        threat={str(key): _text(value) for key, value in _map(entry.get("threat")).items()},
        configuration=_map(entry.get("configuration")),
        measures=_measures(entry.get("measures")),
        notes=_texts(entry.get("notes")),
        seconds=_number(entry.get("seconds")),
        scores=_beside(home, entry),
    )


def _beside(home: Path, entry: Mapping[str, Any]) -> Path | None:
    """The file of scores that ``entry`` names, if it is there as written; only ever one beside the evidence."""
    name = _text(entry.get("scores"))
    path = home / Path(name).name
    return path if name and path.is_file() and scores_hold(home, entry) else None


def _measures(entries: object) -> tuple[Measure, ...]:
    return tuple(_measure(entry) for entry in (_map(e) for e in _list(entries)) if entry.get("name"))


def _measure(entry: Mapping[str, Any]) -> Measure:
    value, reason = _number(entry.get("value")), _text(entry.get("reason"))
    return Measure(
        name=_text(entry.get("name")),
        value=value,
        low=_number(entry.get("low")),
        high=_number(entry.get("high")),
        chance=_number(entry.get("chance")),
        n=_whole(entry.get("n")),
        unit=_text(entry.get("unit")),
        reason=reason or ("" if value is not None else "no value was written"),
    )


def _command(value: object) -> str:
    return " ".join(str(word) for word in value) if isinstance(value, list) else _text(value)


def _name(value: object) -> str:
    """A digest that may name a folder, else nothing."""
    text = _text(value)
    return text if _DIGEST.fullmatch(text) else ""


def _map(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _text(value: object) -> str:
    return "" if value is None else str(value)


def _texts(value: object) -> tuple[str, ...]:
    return tuple(_text(item) for item in _list(value))


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if math.isfinite(value) else None


def _whole(value: object) -> int:
    number = _number(value)
    return 0 if number is None else int(number)
