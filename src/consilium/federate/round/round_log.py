"""``rounds.jsonl``: one line a round, on disk before the round's checkpoint is."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from consilium.core.errors import Failed
from consilium.core.files import opened_to_append, replace
from consilium.core.plain import Json, json_text, member, numeric_member, read_json_lines
from consilium.evidence.round import RoundReport

__all__ = ["RoundLog"]


@dataclass(frozen=True)
class _Line:
    """A line as written, and its report; None, of round 0, for one that was cut or is none."""

    text: bytes
    report: RoundReport | None = None
    round: int = 0
    seconds: float = 0.0

    @classmethod
    def of(cls, text: bytes, report: Mapping[str, Json] | None) -> _Line:
        if report is None or not text.endswith(b"}\n"):
            return cls(text)
        try:
            for name in ("sites", "cohort", "refused"):
                member(report, name, list)
            return cls(text, report, member(report, "round", int), float(numeric_member(report, "seconds")))
        except (KeyError, TypeError):
            return cls(text)


class RoundLog:
    """The reports of the rounds in ``path``.  Every method raises Failed where the file cannot be read or written."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def settle(self, rounds: int) -> list[float]:
        """Drop the lines of rounds after ``rounds``, and a line that a kill cut; the seconds of those that stay.

        A stored round has its line, which was on disk before it.  Without one its cohort is unknown.

        Raises Failed: a stored round has no readable line.
        """
        lines = self._lines() if self.path.exists() else []
        whole = [line for line in lines if line.report is not None and line.round <= rounds]
        if lacking := sorted({*range(1, rounds + 1)}.difference(line.round for line in whole)):
            reason = f"{self.path}, the record of who took part, has no readable line of round {lacking[0]}"
            raise Failed(reason, remedy="put it back, or delete checkpoint.safetensors beside it to train again")
        if len(whole) < len(lines):
            self._replace([line.text for line in whole])
        return [line.seconds for line in whole]

    def last(self) -> RoundReport | None:
        """The report of the last round; None before the first."""
        lines = self._lines() if self.path.exists() else []
        return lines[-1].report if lines else None

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
        self._replace([*(line.text for line in self._lines()[:-1]), _line(report)])

    def _lines(self) -> list[_Line]:
        try:
            return [_Line.of(text, report) for text, report in read_json_lines(self.path)]
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


def _line(report: RoundReport) -> bytes:
    return (json_text(report, allow_nan=True) + "\n").encode()
