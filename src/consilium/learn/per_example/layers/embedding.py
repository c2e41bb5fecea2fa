"""Embeddings: example n's gradient has one row per DIFFERENT token that it holds, so only those rows are formed.

    row(n, v) = sum over positions t of n with token v of g[n, t]          ||G_n||^2 = sum_v ||row(n, v)||^2

Tokens repeated within an example add up before the norm is taken; T D numbers instead of vocabulary times D.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from consilium.learn.per_example.layer_gradients import LayerGradients
from consilium.learn.per_example.layer_rule import LayerCall, LayerRule, register

__all__ = ["EmbeddingRule"]


@register(nn.Embedding)
class EmbeddingRule(LayerRule):
    """``nn.Embedding``; ``max_norm`` rewrites weights and ``scale_grad_by_freq`` counts over the batch: not covered."""

    @staticmethod
    def covers(layer: nn.Module) -> bool:
        """Those without what looks at the batch."""
        return isinstance(layer, nn.Embedding) and layer.max_norm is None and not layer.scale_grad_by_freq

    def gradients(self, calls: Sequence[LayerCall], n: int) -> LayerGradients:
        """Calls are joined along the positions."""
        layer = self.layer
        assert isinstance(layer, nn.Embedding)
        tokens = torch.cat([call.input.reshape(n, -1) for call in calls], 1)
        g = torch.cat(
            [call.output_gradient.to(layer.weight.dtype).reshape(n, -1, layer.embedding_dim) for call in calls], 1
        )
        if layer.padding_idx is not None:
            g = g.where((tokens != layer.padding_idx)[..., None], 0)
        return _Rows(tokens, g, layer.num_embeddings)


class _Rows(LayerGradients):
    """The rows of different (example, token) pairs."""

    def __init__(self, tokens: Tensor, g: Tensor, vocabulary: int) -> None:
        self.n, self.vocabulary = len(tokens), vocabulary
        pairs = torch.arange(self.n, device=tokens.device)[:, None] * vocabulary + tokens
        different, place = torch.unique(pairs.flatten(), return_inverse=True)
        self.owner, self.token = different // vocabulary, different % vocabulary
        self.rows = g.new_zeros(len(different), g.shape[2]).index_add_(0, place, g.flatten(0, 1))

    def squares(self) -> list[Tensor]:
        """Of the weight."""
        each = self.rows.square().sum(1)
        return [each.new_zeros(self.n).index_add_(0, self.owner, each)]

    def weighted(self, weights: Sequence[Tensor]) -> list[Tensor]:
        """``(vocabulary, D)``."""
        total = self.rows.new_zeros(self.vocabulary, self.rows.shape[1])
        return [total.index_add_(0, self.token, self.rows * weights[0][self.owner, None])]

    def formed(self) -> list[Tensor]:
        """``(n, vocabulary * D)``."""
        total = self.rows.new_zeros(self.n * self.vocabulary, self.rows.shape[1])
        total[self.owner * self.vocabulary + self.token] = self.rows
        return [total.view(self.n, -1)]

    def held(self) -> int:
        """The rows."""
        return self.rows.numel() * self.rows.element_size()
