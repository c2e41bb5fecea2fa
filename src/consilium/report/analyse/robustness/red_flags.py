"""Red flags: what an attack noted against the figures of robustness of a model, and which figures that concerns.

An accuracy under attack means something only where the attacks could do their work.  A masking report, or an ensemble
that checks itself, that says they could not speaks against every such figure of that model, whichever attack it is of;
what is proven of the model needs no attack and stays.

Source: Carlini et al. 2019, On Evaluating Adversarial Robustness, arXiv 1902.06705 (section 3.1)
"""

from __future__ import annotations

from collections.abc import Sequence

from consilium.report.analyse.summary import Row
from consilium.report.load.records import StudyRecord

__all__ = ["flagged_rows", "flags_checked"]

_CHECK = "masking_"


def flagged_rows(rows: Sequence[Row]) -> tuple[tuple[Row, tuple[str, ...]], ...]:
    """The rows of which some model has a red flag, each with its flags."""
    return tuple((row, row.red_flags) for row in rows if row.red_flags)


def flags_checked(study: StudyRecord) -> bool:
    """True where some model was checked for them, or has one all the same."""
    findings = [finding for cell in study.evidence for finding in cell.aimed("evasion")]
    return any(f.red_flags or any(m.name.startswith(_CHECK) for m in f.measures) for f in findings)
