"""Whether each column of a table has one scale: a site in another unit, a range far too wide, a mark for "none".

    glucose of 70 to 180 here, of 4 to 10 there    mmol/l at one site: the central nine tenths of the two lie apart, and
                                                   the one spreads several times as far as the other
    0 to 1000000 declared, 60 to 150 held          all values become nearly one number
    -999 among 60 to 150                           a value that stands far outside, with which the others become one
    -9999 and 9999, or 997, 998 and 999            a few such values, at one end or at both

Nothing here is proof, so it is noted and trains.  Groups of fewer than twenty records are not compared, and columns of
words or of two values have no scale.  No value of a record is said.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from consilium.core.task import Task
from consilium.data.dataset import SPLITS, Dataset

__all__ = ["check_columns", "check_quantities"]

_Floats = npt.NDArray[Any]
_FEW = 20
"""What fewer records hold may be chance."""
_SPREAD = 1.5
"""The middle halves of two groups in two units differ at least by this: pounds and kilograms do by 2.2."""
_UNITS = 4
"""Medians of one quantity in two units differ at least by this: weeks and days do by 7, kPa and mmHg by 7.5."""
_NARROW = 1 / 16
"""What reaches over less of a declared range is hardly told apart."""
_FAR = 2
"""A value lies far outside where the gap before it is this many times what all others reach over."""
_ENDS = ((0, 2), (2, 0), (1, 1), (0, 3), (3, 0), (1, 2), (2, 1), (0, 4), (4, 0), (1, 3), (3, 1), (2, 2))
"""How many values at the lower and at the upper end are tried as marks; one alone has a sentence of its own."""
_SHOWN = 3
"""Columns of which each fault is told; the others are counted."""


def check_columns(dataset: Dataset) -> Iterator[str]:
    """Notes on the columns of two-dimensional inputs ``(n, d)`` that have several scales, or one that does not fit."""
    x = dataset.records.x
    if x.dim() != 2 or len(x) < _FEW:
        return
    values = x.numpy()
    places = [j for j in range(values.shape[1]) if not _words(dataset, j) and _valued(values[:, j])]
    yield from _shortened([_wide(dataset, j, values[:, j]) or _outlying(dataset, j, values[:, j]) for j in places])
    for groups in (_splits(dataset), _sites(dataset)):
        names = [_column(dataset, place)[0] for place in places]
        yield from _shortened(_apart(names, {name: values[rows][:, places] for name, rows in groups.items()}))


def check_quantities(dataset: Dataset, task: Task) -> Iterator[str]:
    """Notes on numbers that are the answers, a target or a time, and seem to be in two units at two sites or splits.

    Times spread so widely that they overlap in any two units: of what is above 0, medians are compared too.
    """
    y = dataset.records.y
    if task.exclusive or task.counted or y.dim() != 2 or not y.is_floating_point():
        return
    timed = task.kind() == "survival"
    values = (y[:, :1] if timed else y).numpy()
    names = ["the time"] if timed else [f"the target {name!r}" for name in dataset.classes]
    for rows in (_splits(dataset), _sites(dataset)):
        groups = {name: values[at] for name, at in rows.items()}
        yield from _shortened(_apart(names, groups) or _medians_apart(names, groups))


def _medians_apart(names: Sequence[str], groups: Mapping[str, _Floats]) -> list[str]:
    """A note for each quantity above 0 whose medians in two groups differ as two units do."""
    large = {name: x for name, x in groups.items() if len(x) >= _FEW}
    notes = []
    for k, what in enumerate(names):
        medians = {name: float(np.median(x[:, k])) for name, x in large.items() if x[:, k].min() > 0}
        if len(medians) < 2:
            continue
        lower, upper = min(medians, key=lambda name: medians[name]), max(medians, key=lambda name: medians[name])
        if medians[upper] >= _UNITS * medians[lower]:
            ratio = medians[upper] / medians[lower]
            notes.append(f"the median of {what} of {upper} is {ratio:.1f} times that of {lower}: are they in one unit?")
    return notes


def _words(dataset: Dataset, place: int) -> bool:
    return _column(dataset, place)[1]


def _valued(x: _Floats) -> bool:
    return len(np.unique(x)) > 2


def _wide(dataset: Dataset, place: int, x: _Floats) -> str:
    """``x (n,)`` that reaches over hardly any of its declared range."""
    name, _, declared = _column(dataset, place)
    reach = float(x.max() - x.min())
    if not declared or reach >= _NARROW:
        return ""
    return (
        f"values of {name} reach over {reach:.2g} of the declared range only, and are hardly told apart: "
        "is the range that of another unit?"
    )


def _outlying(dataset: Dataset, place: int, x: _Floats) -> str:
    """``x (n,)`` of which one value, the least or the greatest, lies far outside all others."""
    distinct = np.unique(x)
    for end, gap, reach in (
        ("least", distinct[1] - distinct[0], distinct[-1] - distinct[1]),
        ("greatest", distinct[-1] - distinct[-2], distinct[-2] - distinct[0]),
    ):
        if gap > _FAR * reach:
            count = int((x == (distinct[0] if end == "least" else distinct[-1])).sum())
            return (
                f"the {end} value of {_column(dataset, place)[0]} ({count} of {len(x)} records) lies far outside: all "
                f"others reach over {reach:.2g} of [0, 1]; if it stands for no value (-999), name it in missing, else "
                "declare the range"
            )
    return _marks(dataset, place, x, distinct)


def _marks(dataset: Dataset, place: int, x: _Floats, distinct: _Floats) -> str:
    """``x (n,)`` of which a few values, at one end or at both, lie far outside all others."""
    fitting = [ends for ends in _ENDS if _stand_apart(distinct, *ends)]
    if not fitting:
        return ""
    least, greatest = min(fitting, key=lambda ends: float(np.ptp(_between(distinct, *ends))))
    body = _between(distinct, least, greatest)
    count = int(((x < body[0]) | (x > body[-1])).sum())
    ends = ((least, "least"), (greatest, "greatest"))
    which = " and ".join(f"the {end}" if k == 1 else f"the {k} {end}" for k, end in ends if k)
    return (
        f"{which} values of {_column(dataset, place)[0]} ({count} of {len(x)} records) lie far outside: all others "
        f"reach over {float(np.ptp(body)):.2g} of [0, 1]; if they stand for no value (-999), name them in missing, "
        "else declare the range"
    )


def _between(distinct: _Floats, least: int, greatest: int) -> _Floats:
    return distinct[least : len(distinct) - greatest]


def _stand_apart(distinct: _Floats, least: int, greatest: int) -> bool:
    """Whether the values at the ends are fewer than those between, and each end is far from these."""
    body = _between(distinct, least, greatest)
    if len(body) <= max(2, least + greatest):
        return False
    far = _FAR * np.ptp(body)
    below = not least or body[0] - distinct[least - 1] > far
    return bool(below and (not greatest or distinct[-greatest] - body[-1] > far))


def _splits(dataset: Dataset) -> dict[str, _Floats]:
    if dataset.split is None:
        return {}
    parts = torch.unique(dataset.split).tolist()
    return {f"the {SPLITS[part]} split": (dataset.split == part).numpy() for part in parts}


def _sites(dataset: Dataset) -> dict[str, _Floats]:
    if dataset.keys is None:
        return {}
    keys = dataset.keys.numpy()
    order = np.argsort(keys, kind="stable")
    numbers, starts = np.unique(keys[order], return_index=True)
    rows = np.split(order, starts[1:])
    return {f"site {dataset.key_name(int(k))!r}": at for k, at in zip(numbers, rows, strict=True)}


def _apart(columns: Sequence[str], groups: Mapping[str, _Floats]) -> list[str]:
    """A note for each of the ``columns`` in which the groups that lie farthest apart seem to have two units."""
    large = {name: x for name, x in groups.items() if len(x) >= _FEW}
    if len(large) < 2 or not columns:
        return []
    names = list(large)
    # (groups, 4, columns): the ends of the central nine tenths and of the middle half
    ends = np.stack([np.quantile(x, [0.05, 0.25, 0.75, 0.95], axis=0) for x in large.values()])
    lower, upper = ends[:, 3].argmin(0), ends[:, 0].argmax(0)
    notes = []
    for k, column in enumerate(columns):
        low, high = ends[lower[k], :, k], ends[upper[k], :, k]
        halves = sorted((float(low[2] - low[1]), float(high[2] - high[1])))
        if low[3] < high[0] and halves[0] > 0 and halves[1] >= _SPREAD * halves[0]:
            notes.append(
                f"values of {column} of {names[lower[k]]} lie below those of {names[upper[k]]}, and "
                f"the middle halves of the two differ {halves[1] / halves[0]:.1f} times in width: are they in one unit?"
            )
    return notes


def _column(dataset: Dataset, place: int) -> tuple[str, bool, bool]:
    """What feature ``place`` is called, whether it is a word's, and whether its range was declared."""
    at = 0
    for column in dataset.inputs.columns:
        at += max(1, len(column.words))
        if place < at:
            return f"column {column.name!r}", bool(column.words), column.range is not None
    return f"feature {place}", False, False


def _shortened(notes: Sequence[str]) -> Iterator[str]:
    lines = [note for note in notes if note]
    yield from lines[:_SHOWN]
    if len(lines) > _SHOWN:
        yield f"the same of {len(lines) - _SHOWN} more columns as of the last {_SHOWN}"
