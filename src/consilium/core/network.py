"""A torch module as a function of two flat vectors: its parameters and its buffers.

Algorithms, merges and engines see vectors only; nothing is shared between two sites because nothing is
mutated: :meth:`Network.logits` evaluates the module at the vectors it is given.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from functools import cached_property

import torch
from torch import Tensor, nn
from torch.func import functional_call

from .errors import Refused
from .workspace import Compute, Workspace, draws_nothing

__all__ = ["Network", "fill", "named_tensors"]


def named_tensors(module: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers by name, those too that a state dict leaves out: they were trained and merged."""
    return {**dict(module.named_parameters()), **dict(module.named_buffers())}


def fill(module: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Copy ``tensors`` into ``module``; refused unless all names and shapes are those of the module.

    Raises Refused: a name or a shape differs.
    """
    targets = named_tensors(module)
    if odd := sorted(targets.keys() ^ tensors.keys()):
        raise Refused(f"the tensors do not fit the module: {odd[0]} is in one of them alone")
    for name, tensor in tensors.items():
        if tensor.shape != targets[name].shape:
            shapes = tuple(tensor.shape), tuple(targets[name].shape)
            raise Refused(f"the tensors do not fit the module: {name} has shape {shapes[0]}, not {shapes[1]}")
    with torch.no_grad():
        for name, tensor in tensors.items():
            targets[name].copy_(tensor)


class Network:
    """Evaluates ``module`` at flat vectors; its own tensors serve as the template and are never changed.

    ``tokens`` is the size of the vocabulary where its inputs are ids of words, 0 where they are numbers in [0, 1].
    """

    def __init__(self, module: nn.Module, compute: Compute | None = None, tokens: int = 0) -> None:
        self.template = copy.deepcopy(module).eval().requires_grad_(False)
        self._parameters = [(name, p.shape) for name, p in self.template.named_parameters()]
        self._buffers = [(name, b.shape, b.dtype) for name, b in self.template.named_buffers()]
        self._sizes = [shape.numel() for _, shape in self._parameters]
        self._buffer_sizes = [shape.numel() for _, shape, _ in self._buffers]
        self.compute, self.tokens = compute or Compute(), tokens
        self.draws_nothing = draws_nothing(self.template)

    @cached_property
    def workspace(self) -> Workspace:
        """Where gradients of whole batches are computed."""
        return Workspace(self.template, self.compute)

    @property
    def size(self) -> int:
        """Number of parameters, d."""
        return sum(self._sizes)

    def start(self) -> tuple[Tensor, Tensor]:
        """The template's own parameters ``(d,)`` and buffers ``(b,)``, copied."""
        return self.flatten(self.template)

    def flatten(self, module: nn.Module) -> tuple[Tensor, Tensor]:
        """The parameters ``(d,)`` and buffers ``(b,)`` of a module of the same structure, copied."""
        params = [p.detach().reshape(-1) for _, p in module.named_parameters()]
        buffers = [b.detach().reshape(-1).float() for _, b in module.named_buffers()]
        device = next((p.device for p in params), None)
        empty = torch.zeros(0, device=device)
        return torch.cat([*params, empty]), torch.cat([*buffers, empty])

    def parameters_at(self, params: Tensor) -> dict[str, Tensor]:
        """Views of ``params (d,)`` under the module's names and shapes."""
        pieces = torch.split(params, self._sizes)
        return {name: piece.view(shape) for (name, shape), piece in zip(self._parameters, pieces, strict=True)}

    def buffers_at(self, buffers: Tensor) -> dict[str, Tensor]:
        """``buffers (b,)`` under the module's names and shapes: views where float, copies where integer."""
        pieces = torch.split(buffers, self._buffer_sizes) if self._buffers else ()
        return {
            name: piece.view(shape).to(dtype) for (name, shape, dtype), piece in zip(self._buffers, pieces, strict=True)
        }

    def logits(self, params: Tensor, buffers: Tensor, x: Tensor, *, training: bool = False) -> Tensor:
        """Logits ``(n, classes)`` of ``x (n, *shape)``.

        With ``training`` the module is in training mode and running statistics are updated **in** ``buffers``:
        hand in a copy to keep the old ones.
        """
        if not self._buffers:
            return self.logits_at(self.parameters_at(params), x, training=training)
        # Copies: autograd may keep what the module updates in place, and must not see it change again.
        named = self.buffers_at(buffers.clone() if training else buffers)
        out = self.logits_at({**self.parameters_at(params), **named}, x, training=training)
        if training:
            flat = torch.cat([named[name].reshape(-1).to(buffers.dtype) for name, *_ in self._buffers])
            buffers.copy_(flat.detach())
        return out

    def logits_at(self, tensors: dict[str, Tensor], x: Tensor, *, training: bool = False) -> Tensor:
        """Logits at named parameters and buffers, as ``parameters_at`` and ``buffers_at`` give them."""
        self.template.train(training)
        try:
            out: Tensor = functional_call(self.template, tensors, (x,))
        finally:
            self.template.eval()
        return out

    def module_at(self, params: Tensor, buffers: Tensor) -> nn.Module:
        """A separate, frozen module in evaluation mode that holds copies of these vectors."""
        module = copy.deepcopy(self.template)
        fill(module, {**self.parameters_at(params), **self.buffers_at(buffers)})
        return module.eval().requires_grad_(False)
