"""A torch module as a function of two flat vectors: its trained parameters and its buffers.

Algorithms, merges and engines see vectors only; nothing is shared between two sites because nothing is
mutated: :meth:`Network.logits` evaluates the module at the vectors it is given.  Frozen parameters, and the buffers of
frozen layers (:mod:`.frozen`), are in neither vector: they are constants of the function.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from functools import cached_property

import torch
from torch import Tensor, nn
from torch.func import functional_call

from .errors import Refused
from .frozen import constant_buffers, frozen_layers, set_mode, trained_parameters, without_adapters
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
        self.template = copy.deepcopy(module).eval()
        self.frozen_layers = frozenset(frozen_layers(self.template))
        self._frozen = [layer for path, layer in self.template.named_modules() if path in self.frozen_layers]
        self._parameters = [(name, p.shape) for name, p in trained_parameters(self.template).items()]
        still = constant_buffers(self.template)
        self._buffers = [(name, b.shape, b.dtype) for name, b in self.template.named_buffers() if name not in still]
        self._sizes = [shape.numel() for _, shape in self._parameters]
        self._buffer_sizes = [shape.numel() for _, shape, _ in self._buffers]
        self.compute, self.tokens = compute or Compute(), tokens
        self.draws_nothing = draws_nothing(self.template)

    @cached_property
    def workspace(self) -> Workspace:
        """Where gradients of whole batches are computed."""
        return Workspace(self.template, self.compute)

    @cached_property
    def _still(self) -> Workspace:
        """Where inputs are crafted: no weight requires a gradient."""
        workspace = Workspace(self.template, self.compute)
        workspace.module.requires_grad_(False)
        return workspace

    def still_at(self, params: Tensor, buffers: Tensor) -> Callable[[Tensor], Tensor]:
        """x ``(n, *shape)`` -> logits ``(n, classes)`` in evaluation mode, differentiable in x alone.

        The same as :meth:`logits`, faster, until the next call of this method.
        """
        self._still.load(params, buffers, training=False)
        return self._still.followed

    @property
    def size(self) -> int:
        """Number of trained parameters, d."""
        return sum(self._sizes)

    @property
    def parameters(self) -> int:
        """Number of all parameters of the released model, frozen ones too."""
        return sum(p.numel() for p in self.module_at(*self.start()).parameters())

    @property
    def partly_frozen(self) -> bool:
        """Whether it has parameters that do not train."""
        return any(not p.requires_grad for p in self.template.parameters())

    @property
    def trained(self) -> tuple[str, ...]:
        """Names of the trained parameters, in the order of the vector."""
        return tuple(name for name, _ in self._parameters)

    @property
    def constants(self) -> dict[str, Tensor]:
        """The template's own tensors that are in neither vector, by name."""
        moving = {*self.trained, *(name for name, *_ in self._buffers)}
        return {name: t.detach() for name, t in named_tensors(self.template).items() if name not in moving}

    def start(self) -> tuple[Tensor, Tensor]:
        """The template's own parameters ``(d,)`` and buffers ``(b,)``, copied."""
        return self.flatten(self.template)

    def flatten(self, module: nn.Module) -> tuple[Tensor, Tensor]:
        """The trained parameters ``(d,)`` and buffers ``(b,)`` of a module of the same structure, copied."""
        tensors = named_tensors(module)
        params = [tensors[name].detach().reshape(-1) for name, _ in self._parameters]
        buffers = [tensors[name].detach().reshape(-1).float() for name, *_ in self._buffers]
        device = next((t.device for t in tensors.values()), None)
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

    def tensors_at(self, params: Tensor, buffers: Tensor) -> dict[str, Tensor]:
        """All tensors of the module under its names: these vectors', and the constants."""
        return {**self.constants, **self.parameters_at(params), **self.buffers_at(buffers)}

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
        set_mode(self.template, training, self._frozen)
        try:
            out: Tensor = functional_call(self.template, tensors, (x,))
        finally:
            self.template.eval()
        return out

    def sharing(self, other: Network) -> Network:
        """This network's own vectors with the constants of ``other``, which is of the same structure."""
        module = copy.deepcopy(self.template)
        fill(module, {**self.tensors_at(*self.start()), **other.constants})
        return Network(module, self.compute, self.tokens)

    def module_at(self, params: Tensor, buffers: Tensor) -> nn.Module:
        """What is released: a separate module in evaluation mode that holds copies of these vectors and the constants.

        Nothing of it requires a gradient, and adapters are merged into the layers that they were added to.
        """
        return without_adapters(self.copy_at(params, buffers)).eval().requires_grad_(False)

    def copy_at(self, params: Tensor, buffers: Tensor) -> nn.Module:
        """A separate copy of the module as it is trained, in evaluation mode, at these vectors."""
        module = copy.deepcopy(self.template)
        fill(module, self.tensors_at(params, buffers))
        return module.eval()
