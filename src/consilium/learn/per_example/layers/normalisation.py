"""GroupNorm, InstanceNorm, LayerNorm and RMSNorm: scale and shift, after statistics of the example alone.

    dL/dscale[c] = sum_t g[t, c] x[t, c],   dL/dshift[c] = sum_t g[t, c],   x the normalised input

For a group norm x = (a - mean) rstd with one mean per group, so two sums per channel suffice:
sum g x = rstd (sum g a - mean sum g).  The statistics are those that the forward pass kept.

Source: Wu and He 2018, arXiv 1803.08494; Ba et al. 2016, arXiv 1607.06450; Zhang and Sennrich 2019, arXiv 1910.07467
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge, Node, get_gradient_edge

from consilium.learn.per_example.layer_gradients import FormedGradients, spans
from consilium.learn.per_example.layer_rule import LayerCall, LayerRule, per_example, register

__all__ = ["GroupNormRule", "InstanceNormRule", "LayerNormRule"]


@register(nn.GroupNorm)
class GroupNormRule(LayerRule):
    """``nn.GroupNorm``."""

    layer: nn.GroupNorm

    def statistics(self, node: Node) -> tuple[Tensor, Tensor] | None:
        """Mean and 1 / deviation of each group."""
        return _moments_in(node)

    def gradients(self, calls: Sequence[LayerCall], n: int) -> FormedGradients:
        """Sums over positions, rows and calls."""
        sums = [self._sums(call) for call in calls]
        return FormedGradients([per_example([f[i] for f in sums], n) for i in range(2)])

    def _sums(self, call: LayerCall) -> tuple[Tensor, Tensor]:
        """Scale's and shift's gradients per row, ``(rows, channels)``."""
        weight, groups = self.layer.weight, self.layer.num_groups
        a, g = call.input.to(weight.dtype), call.output_gradient.to(weight.dtype)
        rows, channels = a.shape[:2]
        mean, rstd = call.statistics or _moments(a.reshape(rows, groups, -1), self.layer.eps)
        shift, both = _sums_of(a, g)
        centred = both.view(rows, groups, -1) - mean.to(a.dtype).view(rows, groups, 1) * shift.view(rows, groups, -1)
        return (centred * rstd.to(a.dtype).view(rows, groups, 1)).view(rows, channels), shift


@register(nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d)
class InstanceNormRule(LayerRule):
    """``nn.InstanceNorm1d``, ``2d`` and ``3d``.

    torch makes it one BatchNorm over all rows times channels, with scale and shift repeated for every row: the gradient
    of what was repeated is the gradient per row, and autograd has it.
    """

    @staticmethod
    def covers(layer: nn.Module) -> bool:
        """Running statistics would leave the site, and mix examples: not covered."""
        return not layer.track_running_stats

    def edges(self, out: Tensor) -> tuple[GradientEdge, ...]:
        """Behind the repeated scale and the repeated shift, which the BatchNorm under the output's view was handed."""
        batch_norm = get_gradient_edge(out).node.next_functions[0][0]
        assert batch_norm is not None
        _, scale, shift = batch_norm.next_functions
        assert scale[0] is not None
        assert shift[0] is not None
        return GradientEdge(scale[0], scale[1]), GradientEdge(shift[0], shift[1])

    def gradients(self, calls: Sequence[LayerCall], n: int) -> FormedGradients:
        """Sums over rows and calls."""
        weight = self.layer.weight
        assert isinstance(weight, Tensor)
        rows = [[v.to(weight.dtype).view(-1, weight.numel()) for v in call.returned] for call in calls]
        return FormedGradients([per_example([f[i] for f in rows], n) for i in range(2)])


@register(nn.LayerNorm, nn.RMSNorm)
class LayerNormRule(LayerRule):
    """``nn.LayerNorm`` and ``nn.RMSNorm``."""

    def statistics(self, node: Node) -> tuple[Tensor, Tensor] | None:
        """Mean and 1 / deviation of each position; an RMSNorm keeps neither."""
        return _moments_in(node) if isinstance(self.layer, nn.LayerNorm) else None

    def gradients(self, calls: Sequence[LayerCall], n: int) -> FormedGradients:
        """Sums over positions, rows and calls."""
        sums = [self._sums(call) for call in calls]
        return FormedGradients([per_example([f[i] for f in sums], n) for i in range(len(self.owned()))])

    def _sums(self, call: LayerCall) -> tuple[Tensor, Tensor]:
        weight = self.layer.weight
        assert isinstance(weight, Tensor)
        size = weight.numel()
        a, g = (v.to(weight.dtype).reshape(len(v), -1, size) for v in (call.input, call.output_gradient))
        if isinstance(self.layer, nn.RMSNorm):
            eps = self.layer.eps if self.layer.eps is not None else torch.finfo(call.input.dtype).eps
            x = a * (a.square().mean(-1, keepdim=True) + eps).rsqrt()
        else:
            mean, rstd = call.statistics or _moments(a, float(self.layer.eps))  # type: ignore[arg-type]
            shape = (len(a), -1, 1)
            x = (a - mean.to(a.dtype).reshape(shape)) * rstd.to(a.dtype).reshape(shape)
        return (g * x).sum(1), g.sum(1)


def _moments_in(node: Node) -> tuple[Tensor, Tensor] | None:
    """Mean and 1 / deviation that the forward pass kept in ``node``; None where it kept others."""
    mean, rstd = (getattr(node, f"_saved_result{i}", None) for i in (1, 2))
    return None if mean is None or rstd is None else (mean, rstd)


def _sums_of(a: Tensor, g: Tensor) -> tuple[Tensor, Tensor]:
    """Sums of g and of g a over all positions, ``(rows, channels)`` each, in parts that stay in the cache."""
    last = a.dim() > 2 and a.stride(1) == 1 and g.stride(1) == 1
    axis, shift, both = 1 if last else 2, [], []
    a, g = ((v.movedim(1, -1).flatten(1, -2) if last else v.reshape(*v.shape[:2], -1)) for v in (a, g))
    for part in spans(len(a), a[:1].numel() * a.element_size() * 3):
        shift.append(g[part].sum(axis))
        both.append((g[part] * a[part]).sum(axis))
    return torch.cat(shift), torch.cat(both)


def _moments(a: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    variance, mean = torch.var_mean(a, dim=-1, correction=0)
    return mean, (variance + eps).rsqrt()
