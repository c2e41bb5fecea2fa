"""What a site keeps on its own disk of each study: its state as of two rounds, and the last answer it sent.

    STATE/<study>/ROUND.safetensors    the state after ROUND                  newest two
    STATE/<study>/answer-ROUND.bin     the bytes sent in ROUND, and the digest of the question they answer
    STATE/<study>/older                there were states before those: a missing state is not a site's initial one

An answer is on disk before it is sent.  When a request is repeated, after a crash at either end, the site sends the
same bytes: nothing is trained twice, and no privacy is spent twice.  For another request of the same round it starts
from the state before that round.  A state is sealed, and holds the digest of its answer: a change of either, by a disk
or a copy from another study, is refused, naming the file.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from consilium.core.errors import Failed
from consilium.core.files import opened, replace
from consilium.core.plain import Json
from consilium.core.sealed_tensors import read_sealed, write_sealed
from consilium.federate.client.client_states import packed, unpacked
from consilium.federate.client.participant import SiteState

__all__ = ["SiteStore"]

_KEPT_ROUNDS = 2
_REMEDY = "restore it from a backup"


class SiteStore:
    """One study's folder at one site."""

    def __init__(self, folder: Path) -> None:
        self.folder, self._older = folder, folder / "older"
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def answer(self, round: int, question: bytes) -> bytes | None:
        """The bytes that were sent in answer to ``question`` in ``round``; None if it was never answered.

        Raises Failed: the stored answer was changed.
        """
        path = self._answer(round)
        if not path.is_file():
            return None
        with opened(path) as file:
            data = file.read()
        if data[:32] != hashlib.sha256(question).digest():
            return None
        wanted = self._about(round).get("answer") if self._state(round).is_file() else None
        if wanted is not None and wanted != hashlib.sha256(data).hexdigest():
            remedy = "restore it from a backup, or delete it: the round is then worked, and paid, again"
            raise Failed(f"the answer {path} was changed after it was written", remedy=remedy)
        return data[32:]

    def state(self, round: int) -> SiteState:
        """The state before ``round``; a fresh one if the site has not worked yet; raises where it is gone.

        Raises Failed: the state is no longer stored, or was changed.
        """
        before = [number for number in self._rounds() if number < round]
        if before:
            return self._read(max(before))
        if round > 1 and self._older.exists():
            raise Failed(
                f"the site's state before round {round} is not stored any more, and the server resumes from before it",
                remedy="serve the newest copy of the server's folder, or the study under another name",
            )
        return SiteState()

    def keep(self, round: int, question: bytes, answer: bytes, state: SiteState) -> None:
        """Store the state after ``round`` and the answer, in that order: a stored answer implies a stored state.

        Without room for both there is neither: the round was not worked.  States of later rounds belong to a course
        that the server has left, and go.
        """
        tensors, about = packed(state)
        content = hashlib.sha256(question).digest() + answer
        digest = hashlib.sha256(content).hexdigest()
        write_sealed(self._state(round), tensors, {**about, **self._expected(round), "answer": digest})
        try:
            _replace(self._answer(round), content)
        except Failed:
            self._state(round).unlink(missing_ok=True)
            self._answer(round).unlink(missing_ok=True)
            raise
        past = [number for number in self._rounds() if number <= round]
        if len(past) > _KEPT_ROUNDS:
            self._older.touch()
        for number in {*self._rounds()} - {*past[-_KEPT_ROUNDS:]}:
            self._state(number).unlink(missing_ok=True)
            self._answer(number).unlink(missing_ok=True)

    def _rounds(self) -> list[int]:
        names = (re.fullmatch(r"([0-9]+)\.safetensors", path.name) for path in self.folder.iterdir())
        return sorted(int(name[1]) for name in names if name is not None)

    def _read(self, round: int) -> SiteState:
        path = self._state(round)
        tensors, about = read_sealed(path, "the state", _REMEDY, self._expected(round))
        try:
            return unpacked(tensors, about)
        except (KeyError, TypeError, ValueError) as error:
            raise Failed(f"the state {path} is not readable: {error}", remedy=_REMEDY) from error

    def _about(self, round: int) -> dict[str, Json]:
        return read_sealed(self._state(round), "the state", _REMEDY, self._expected(round))[1]

    def _expected(self, round: int) -> dict[str, Json]:
        return {"study": self.folder.name, "round": round}

    def _state(self, round: int) -> Path:
        return self.folder / f"{round}.safetensors"

    def _answer(self, round: int) -> Path:
        return self.folder / f"answer-{round}.bin"


def _replace(path: Path, data: bytes) -> None:
    try:
        replace(path, data)
    except OSError as error:
        raise Failed(f"cannot write {path}: {error}", remedy="free disk space") from error
