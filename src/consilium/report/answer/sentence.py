"""One sentence of a study's answer."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Sentence"]


@dataclass(frozen=True)
class Sentence:
    """``topic`` in a word or two, and the ``text``: one to three sentences."""

    topic: str
    text: str
