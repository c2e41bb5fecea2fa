"""A study's folder made ready for workers: everything that another process needs to do a stage lies in it.

    plan.json                   the study's tables and its digest, sealed
    leases/<key>.json           who does a stage now
    ended/<key>.json            that it has ended since the folder was prepared: how, and what came of it
    ended/<key>.<owner>.json    the same by a worker that did it once more

Everything is found by name in the store: that a job ended well proves nothing, and that a listing lacks a file proves
little, since a shared file system may show a directory as it was a minute ago.
"""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from consilium.core.errors import ConsiliumError, Failed, Refused
from consilium.core.plain import member
from consilium.core.seal import file_digest, is_altered, sealed, unsealed
from consilium.evidence.storage.write import plain
from consilium.study.evaluate.acceptance import state_thresholds
from consilium.study.evaluate.seals import known_cells
from consilium.study.executors.perform import Prepared
from consilium.study.plan.plan import Plan, make_plan
from consilium.study.spec.code_tables import pinned, store_code
from consilium.study.spec.parse import parse
from consilium.study.spec.spec import Spec
from consilium.study.spec.toml_binding import place
from consilium.study.stages.context import StageContext
from consilium.study.stages.manifest import study_record
from consilium.study.stages.stage import Stage
from consilium.study.store.store import Store, read_stored, write_json

from .lease import Leases

__all__ = [
    "Ended",
    "comparisons",
    "discard_altered",
    "is_prepared",
    "make_ready",
    "output_digest",
    "prepare",
    "prepared_in",
    "refuse_workers",
    "written_tables",
]

_PLAN = "plan.json"
_SCHEMA = 1
_OF_MACHINES = ("seal", "hardware", "code", "engine", "trained")  # the last holds the digest of a log with seconds
_TIMES = re.compile(r"seconds|created|latency")


def prepare(plan: Plan, store: Store, command: str) -> Prepared:
    """Write ``plan.json`` and begin anew with what has ended: what failed before is tried again.

    Raises Refused: the study's tables cannot be written, or a worker is in the folder.
    """
    refuse_workers(store)
    prepared = Prepared(StageContext(plan, store, known=known_cells(store.folder)))
    make_ready(prepared, command)
    return prepared


def make_ready(prepared: Prepared, command: str) -> None:
    """The same for a run that has the folder to itself."""
    plan, store = prepared.context.plan, prepared.context.store
    table = written_tables(plan.spec)
    store_code(plan.spec, store.folder)
    for path in (store.folder / "ended").glob("*.json"):
        path.unlink(missing_ok=True)
    discard_altered(prepared)
    accept, trainings = state_thresholds(plan.spec, store), prepared.context.seals.trainings
    top = study_record(plan, command, {}, 0.0, accept=accept, trainings=trainings)
    write_json(store.folder / "study.json", sealed(plain(top)))
    record = {"schema": _SCHEMA, "digest": prepared.digest, "command": command, "study": table}
    write_json(store.folder / _PLAN, sealed(record))


def refuse_workers(store: Store, leases: Leases | None = None) -> None:
    """Check that no worker is in the folder; a lease of another machine is watched for a while.

    Raises Refused: a worker does a stage there.
    """
    leases = leases or Leases(store.folder)
    for key in leases.taken():
        if not leases.dies(key):
            remedy = "wait for it, or stop it"
            raise Refused(f"another worker is at {key} in {store.folder}", remedy=remedy)


def discard_altered(prepared: Prepared) -> None:
    """Remove evidence that was changed after it was written: a worker elsewhere does not know the study's seals."""
    context = prepared.context
    for cell in context.plan.cells:
        path = context.store.cell(cell.digest) / "evidence.json"
        if path.is_file() and not context.seals.is_whole(cell.digest):
            path.unlink()


def is_prepared(store: Store) -> bool:
    """Whether the folder was prepared for workers."""
    return (store.folder / _PLAN).is_file()


def prepared_in(folder: Path) -> tuple[Prepared, str]:
    """The study that was prepared in ``folder``, planned again, and the command that prepared it.

    Raises Refused: there is none, it was changed, or the same study has other stages on this machine.
    """
    record = read_stored(folder / _PLAN)
    if record is None:
        raise Refused(f"{folder} holds no {_PLAN}", remedy="write it with `consilium prepare STUDY --out OUT`")
    tables = record.get("study")
    if is_altered(record) or not isinstance(tables, dict):
        raise Refused(f"{folder / _PLAN} was changed after it was written", remedy="prepare the folder again")
    plan = make_plan(parse(tables, (folder,)))
    store = Store.of(folder.parent, folder.name)
    prepared = Prepared(StageContext(plan, store))
    if prepared.digest != record.get("digest"):
        raise Refused(
            f"the study in {folder} was prepared as {record.get('digest')} and is {prepared.digest} here",
            remedy="use the same version of Consilium, the same data and the same modules on every machine",
        )
    return prepared, str(record.get("command", ""))


@dataclass(frozen=True)
class Ended:
    """That a stage has ended: ``error`` is empty where it went well, ``output`` the digest of what it left."""

    error: str
    output: str
    counts: Mapping[str, int]

    @classmethod
    def read(cls, store: Store, key: str) -> Ended | None:
        """None where it has not, or where what it left is gone."""
        try:
            record = read_stored(_path(store, key))
        except ConsiliumError:
            return None
        if record is None or is_altered(record):
            return None
        counts = member(record, "counts", dict)
        return cls(str(record["error"]), str(record["output"]), {name: int(count) for name, count in counts.items()})

    def write(self, store: Store, key: str, owner: str) -> bool:
        """Say that it has ended; False where a worker said so before and something else came of it."""
        before, path = Ended.read(store, key), _path(store, key)
        if before is not None:
            path = path.with_name(f"{key}.{owner}.json")
        write_json(path, sealed({"error": self.error, "output": self.output, "counts": dict(self.counts)}))
        return before is None or before.output == self.output


def comparisons(store: Store, keys: Mapping[str, Stage]) -> tuple[int, list[str]]:
    """How many stages were done again, and the keys of those that ended otherwise."""
    again, unequal = 0, set[str]()
    for path in sorted((store.folder / "ended").glob("*.*.json")):
        key, first = path.name.split(".")[0], None
        if key in keys and (first := Ended.read(store, key)) is not None:
            again += 1
            other = unsealed(read_stored(path) or {})
            if other.get("output") != first.output:
                unequal.add(key)
    return again, sorted(unequal)


def output_digest(stage: Stage, store: Store, wait: float = 90.0) -> str:
    """16 digits of what a stage left, times aside; waits for a file that a slow file system does not show yet.

    Raises Failed: it is not there after ``wait`` seconds.
    """
    sha = hashlib.sha256()
    for path in stage.outputs(store):
        _await(path, wait)
        if path.suffix == ".json":
            sha.update(json.dumps(_timeless(read_stored(path)), sort_keys=True).encode())
        else:
            sha.update(file_digest(path).encode())
    return sha.hexdigest()[:16]


def _await(path: Path, seconds: float) -> None:
    end, pause = time.monotonic() + seconds, 0.05
    while not path.is_file():
        if time.monotonic() >= end:
            raise Failed(f"{path} is not there {seconds:.0f} s after it was written", remedy="look at the file system")
        list(path.parent.glob("*"))  # reading the directory makes a client of NFS ask for it anew
        time.sleep(pause)
        pause = min(2 * pause, 5.0)


def _timeless(value: Any) -> Any:
    """Without what a clock or a machine says, what carried the rounds, and seals, which are over all of it."""
    if isinstance(value, dict):
        if value.get("name") == "latency_ratio":
            return {}
        fields = {k: v for k, v in value.items() if not _TIMES.search(k) and k not in _OF_MACHINES}
        return {k: _timeless(v) for k, v in fields.items()}
    return [_timeless(one) for one in value] if isinstance(value, list) else value


def _path(store: Store, key: str) -> Path:
    return store.folder / "ended" / f"{key}.json"


def written_tables(spec: Spec) -> dict[str, Any]:
    """The study's tables in plain JSON.

    Raises Refused: they hold a value that no other process could read.
    """
    return {name: _written(value, name) for name, value in pinned(spec.given, spec).items()}


def _written(value: object, where: str) -> Any:
    if value is None or isinstance(value, str | bool | int | float):
        return value
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, Mapping):
        return {str(name): _written(one, place(where, name)) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_written(one, f"{where}[{i}]") for i, one in enumerate(value)]
    raise Refused(
        f"a {type(value).__name__} cannot be written to {_PLAN}, so no other process could read it",
        remedy='name it by its kind in a table, or run the study in this process: executor = "serial"',
        where=where,
    )
