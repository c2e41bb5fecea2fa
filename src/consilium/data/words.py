"""Texts as words, and words as ids: 0 is padding, 1 a word that the vocabulary does not have, the others follow.

    words       the runs of letters, marks and digits of the text in compatibility form (NFKC) and lower case
    ids         the place of each word in the vocabulary, from 2 on; a text is cut at its end, or padded there

The same text gives the same words everywhere: nothing depends on language, locale or other texts.  What is written
without blanks (Chinese, Thai) is one long word: split it before.

Source: Unicode Standard Annex 15 (NFKC); Unicode Standard, section 4.5 (general categories L, M, N)
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from consilium.core.inputs import PADDING, UNKNOWN, Inputs

__all__ = ["ProvisionalVocabulary", "Vocabulary", "most_frequent", "words_of"]

_FIRST = max(PADDING, UNKNOWN) + 1
_SPLITTING = "NFKC, lower case, runs of letters, marks and digits"
_ASCII = re.compile(r"[a-z0-9]+")
_INNER = frozenset("LMN")


def words_of(text: str) -> list[str]:
    """The words of ``text`` in order."""
    if text.isascii():
        return _ASCII.findall(text.lower())
    lowered = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).lower())
    return "".join(c if unicodedata.category(c)[0] in _INNER else " " for c in lowered).split()


@dataclass(frozen=True)
class Vocabulary:
    """Words, each once; the first has the id 2.  ``origin`` says where they are from."""

    words: tuple[str, ...]
    origin: str

    @property
    def tokens(self) -> int:
        """How many ids there are, padding and unknown included."""
        return len(self.words) + _FIRST

    def ids(self, texts: Iterable[Sequence[str]], length: int) -> Tensor:
        """int64 ``(n, length)`` of n texts, given by their words."""
        places = {word: number for number, word in enumerate(self.words, _FIRST)}
        rows = [[places.get(word, UNKNOWN) for word in words[:length]] for words in texts]
        return torch.tensor([row + [PADDING] * (length - len(row)) for row in rows], dtype=torch.int64)

    def inputs(self, length: int, *, patients: bool, classes_declared: bool) -> Inputs:
        """What the ids mean, for two sites to compare."""
        digest = hashlib.sha256("\n".join(self.words).encode()).hexdigest()
        steps = (
            ("length", f"{length} words, cut at the end"),
            ("vocabulary", f"{len(self.words)} words of {self.origin}, sha256 {digest}"),
            ("words", _SPLITTING),
        )
        return Inputs((), steps, patients, classes_declared, self.tokens)


@dataclass(frozen=True)
class ProvisionalVocabulary:
    """Every word of the records, of which the ``most`` frequent ones of the public slice become the vocabulary."""

    every: Vocabulary
    most: int


def most_frequent(counts: Counter[str], most: int) -> tuple[str, ...]:
    """The ``most`` frequent words, the most frequent first; of equally frequent ones those first in the alphabet."""
    return tuple(sorted(counts, key=lambda word: (-counts[word], word))[:most])
