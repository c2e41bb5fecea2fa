"""Frozen parts of a module: constants, which no training changes, no site sends and no noise is added to.

A parameter is frozen where its ``requires_grad`` is false, as everywhere in torch.  A layer is frozen where there are
parameters in it or below it, and every one of them is frozen: then its buffers are constants too, and it stays in
evaluation mode, so that a pre-trained BatchNorm keeps the statistics that it came with.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

from torch import Tensor, nn

__all__ = ["Adapter", "constant_buffers", "frozen_layers", "set_mode", "trained_parameters", "without_adapters"]


def trained_parameters(module: nn.Module) -> dict[str, nn.Parameter]:
    """Those that training changes, by name, in the order of ``module.parameters()``."""
    return {name: p for name, p in module.named_parameters() if p.requires_grad}


def frozen_layers(module: nn.Module) -> dict[str, nn.Module]:
    """Path and layer of all that is frozen, what is below a frozen layer included."""
    return dict(_frozen(module, ""))


def _frozen(module: nn.Module, path: str) -> Iterator[tuple[str, nn.Module]]:
    flags = [p.requires_grad for p in module.parameters()]
    if flags and not any(flags):
        yield from module.named_modules(prefix=path)
    elif not all(flags):
        for name, child in module.named_children():
            yield from _frozen(child, f"{path}.{name}" if path else name)


def constant_buffers(module: nn.Module) -> dict[str, Tensor]:
    """The buffers of frozen layers, by name."""
    layers = frozen_layers(module)
    return {name: b for name, b in module.named_buffers() if name.rpartition(".")[0] in layers}


def set_mode(module: nn.Module, training: bool, frozen: Collection[nn.Module]) -> None:
    """``module.train(training)``, with its ``frozen`` layers in evaluation mode."""
    module.train(training)
    if training:
        for layer in frozen:
            layer.training = False


class Adapter(nn.Module):
    """Base of layers with a trained addition, each of which is released as one ordinary layer."""

    def plain(self) -> nn.Module:
        """A layer of its own, without additions, that answers the same up to rounding."""
        raise NotImplementedError


def without_adapters(module: nn.Module) -> nn.Module:
    """``module``, changed in place, with the plain layer in the place of every adapter."""
    if isinstance(module, Adapter):
        return module.plain()
    plain = {layer: layer.plain() for layer in module.modules() if isinstance(layer, Adapter)}
    for parent in list(module.modules()):
        for name, child in list(parent._modules.items()):  # named_children would give a layer of two places once
            if isinstance(child, Adapter):
                setattr(parent, name, plain[child])
    return module
