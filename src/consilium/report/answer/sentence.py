"""One sentence of a study's answer."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Sentence"]


@dataclass(frozen=True)
class Sentence:
    """``topic`` in a word or two, and the ``text``: one to three sentences.

    A ``warning`` says that something was not met, was broken, or cannot be read.
    """

    topic: str
    text: str
    warning: bool = False
