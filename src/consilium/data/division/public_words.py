"""The vocabulary of the public slice, and what it does not know.

    every word of the records  ->  the most frequent ones of the public records; the others become the unknown word

Private records decide nothing here: neither which words there are, nor their numbers (LAWS 9, 10).  Words that are
unknown are counted by natural site.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor

from consilium.core.errors import Refused
from consilium.core.inputs import PADDING, UNKNOWN
from consilium.core.records import Omission
from consilium.data.dataset import Dataset
from consilium.data.words import Vocabulary, most_frequent

__all__ = ["unknown_words", "with_public_words"]


def with_public_words(dataset: Dataset, public: Tensor) -> Dataset:
    """``dataset`` under the vocabulary of its ``public`` records, bool ``(n,)``; itself where its words are settled.

    Records that differed in private words alone may be equal afterwards.

    Raises Refused: there are no public records, or they hold no word.
    """
    provisional = dataset.provisional
    if provisional is None:
        return dataset
    x, every = dataset.records.x, provisional.every
    counts = torch.bincount(x[public].flatten(), minlength=every.tokens)
    first = every.tokens - len(every.words)
    present = Counter({word: int(n) for word, n in zip(every.words, counts[first:].tolist(), strict=True) if n})
    if not present:
        raise Refused(
            'vocabulary = "public" takes the words of the public slice, and that has none',
            remedy="set data.public to the share to take out before partition, or name a list of words",
            where="vocabulary",
        )
    settled = Vocabulary(most_frequent(present, provisional.most), "the public slice")
    inputs = settled.inputs(
        x.shape[1], patients=dataset.inputs.patients, classes_declared=dataset.inputs.classes_declared
    )
    records = replace(dataset.records, x=_renumbered(x, every, settled))
    return replace(dataset, records=records, inputs=inputs, provisional=None)


def _renumbered(x: Tensor, every: Vocabulary, settled: Vocabulary) -> Tensor:
    """Ids of ``every`` as those of ``settled``."""
    first = every.tokens - len(every.words)
    places = {word: number for number, word in enumerate(settled.words, first)}
    table = [PADDING, UNKNOWN, *(places.get(word, UNKNOWN) for word in every.words)]
    return torch.tensor(table)[x]


def unknown_words(dataset: Dataset) -> Iterator[Omission]:
    """How many words of each natural site the vocabulary does not have; nothing of inputs that are no words."""
    if not dataset.inputs.tokens:
        return
    x, keys = dataset.records.x, dataset.keys
    for key in [None] if keys is None else torch.unique(keys).tolist():
        rows = x if keys is None else x[keys == key]
        unknown, words = int((rows == UNKNOWN).sum()), int((rows != PADDING).sum())
        if unknown:
            site = "" if key is None else dataset.key_name(key)
            yield Omission(f"of {words} words are not in the vocabulary and read as unknown", unknown, site)
