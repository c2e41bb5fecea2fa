"""Any other module: its own forward pass again, one row at a time by ``vmap``, differentiated in its parameters.

    G_n = d <f(a_n; theta), g_n> / d theta

This is exact for a module that depends on its row alone and draws nothing; ``dispatch`` proves that it does.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from consilium.learn.per_example.layer_gradients import FormedGradients
from consilium.learn.per_example.layer_rule import LayerCall, LayerRule, per_example

__all__ = ["AnyModuleRule"]


class AnyModuleRule(LayerRule):
    """A module with all that is below it."""

    def owned(self) -> list[nn.Parameter]:
        """Those of the modules below too."""
        return list(self.layer.parameters())

    def gradients(self, calls: Sequence[LayerCall], n: int) -> FormedGradients:
        """Gradients formed, added over rows and calls."""
        by_call = [self._rows(call) for call in calls]
        flat = [[rows.reshape(len(rows), -1) for rows in same] for same in zip(*by_call, strict=True)]
        return FormedGradients([per_example(rows, n) for rows in flat])

    def _rows(self, call: LayerCall) -> list[Tensor]:
        names = [name for name, _ in self.layer.named_parameters()]
        weights = {name: p.detach() for name, p in self.layer.named_parameters()}
        fixed = {name: b.detach() for name, b in self.layer.named_buffers()}
        rows = len(call.output_gradient)

        def follows(value: Any) -> bool:
            return isinstance(value, Tensor) and value.dim() > 0 and len(value) == rows

        moving = [value for value in (*call.args, *call.kwargs.values()) if follows(value)]

        def loss(weights: dict[str, Tensor], moved: list[Tensor], g: Tensor) -> Tensor:
            mine = iter(moved)
            args = tuple(next(mine)[None] if follows(v) else v for v in call.args)
            kwargs = {name: next(mine)[None] if follows(v) else v for name, v in call.kwargs.items()}
            out: Tensor = functional_call(self.layer, {**weights, **fixed}, args, kwargs)
            return (out.squeeze(0) * g).sum()

        gradients = vmap(grad(loss), in_dims=(None, 0, 0))(weights, moving, call.output_gradient)
        return [gradients[name] for name in names]
