"""A study in Python: the same tables as in a file, or the entries themselves.

Study(name="mine", data={"kind": "digits", "sites": 5}, model="mlp", vary={"privacy": [DPSGD(epsilon=8.0)]}).run()
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from importlib.resources import files
from pathlib import Path
from typing import Any, Self

from consilium.core.catalogue import nearest
from consilium.core.entry import Entry
from consilium.core.errors import Refused
from consilium.core.plain import Json
from consilium.monitor.progress import Planning
from consilium.study.executors.distributed.folder import prepare
from consilium.study.plan.plan import Plan, make_plan
from consilium.study.run.run import run_plan
from consilium.study.spec.parse import parse, read
from consilium.study.spec.spec import StudyHead
from consilium.study.spec.toml_binding import tabled, value
from consilium.study.store.store import Store

from .objects import has_objects, stored_tables
from .results import Results

__all__ = ["QUICKSTART", "Study"]

QUICKSTART = "quickstart.toml"


@dataclass(frozen=True, eq=False)
class Study:
    """A question: which data, model, defences and adversaries.  The tables are those of a study file.

    ``data`` may be arrays or a DataFrame, ``model`` a torch module (:mod:`.objects`).  Files of attacks and defences
    that a table names by ``path`` are looked for in ``folder`` first.
    """

    name: str
    data: Any
    model: Any
    federation: Mapping[str, Any] | None = None
    vary: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    attacks: Sequence[Any] = ()
    corruptions: Sequence[Any] = ()
    seeds: Sequence[int] = StudyHead.seeds
    options: Mapping[str, Any] = field(default_factory=dict)
    audit: Mapping[str, Any] | None = None
    accept: Sequence[Any] = ()
    folder: Path | None = None

    def __new__(cls, *_: Any, **tables: Any) -> Self:
        """Refuse a name that is no part of a study before Python's own error, which offers no other."""
        known = [one.name for one in fields(cls)]
        for name in tables:
            if name not in known:
                raise Refused(f"a study has no {name!r}", remedy=nearest(name[:80], known), where="Study")
        return super().__new__(cls)

    @classmethod
    def read(cls, path: str | Path) -> Study:
        """The study in a TOML file."""
        return cls.of(read(Path(path)), Path(path).parent)

    @classmethod
    def quickstart(cls) -> Study:
        """The embedded study: every combination on the digits data."""
        return cls.of(read(Path(str(files("consilium.study.spec") / QUICKSTART))))

    @classmethod
    def of(cls, table: Mapping[str, Any], folder: Path | None = None) -> Study:
        """The study that these tables describe, from a file in ``folder``; refused where they are wrong."""
        parse(table, () if folder is None else (folder,))
        tables = ("name", "data", "model", "federation", "vary", "attacks", "corruptions", "seeds", "audit", "accept")
        options = {k: v for k, v in table.items() if k not in tables}
        return cls(**{k: table[k] for k in tables if k in table}, options=options, folder=folder)

    def table(self) -> dict[str, Json]:
        """The tables of an equivalent study file."""
        tables: dict[str, Json] = {"name": self.name, "seeds": _plain(self.seeds), "data": _plain(self.data)}
        tables |= {"model": _plain(self.model), "vary": _plain(self.vary), "attacks": _plain(self.attacks)}
        tables |= {"corruptions": _plain(self.corruptions), **self.options}
        tables |= {"accept": _plain(self.accept)} if self.accept else {}
        tables |= {} if self.audit is None else {"audit": _plain(self.audit)}
        return tables if self.federation is None else {**tables, "federation": _plain(self.federation)}

    def plan(self, quiet: bool = True, out: str | Path = "out") -> Plan:
        """Everything it will do; refused, with law, reason and remedy, if it may not be done.

        A long one reports its progress on standard error, unless ``quiet``.  A model or data that are objects are
        stored in ``out``; nothing else is written.
        """
        folders = [] if self.folder is None else [self.folder]
        tables = self.table()
        if has_objects(vars(self)):
            folder = Store.of(Path(out), value(StudyHead, {"name": self.name}, "").name).folder
            tables |= {k: _plain(v) for k, v in stored_tables(vars(self), folder).items() if k in ("data", "model")}
            folders.append(folder)
        return make_plan(parse(tables, folders), progress=Planning(quiet))

    def run(
        self,
        out: str | Path = "out",
        command: str = "Study.run",
        quiet: bool = False,
        executor: str = "",
        workers: int = 0,
    ) -> Results:
        """Do it, and write table.csv and report.html; what is already done in ``out`` is not done again.

        ``executor`` is "serial", "processes", "dask:ADDRESS" or "slurm" (empty: processes where that is faster), with
        ``workers`` stages at once (0: as many as the cores allow).

        Raises Refused: the study cannot be run as it is given.
        """
        start = time.perf_counter()
        plan = self.plan(quiet, out)
        planned = time.perf_counter() - start
        store = Store.of(Path(out), plan.spec.name)
        outcome = run_plan(plan, store, command, quiet, executor=executor, workers=workers)
        outcome.planning_seconds = planned
        from consilium.report.render.page import write_page  # plotting, which a plan does without
        from consilium.report.render.table import write_csv

        write_csv(store.folder)
        write_page(store.folder)
        return Results(store.folder, plan, outcome, allow_code=True)  # whose code it is has run here

    def prepare(self, out: str | Path = "out", command: str = "Study.prepare", quiet: bool = True) -> tuple[Path, int]:
        """Write what workers need into the folder of the study; returns the folder and the number of stages.

        Raises Refused: the study is not lawful, cannot be written, or a worker is in its folder.
        """
        plan = self.plan(quiet, out)
        store = Store.of(Path(out), plan.spec.name)
        with store.locked():
            return store.folder, len(prepare(plan, store, command).stages)


def _plain(value: Any) -> Any:
    if isinstance(value, Entry):
        return tabled(value)
    if isinstance(value, Mapping):
        return {k: _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    return value
