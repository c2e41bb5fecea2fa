"""Findings in one cell, ``Effusion|Nodule``, as radiology archives list them: a 1 for each finding that is named."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from consilium.core.errors import Refused

__all__ = ["listed_findings"]


def listed_findings(
    cells: Sequence[str], rows: Sequence[int], name: str, findings: Sequence[str], ignored: Sequence[str], between: str
) -> Tensor:
    """int64 ``(n, findings)`` of ``cells (n,)`` in column ``name``; ``ignored`` words may stand there and mean nothing.

    Raises Refused: a word that is neither, by its row.
    """
    place = {finding: k for k, finding in enumerate(findings)}
    y = torch.zeros(len(cells), len(findings), dtype=torch.int64)
    for record, (cell, row) in enumerate(zip(cells, rows, strict=True)):
        for word in (part.strip() for part in cell.split(between)):
            if word in place:
                y[record, place[word]] = 1
            elif word not in ignored:
                raise Refused(
                    f"column {name!r}, row {row}, holds {word!r}, which is no finding of classes",
                    remedy=f'add it to classes, or to the words that mean none of them: ignore = ["{word}"]',
                    where="classes",
                )
    return y
