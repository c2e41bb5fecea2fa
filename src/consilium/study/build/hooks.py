"""What hangs on a module and would not run, or not as it does elsewhere: refused by name.

Forward hooks and backward hooks of layers run in every engine.  A hook on a parameter's gradient does not: sites train
at flat vectors, whose gradients are no parameter's own.
"""

from __future__ import annotations

import torch
from torch import nn

from .model_refusal import model_refusal

__all__ = ["check_hooks", "check_kinds"]


def check_kinds(module: nn.Module, trained: bool) -> None:
    """Refuse layers that torch itself treats apart: compiled to TorchScript, or with sparse gradients."""
    for path, layer in module.named_modules():
        name = f"layer {path}" if path else "the model"
        if isinstance(layer, torch.jit.ScriptModule):
            reason = f"{name} is a scripted or traced module (torch.jit), which cannot be copied and trained"
            raise model_refusal(reason, "give the eager module that it was made from")
        if trained and isinstance(layer, nn.Embedding | nn.EmbeddingBag) and layer.sparse:
            reason = f"{name} ({type(layer).__name__}) has sparse gradients, which are not merged, clipped or noised"
            raise model_refusal(reason, "set sparse=False")


def check_hooks(module: nn.Module) -> None:
    """Refuse hooks on the gradients of parameters."""
    for name, p in module.named_parameters():
        if p._backward_hooks or getattr(p, "_post_accumulate_grad_hooks", None):
            raise model_refusal(
                f"a hook on the gradient of {name} would never run",
                "do it in forward: multiply the weight by a mask that is a buffer, or scale it there",
            )
