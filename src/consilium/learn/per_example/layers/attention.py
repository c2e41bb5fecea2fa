"""Multi-head attention from single layers: torch's own multiplies by its weights inside one function without layers.

The stand-in has the same parameters in the same order, as three linear layers and one:

    softmax(Q K^T / sqrt(d) + mask) V,  Q = q W_q^T + b_q, ...;   output W_o^T + b_o

``in_proj_weight (3 E, E)`` is the rows of W_q, W_k and W_v one after the other: a flat vector of parameters fits both.

Source: Vaswani et al. 2017, arXiv 1706.03762
"""

from __future__ import annotations

import copy

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["TakenApart", "taken_apart"]


def taken_apart(template: nn.Module) -> nn.Module:
    """A copy of ``template`` with stand-ins for its attentions.

    Frozen ones stay, and those with ``bias_k`` or an added zero.
    """
    module = copy.deepcopy(template)
    if _simple(module):
        return TakenApart(module)  # type: ignore[arg-type]
    for parent in list(module.modules()):
        for name, child in list(parent.named_children()):
            if _simple(child):
                setattr(parent, name, TakenApart(child))  # type: ignore[arg-type]
    return module


def _simple(module: nn.Module) -> bool:
    if type(module) is not nn.MultiheadAttention or module.bias_k is not None or module.add_zero_attn:
        return False
    return all(p.requires_grad for p in module.parameters())


class TakenApart(nn.Module):
    """What ``attention`` computes, through layers."""

    num_heads: int
    dropout: float
    batch_first: bool

    def __init__(self, attention: nn.MultiheadAttention) -> None:
        super().__init__()
        if attention._qkv_same_embed_dim:
            weights = [w.clone() for w in attention.in_proj_weight.detach().chunk(3)]
        else:
            weights = [getattr(attention, f"{n}_proj_weight").detach().clone() for n in "qkv"]
        biases: list[Tensor | None] = [None] * 3
        if attention.in_proj_bias is not None:
            biases = [b.clone() for b in attention.in_proj_bias.detach().chunk(3)]
        # Registered here first: in the order of the flat vector, all weights and then all biases.
        self.weights, self.biases = nn.ParameterList(weights), nn.ParameterList([b for b in biases if b is not None])
        self.q, self.k, self.v = (
            _linear(w, b) for w, b in zip(self.weights, [*self.biases] or [None] * 3, strict=True)
        )
        self.out_proj = attention.out_proj
        # What others read from an attention, TransformerEncoderLayer among them.
        for name in ("embed_dim", "kdim", "vdim", "num_heads", "head_dim", "dropout", "batch_first"):
            setattr(self, name, getattr(attention, name))
        self._qkv_same_embed_dim = attention._qkv_same_embed_dim

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """As torch's own; ``is_causal`` is a hint beside ``attn_mask`` there, and is not needed here."""
        if not self.batch_first:
            query, key, value = (v.transpose(0, 1) for v in (query, key, value))
        q, k, v = self._heads(self.q(query)), self._heads(self.k(key)), self._heads(self.v(value))
        mask = self._mask(q, attn_mask, key_padding_mask)
        if need_weights:
            scores = q @ k.transpose(2, 3) / q.shape[3] ** 0.5
            weights = F.dropout((scores if mask is None else scores + mask).softmax(-1), self.dropout, self.training)
            context = weights @ v
        else:
            weights = None
            context = F.scaled_dot_product_attention(q, k, v, mask, self.dropout if self.training else 0.0)
        out: Tensor = self.out_proj(context.transpose(1, 2).flatten(2))
        if weights is not None and average_attn_weights:
            weights = weights.mean(1)
        return (out if self.batch_first else out.transpose(0, 1)), weights

    def _heads(self, x: Tensor) -> Tensor:
        return x.view(*x.shape[:2], self.num_heads, -1).transpose(1, 2)

    def _mask(self, q: Tensor, attn_mask: Tensor | None, padding: Tensor | None) -> Tensor | None:
        """What is added to the scores, ``(n or 1, heads or 1, T or 1, S)``."""
        total = None
        if attn_mask is not None:
            added = _added(attn_mask, q.dtype)
            total = added.view(len(q), self.num_heads, *added.shape[1:]) if added.dim() == 3 else added[None, None]
        if padding is not None:
            added = _added(padding, q.dtype)[:, None, None]
            total = added if total is None else total + added
        return total


def _linear(weight: nn.Parameter, bias: nn.Parameter | None) -> nn.Linear:
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=False, device="meta")
    layer.weight, layer.bias = weight, bias  # type: ignore[assignment]
    return layer


def _added(mask: Tensor, dtype: torch.dtype) -> Tensor:
    return torch.zeros_like(mask, dtype=dtype).masked_fill(mask, -torch.inf) if mask.dtype == torch.bool else mask
