"""A bag of embeddings: the mean of the words' vectors, and one linear layer.  The order of words does not count.

    answer = W mean_t E[x_t] + b          over the positions t that hold a word

Source: Joulin et al. 2016, Bag of Tricks for Efficient Text Classification, arXiv 1607.01759 (without n-grams)
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from consilium.core.entry import check

from ._text import TextArchitecture, word_mask, word_vectors

__all__ = ["BagOfEmbeddings"]


@dataclass(frozen=True)
class BagOfEmbeddings(TextArchitecture):
    """The mean of word vectors of ``width`` numbers, and one linear layer: the least model of text."""

    width: int = 32

    def __post_init__(self) -> None:
        check(1 <= self.width <= 4096, "width", self.width, "1 to 4096 numbers a word")

    def build_text(self, length: int, tokens: int, classes: int) -> nn.Module:
        """A record of padding alone is a vector of zeros."""
        return _Bag(tokens, self.width, classes)


class _Bag(nn.Module):
    def __init__(self, tokens: int, width: int, classes: int) -> None:
        super().__init__()
        self.embedding = word_vectors(tokens, width)
        self.output = nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        embedded = self.embedding(x)
        mask = word_mask(x, embedded)
        answers: Tensor = self.output((embedded * mask).sum(1) / mask.sum(1).clamp(min=1.0))
        return answers
