"""Any other module: its own forward again, one row at a time by ``vmap``, differentiated in its parameters.

    G_n = d <f(a_n; theta), g_n> / d theta

This is exact for a module that depends on its row alone and draws nothing; the proof in ``route`` sees if it does not.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from .pieces import Formed
from .rule import Rule, Use, per_example

__all__ = ["AnyModuleRule"]


class AnyModuleRule(Rule):
    """A module with all that is below it."""

    @staticmethod
    def covers(layer: nn.Module) -> bool:  # noqa: ARG004
        """Whatever no other rule covers."""
        return True

    def owned(self) -> list[nn.Parameter]:
        """Those of the modules below too."""
        return list(self.layer.parameters())

    def piece(self, uses: Sequence[Use], n: int) -> Formed:
        """Gradients formed, added over rows and uses."""
        found = [self._rows(use) for use in uses]
        flat = [[rows.reshape(len(rows), -1) for rows in same] for same in zip(*found, strict=True)]
        return Formed([per_example(rows, n) for rows in flat])

    def _rows(self, use: Use) -> list[Tensor]:
        names = [name for name, _ in self.layer.named_parameters()]
        weights = {name: p.detach() for name, p in self.layer.named_parameters()}
        fixed = {name: b.detach() for name, b in self.layer.named_buffers()}
        rows = len(use.g)

        def follows(value: Any) -> bool:
            return isinstance(value, Tensor) and value.dim() > 0 and len(value) == rows

        moving = [value for value in (*use.args, *use.kwargs.values()) if follows(value)]

        def loss(weights: dict[str, Tensor], moved: list[Tensor], g: Tensor) -> Tensor:
            mine = iter(moved)
            args = tuple(next(mine)[None] if follows(v) else v for v in use.args)
            kwargs = {name: next(mine)[None] if follows(v) else v for name, v in use.kwargs.items()}
            out: Tensor = functional_call(self.layer, {**weights, **fixed}, args, kwargs)
            return (out.squeeze(0) * g).sum()

        found = vmap(grad(loss), in_dims=(None, 0, 0))(weights, moving, use.g)
        return [found[name] for name in names]
