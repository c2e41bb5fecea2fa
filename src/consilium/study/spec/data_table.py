"""The table ``[data]``: a source, and how its records are divided.

A partition is written in one of two ways: by its kind with its knobs beside it, or as a table that holds them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar

from pydantic import ConfigDict

from consilium.core.entry import check
from consilium.core.errors import Refused
from consilium.core.plain import Json
from consilium.core.stored_input import shared_name
from consilium.core.task import Task
from consilium.data.partition import Partition
from consilium.data.source import Source
from consilium.learn.tasks.single_label import SingleLabel

from .toml_binding import STRICT, as_table, card_of, entry, place, refuse_unknown, value

__all__ = ["DataShares", "DataSpec", "division_of"]


@dataclass(frozen=True)
class DataShares:
    """How a data set is divided: number of sites, and the shares of the pools of LAWS 17.

    ``shared-patients``: one id means one person at all natural sites, however many come to several.
    """

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    sites: int = 1
    public: float = 0.05
    validation: float = 0.1
    test: float = 0.2
    non_members: float = 0.2
    shared_patients: bool = False

    def __post_init__(self) -> None:
        check(1 <= self.sites <= 100_000, "sites", self.sites, "1 to 100000 sites")


@dataclass(frozen=True)
class DataSpec:
    """A source, divided, and what is asked of each record."""

    source: Source
    partition: Partition
    shares: DataShares
    task: Task = field(default_factory=SingleLabel)

    def configuration(self) -> dict[str, Json]:
        """Canonical JSON."""
        shares = {name.replace("_", "-"): value for name, value in vars(self.shares).items()}
        if not self.shares.shared_patients:  # as before it could be said
            del shares["shared-patients"]
        task: dict[str, Json] = {} if self.task == SingleLabel() else {"task": self.task.configuration()}
        source = {k: shared_name(v) if k == "path" else v for k, v in self.source.configuration().items()}
        return {**source, "partition": self.partition.configuration(), **shares, **task}


def division_of(table: Mapping[str, Any]) -> DataSpec:
    """What ``[data]`` asks for.

    Raises Refused: an unknown knob, or one beside a partition that is a table of its own.
    """
    source = card_of(table, "data", "data/sources")
    division = as_table(table.get("partition", "iid"), "data.partition")
    partition = card_of(division, "data.partition", "data/partitions")
    shares = [f.name.replace("_", "-") for f in fields(DataShares)]
    task: Task = entry(as_table(table.get("task", "single-label"), "data.task"), "data.task", "learn/tasks")
    knobs = {k: v for k, v in table.items() if k not in ("kind", "partition", "task")}
    refuse_unknown(
        knobs, [*source.knobs, *partition.knobs, *shares, "partition", "task"], "data", f"data {source.kind}"
    )
    source_knobs = {k: v for k, v in knobs.items() if k in source.knobs}
    partition_knobs = {k: v for k, v in knobs.items() if k in partition.knobs and k not in source_knobs}
    if not isinstance(table.get("partition", "iid"), str):
        _refuse_beside(partition_knobs, division)
    return DataSpec(
        entry({"kind": source.kind, **source_knobs}, "data", "data/sources"),
        entry({**partition_knobs, **division}, "data", "data/partitions"),
        value(DataShares, {k: v for k, v in knobs.items() if k in shares and k not in source_knobs}, "data"),
        task,
    )


def _refuse_beside(knobs: Iterable[str], division: Mapping[str, Any]) -> None:
    """Refuse a knob of the partition outside its table, whether the table gives it too or leaves it to its default."""
    for knob in knobs:
        twice = f", which says {knob} = {division[knob]!r}" if knob in division else ""
        raise Refused(
            f"{knob} stands beside the table partition{twice}",
            remedy=f"say {knob} in that table alone" if not twice else "take one of them out",
            where=place("data", knob),
        )
