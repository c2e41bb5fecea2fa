"""A gated recurrent unit over words, from the first to the last, and one linear layer of its last state.

    r, z = sigmoid(V [r|z] E x_t + U [r|z] h),  n = tanh(V_n E x_t + r * U_n h),  h' = (1 - z) n + z h

The same unit as torch's, written as linear layers that are called at every position: torch's own recurrent layers have
no per-example gradient but one record at a time.  At a position without a word the state stays, so padding changes no
answer.

Source: Cho et al. 2014, arXiv 1406.1078; the reset gate after the product, as in cuDNN and torch.nn.GRU
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from consilium.core.entry import check

from ._text import TextArchitecture, word_mask, word_vectors

__all__ = ["GRU"]


@dataclass(frozen=True)
class GRU(TextArchitecture):
    """Word vectors of ``width`` numbers, read in order into a state of ``hidden`` numbers; the last state is answered.

    Its cost grows with ``length`` of the data: positions are visited one after the other.
    """

    width: int = 32
    hidden: int = 64

    def __post_init__(self) -> None:
        check(1 <= self.width <= 4096, "width", self.width, "1 to 4096 numbers a word")
        check(1 <= self.hidden <= 4096, "hidden", self.hidden, "1 to 4096 numbers of state")

    def build_text(self, length: int, tokens: int, classes: int) -> nn.Module:
        """A record of padding alone has the state zero."""
        return _GRU(length, tokens, self.width, self.hidden, classes)


class _GRU(nn.Module):
    def __init__(self, length: int, tokens: int, width: int, hidden: int, classes: int) -> None:
        super().__init__()
        self.embedding = word_vectors(tokens, width)
        self.of_word = nn.Linear(width, 3 * hidden)
        self.of_state = nn.Linear(hidden, 3 * hidden)
        self.output = nn.Linear(hidden, classes)
        self.length, self.hidden = length, hidden

    def forward(self, x: Tensor) -> Tensor:
        gates = self.of_word(self.embedding(x))
        mask = word_mask(x, gates)
        state = gates[:, 0, : self.hidden] * 0.0
        for place in range(self.length):
            here = mask[:, place]
            state = here * self._next(gates[:, place], state) + (1.0 - here) * state
        answers: Tensor = self.output(state)
        return answers

    def _next(self, word: Tensor, state: Tensor) -> Tensor:
        before, cut = self.of_state(state), 2 * self.hidden
        reset, stay = torch.sigmoid(word[:, :cut] + before[:, :cut]).chunk(2, dim=1)
        new = torch.tanh(word[:, cut:] + reset * before[:, cut:])
        return (1.0 - stay) * new + stay * state
