"""Red flags: what an attack noted against the figures of robustness of a model, and which figures that concerns.

An accuracy under attack means something only where the attacks could do their work.  A masking report, or an ensemble
that checks itself, that says they could not speaks against every such figure of that model, whichever attack it is of;
what is proven of the model needs no attack and stays.

Source: Carlini et al. 2019, On Evaluating Adversarial Robustness, arXiv 1902.06705 (section 3.1)
"""

from __future__ import annotations

from collections.abc import Sequence

from consilium.report.analyse.columns import TableColumn
from consilium.report.analyse.summary import Row
from consilium.report.load.records import CellRecord, StudyRecord

__all__ = ["flagged_at", "flagged_rows", "flags_checked", "red_flags"]

_CHECK = "masking_"


def red_flags(cell: CellRecord) -> tuple[str, ...]:
    """Every red flag of a model as a sentence that begins with the name of the attack that noted it."""
    return tuple(f"{finding.name}: {flag}" for finding in cell.aimed("evasion") for flag in finding.red_flags)


def flagged_at(row: Row, column: TableColumn) -> tuple[str, ...]:
    """The red flags that speak against the figure of ``row`` in ``column``, of any of its seeds, each once."""
    if not column.robustness or column.proven:
        return ()
    return tuple(dict.fromkeys(flag for cell in row.cells for flag in red_flags(cell)))


def flagged_rows(rows: Sequence[Row]) -> tuple[tuple[Row, tuple[str, ...]], ...]:
    """The rows of which some model has a red flag, each with its flags."""
    flags = ((row, tuple(dict.fromkeys(flag for cell in row.cells for flag in red_flags(cell)))) for row in rows)
    return tuple((row, some) for row, some in flags if some)


def flags_checked(study: StudyRecord) -> bool:
    """True where some model was checked for them, or has one all the same."""
    findings = [finding for cell in study.evidence for finding in cell.aimed("evasion")]
    return any(f.red_flags or any(m.name.startswith(_CHECK) for m in f.measures) for f in findings)
