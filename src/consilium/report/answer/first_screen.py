"""Which sentences of an answer stand on the first screen: four at the most; the others are folded below them.

First come warnings (what was not met, learned nothing or was broken), then membership and what the choices cost and
bring, then how good the model is without them, what infected it, and the rest.  Those chosen keep their order.
"""

from __future__ import annotations

from collections.abc import Sequence

from .sentence import Sentence

__all__ = ["first_screen"]

_MOST = 4
_LAST = ("baseline", "infected", "audit", "missing")


def first_screen(sentences: Sequence[Sentence]) -> tuple[tuple[Sentence, ...], tuple[Sentence, ...]]:
    """The sentences that are shown at once, and those that are folded, each in the order of the answer."""
    ranked = sorted(sentences, key=_rank)
    first = {id(sentence) for sentence in ranked[:_MOST]}
    shown = tuple(sentence for sentence in sentences if id(sentence) in first)
    return shown, tuple(sentence for sentence in sentences if id(sentence) not in first)


def _rank(sentence: Sentence) -> int:
    if sentence.warning:
        return 0
    if sentence.topic == "membership":
        return 1
    return 3 + _LAST.index(sentence.topic) if sentence.topic in _LAST else 2
