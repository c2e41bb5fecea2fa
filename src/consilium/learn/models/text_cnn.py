"""A convolutional network over words: windows of several sizes, each filter's largest answer, one linear layer.

    h_t = ReLU(K_s [E x_t, ..., E x_{t+s-1}] + b_s),    answer = sum_s W_s max_t h_t    over the window sizes s

A window starts at a word; where it reaches past the last one it reads zeros, so padding changes no answer.

Source: Kim 2014, Convolutional Neural Networks for Sentence Classification, arXiv 1408.5882 (random initial vectors)
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from consilium.core.entry import check

from ._text import TextArchitecture, word_mask, word_vectors

__all__ = ["TextCNN"]


@dataclass(frozen=True)
class TextCNN(TextArchitecture):
    """Word vectors of ``width`` numbers, ``channels`` filters of each size in ``windows``, the maximum over positions.

    No normalisation layer, so it is lawful under DP.
    """

    width: int = 32
    channels: int = 32
    windows: tuple[int, ...] = (2, 3, 4)

    def __post_init__(self) -> None:
        check(1 <= self.width <= 4096, "width", self.width, "1 to 4096 numbers a word")
        check(1 <= self.channels <= 4096, "channels", self.channels, "1 to 4096 filters of each size")
        sizes = all(1 <= size <= 64 for size in self.windows)
        check(0 < len(self.windows) <= 16 and sizes, "windows", self.windows, "1 to 16 sizes of 1 to 64 words")

    def build_text(self, length: int, tokens: int, classes: int) -> nn.Module:
        """A record of padding alone has the maxima zero."""
        return _TextCNN(tokens, self.width, self.channels, self.windows, classes)


class _TextCNN(nn.Module):
    def __init__(self, tokens: int, width: int, channels: int, windows: tuple[int, ...], classes: int) -> None:
        super().__init__()
        self.embedding = word_vectors(tokens, width)
        self.convolutions = nn.ModuleList([nn.Conv1d(width, channels, size) for size in windows])
        self.outputs = nn.ModuleList([nn.Linear(channels, classes, bias=i == 0) for i in range(len(windows))])
        self.windows = windows

    def forward(self, x: Tensor) -> Tensor:
        embedded = self.embedding(x)
        mask = word_mask(x, embedded)
        words, there = (embedded * mask).transpose(1, 2), mask.transpose(1, 2)
        parts = []
        for size, convolution, output in zip(self.windows, self.convolutions, self.outputs, strict=True):
            filtered = F.relu(convolution(F.pad(words, (0, size - 1))))
            parts.append(output(F.adaptive_max_pool1d(filtered * there, 1).flatten(1)))
        answers: Tensor = functools.reduce(torch.add, parts)
        return answers
