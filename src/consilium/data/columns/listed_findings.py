"""Findings in one cell, ``Effusion|Nodule``, as radiology archives list them: a 1 for each finding that is named."""

from __future__ import annotations

import re
from collections.abc import Container, Sequence

import torch
from torch import Tensor

from consilium.core.errors import Refused

__all__ = ["listed_findings"]

_NONE = re.compile(r"(?:no|without)\b.*|none|nil|nothing|normal|healthy|negative|unremarkable|clear", re.IGNORECASE)
"""Words that say that there is no finding."""


def listed_findings(
    cells: Sequence[str], rows: Sequence[int], name: str, findings: Sequence[str], ignored: Sequence[str], between: str
) -> Tensor:
    """int64 ``(n, findings)`` of ``cells (n,)`` in column ``name``; ``ignored`` words may stand there and mean nothing.

    Raises Refused: a word that is neither, or a finding beside a word that says that there is none, by its row.
    """
    place = {finding: k for k, finding in enumerate(findings)}
    y = torch.zeros(len(cells), len(findings), dtype=torch.int64)
    for record, (cell, row) in enumerate(zip(cells, rows, strict=True)):
        words = [part.strip() for part in cell.split(between)]
        _refuse_contradiction(words, row, name, place, ignored)
        for word in words:
            if word in place:
                y[record, place[word]] = 1
            elif word not in ignored:
                raise Refused(
                    f"column {name!r}, row {row}, holds {word!r}, which is no finding of classes",
                    remedy=f'add it to classes, or to the words that mean none of them: ignore = ["{word}"]',
                    where="classes",
                )
    return y


def _refuse_contradiction(
    words: Sequence[str], row: int, name: str, findings: Container[str], ignored: Sequence[str]
) -> None:
    present = next((word for word in words if word in findings and not _NONE.fullmatch(word)), None)
    none = next((word for word in words if (word in ignored or word in findings) and _NONE.fullmatch(word)), None)
    if present is not None and none is not None:
        raise Refused(
            f"column {name!r}, row {row}, holds {none!r} beside {present!r}, which contradict each other",
            remedy="mend the cell, or leave its row out",
            where="target",
        )
