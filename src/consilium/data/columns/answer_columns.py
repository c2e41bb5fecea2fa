"""The columns of a table that hold what is asked: classes, findings, quantities, or times and events.

single-label   label             words, one class each
multi-label    target            0 and 1, true and false, yes and no, or two declared categories: absent, present
regression     target            numbers in their own units
survival       time, event       numbers above 0, and as a finding
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from torch import Tensor

from consilium.core.errors import Refused
from consilium.core.task import Task
from consilium.data.columns.spelling import NUMBER, with_point
from consilium.data.columns.thousands import check_thousands
from consilium.data.files.task_labels import task_labels

__all__ = ["AnswerColumns", "check_rows", "task_answers"]

_Texts = Mapping[str, Sequence[str]]
_PRESENT = frozenset(("1", "true", "yes", "y", "t", "present", "positive"))
_ABSENT = frozenset(("0", "false", "no", "n", "f", "absent", "negative"))


@dataclass(frozen=True)
class AnswerColumns:
    """The names of the columns that each knob gives; which of them are read follows from the task."""

    label: str | None = None
    target: str | tuple[str, ...] | None = None
    time: str | None = None
    event: str | None = None

    @property
    def targets(self) -> tuple[str, ...]:
        """The columns of ``target``, one or several."""
        return (self.target,) if isinstance(self.target, str) else self.target or ()

    @property
    def roles(self) -> dict[str, str | None]:
        """What each column is, by knob; several targets are numbered."""
        several = {f"target[{place}]": name for place, name in enumerate(self.targets)}
        targets = {"target": self.target} if isinstance(self.target, str) else several
        return {"label": self.label, **targets, "time": self.time, "event": self.event}

    def names(self) -> tuple[str, ...]:
        """All columns that are named."""
        return tuple(name for name in self.roles.values() if name is not None)

    def of(self, task: Task | None, source: str) -> tuple[str, ...]:
        """The columns that ``task`` reads (None: one class a record), in order.

        Raises Refused: the task reads other columns than those that are named, or ``source`` has nothing for it.
        """
        needs = _needs(task, source)
        kind = "single-label" if task is None else task.kind()
        named = {"label": self.label, "target": self.target, "time": self.time, "event": self.event}
        example = "".join(f', {knob} = "COLUMN"' for knob in needs)[2:]
        for knob, columns in named.items():
            if columns and knob not in needs:
                reason = f"the task {kind} reads no {knob}"
                remedy = f"write {example}, or name the task: {_tasks(knob)}"
                raise Refused(reason, remedy=remedy, where=knob)
        for knob in needs:
            if not named[knob]:
                raise Refused(f"the task {kind} needs it", remedy=f"write {example}", where=knob)
        return self.names()


def _needs(task: Task | None, source: str) -> tuple[str, ...]:
    if task is None:
        return ("label",)
    if task.kind() == "survival":
        return ("time", "event")
    if task.counted or not task.whole:
        return ("target",)
    raise Refused(
        f"{source} has no labels for the task {task.kind()}",
        remedy='choose task = "multi-label", "regression" or "survival", or a source whose labels fit',
        where="task",
    )


def _tasks(knob: str) -> str:
    return {
        "label": 'task = "single-label"',
        "target": 'task = "multi-label" or { kind = "regression", ... }',
    }.get(knob, 'task = { kind = "survival", ... }')


def task_answers(
    task: Task, columns: _Texts, rows: Sequence[int], listed: Mapping[str, Sequence[str]], decimal: str, where: str
) -> Tensor:
    """The labels ``(n, k)`` in ``columns``, each of texts ``(n,)``, as ``task`` has them; ``rows`` are their numbers.

    ``listed`` are declared categories, ``decimal`` is the decimal mark, ``where`` names the file.

    Raises Refused: a value that is none, by row, column and value.
    """
    numbers = [] if task.counted else list(columns)
    if task.kind() == "survival":
        numbers = list(columns)[:1]
    values = [
        _quantities(texts, rows, name, decimal, task)
        if name in numbers
        else _findings(texts, rows, name, listed.get(name))
        for name, texts in columns.items()
    ]
    return task_labels(np.stack(values, axis=1), len(rows), task, where)


def check_rows(task: Task, y: Tensor, names: Sequence[str], rows: Sequence[int]) -> None:
    """Refuse labels ``y (n, k)`` of columns ``names`` that do not fit ``task``, by the number of the first row.

    Raises Refused: a label that does not fit, by row, column and value.
    """
    try:
        task.check_labels(y, names, (), "")
    except Refused:
        for row, one in zip(rows, y[:, None], strict=True):
            try:
                task.check_labels(one, names, (), "")
            except Refused as error:
                pairs = zip(names, one.flatten().tolist(), strict=True)
                values = ", ".join(f"{name} = {value:g}" for name, value in pairs)
                reason = re.sub(r"^record 0 has", "which is", error.reason)
                raise Refused(f"row {row} has {values}, {reason}", remedy=error.remedy, where="target") from error
        raise


def _findings(
    texts: Sequence[str], rows: Sequence[int], name: str, listed: Sequence[str] | None
) -> npt.NDArray[np.int64]:
    if listed is not None and len(listed) != 2:
        raise Refused(
            f"finding {name!r} has {len(listed)} categories",
            remedy=f'declare two: categories = [["{name}", "absent", "present"]]',
            where="categories",
        )
    absent, present = (_ABSENT, _PRESENT) if listed is None else (frozenset(listed[:1]), frozenset(listed[1:]))
    codes = np.empty(len(texts), dtype=np.int64)
    for place, text in enumerate(texts):
        word = text if listed is not None else re.sub(r"\.0+\Z", "", text.casefold())
        if word not in absent and word not in present:
            known = "0 or 1, true or false, yes or no" if listed is None else f"{listed[0]!r} or {listed[1]!r}"
            raise Refused(
                f"column {name!r}, row {rows[place]}, holds {_short(text)}, and a finding is {known}",
                remedy=f"mend the cell, name {_short(text)} in missing and leave its rows out (drop-missing = true), "
                + ("or declare the column's two categories" if listed is None else "or declare other categories"),
                where="target",
            )
        codes[place] = word in present
    return codes


def _quantities(
    texts: Sequence[str], rows: Sequence[int], name: str, decimal: str, task: Task
) -> npt.NDArray[np.float64]:
    values = np.empty(len(texts), dtype=np.float64)
    for place, text in enumerate(texts):
        number = with_point(text, decimal)
        value = float(number) if NUMBER.fullmatch(number) else float("nan")
        if not np.isfinite(value):
            raise Refused(
                f"column {name!r}, row {rows[place]}, holds {_short(text)}, and {task.kind()} reads numbers there",
                remedy=f"mend the cell, or name {_short(text)} in missing and leave its rows out (drop-missing = true)",
                where="target",
            )
        values[place] = value
    check_thousands(texts, rows, name, None, decimal)
    return values


def _short(text: str) -> str:
    return repr(text if len(text) <= 40 else text[:40] + "...")
