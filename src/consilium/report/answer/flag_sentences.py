"""Which models have figures of robustness that a check speaks against."""

from __future__ import annotations

from collections.abc import Sequence

from consilium.core.count_words import count_words
from consilium.report.analyse.robustness.red_flags import flagged_rows
from consilium.report.analyse.summary import Row

from .sentence import Sentence
from .wording import join_words

__all__ = ["flag_sentences"]

_NAMED = 4
"""Arms that are named one by one."""


def flag_sentences(every: Sequence[Row]) -> tuple[Sentence, ...]:
    """One, where some model of ``every`` row has a red flag, with the first of them."""
    flagged = flagged_rows(every)
    if not flagged:
        return ()
    models = [cell for row, _ in flagged for cell in row.cells if cell.red_flags]
    total = sum(cell.judged for row in every for cell in row.cells)
    names = [f"{row.code} ({row.arm.name}{_infected(row)})" for row, _ in flagged[:_NAMED]]
    names += [f"{len(flagged) - _NAMED} more"] if len(flagged) > _NAMED else []
    flags = [flag for _, some in flagged for flag in some]
    more = f" ({len(flags) - 1} more on the models' pages)" if len(flags) > 1 else ""
    text = (
        f"{len(models)} of {count_words(total, 'model')} {'has' if len(models) == 1 else 'have'} a red flag: "
        f"{join_words(names)}. {'Its' if len(models) == 1 else 'Their'} accuracies under attack are no evidence of "
        f"robustness: {flags[0].removesuffix('.')}{more}."
    )
    return (Sentence("red flags", text, warning=True),)


def _infected(row: Row) -> str:
    return "" if row.infected_by == "none" else f", {row.infected_by}"
