"""``rounds.jsonl``: one line a round, on disk before the round's checkpoint is."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from consilium.core.errors import Failed
from consilium.core.files import opened_to_append, replace
from consilium.core.plain import json_text, read_json_lines

__all__ = ["RoundLog", "RoundReport"]

RoundReport = Mapping[str, Any]
"""One line of ``rounds.jsonl``."""


class RoundLog:
    """The reports of the rounds in ``path``.  Every method raises Failed where the file cannot be read or written."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def settle(self, rounds: int) -> list[float]:
        """Drop the lines of rounds after ``rounds``, and a line that a kill cut; the seconds of those that stay.

        A round that is kept has its line: it was on disk before.  Without one nobody knows who took part in it.
        """
        lines = self._lines() if self.path.exists() else []
        whole = [(line, report) for line, report in lines if report is not None and report["round"] <= rounds]
        numbers = [report["round"] for _, report in whole]
        if lacking := sorted({*range(1, rounds + 1)}.difference(numbers)):
            reason = f"{self.path}, which says who took part, has no readable line of round {lacking[0]}"
            raise Failed(reason, remedy="put it back, or delete checkpoint.safetensors beside it to train again")
        if len(whole) < len(lines):
            self._replace([line for line, _ in whole])
        return [float(report["seconds"]) for _, report in whole]

    def last(self) -> dict[str, Any] | None:
        """The report of the last round; None before the first."""
        lines = self._lines() if self.path.exists() else []
        return lines[-1][1] if lines else None

    def append(self, report: RoundReport) -> None:
        """Write the line of a round."""
        try:
            with opened_to_append(self.path) as log:
                log.write(_line(report))
                log.flush()
                os.fsync(log.fileno())
        except OSError as error:
            raise self._unwritten(error) from error

    def amend(self, report: RoundReport) -> None:
        """Put ``report`` in the place of the last line."""
        self._replace([*(line for line, _ in self._lines()[:-1]), _line(report)])

    def _lines(self) -> list[tuple[bytes, dict[str, Any] | None]]:
        """Each line and its report; None for one that was cut or is none."""
        try:
            return [(line, _report_in(line, report)) for line, report in read_json_lines(self.path)]
        except OSError as error:
            reason = f"{self.path} cannot be read: {error.strerror}"
            raise Failed(reason, remedy="remove it to train again") from error

    def _replace(self, lines: Sequence[bytes]) -> None:
        try:
            replace(self.path, b"".join(lines))
        except OSError as error:
            raise self._unwritten(error) from error

    def _unwritten(self, error: OSError) -> Failed:
        return Failed(f"cannot write {self.path}: {error}", remedy="free disk space and run again")


def _report_in(line: bytes, report: dict[str, Any] | None) -> dict[str, Any] | None:
    if report is None or not line.endswith(b"}\n"):
        return None
    typed = {"round": int, "seconds": int | float, "sites": list, "cohort": list, "refused": list}
    return report if all(isinstance(report.get(name), kind) for name, kind in typed.items()) else None


def _line(report: RoundReport) -> bytes:
    return (json_text(report, allow_nan=True) + "\n").encode()
