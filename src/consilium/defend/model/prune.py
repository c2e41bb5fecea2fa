"""Global magnitude pruning: the smallest weights of the whole model are set to zero, the rest fine-tuned.

Weight matrices and kernels share one threshold; biases and norms are not pruned.  Fine-tuning keeps the zeros and uses
public records alone (LAWS 10).  What is stored is the kept values and one bit per weight, so the artefact is really
smaller; it is not faster, because dense kernels multiply zeros too.

Source: Han et al. 2015, Learning both Weights and Connections for Efficient Neural Networks, arXiv 1506.02626
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from consilium.core.defence import ModelDefence
from consilium.core.entry import check, check_used
from consilium.core.errors import Failed, Refused, Unlawful
from consilium.core.random import Stream
from consilium.core.records import Records
from consilium.core.task import Task

from ._fine_tuning import PublicFineTuning, check_gradient
from ._sparse import pack_sparse, unpack_sparse, weights_of

__all__ = ["Prune"]


@dataclass(frozen=True)
class Prune(ModelDefence):
    """Zeroes the smallest weights of the model and fine-tunes the rest on the public slice; smaller, not faster."""

    sparsity: float = 0.9
    """Share of the weights that is set to 0."""
    fine_tune_steps: int = 100
    """Steps on the public slice after pruning; 0 needs no public records."""
    lr: float = 0.01
    """Learning rate of those steps."""

    def __post_init__(self) -> None:
        check(0 < self.sparsity < 1, "sparsity", self.sparsity, "a share between 0 and 1")
        check(0 <= self.fine_tune_steps <= 1_000_000, "fine-tune-steps", self.fine_tune_steps, "0 to 1000000 steps")
        check(0 < self.lr < 100, "lr", self.lr, "a learning rate above 0 and below 100")
        check_used(self, "lr", self.fine_tune_steps > 0, "fine-tune-steps = 0")

    def fits_public(self) -> bool:
        """True if it fine-tunes."""
        return self.fine_tune_steps > 0

    def apply(self, module: nn.Module, public: Records, stream: Stream, task: Task) -> nn.Module:
        """The pruned model, fine-tuned by SGD with momentum 0.9 on batches of 64 public records.

        Raises Unlawful: fine-tuning without public records (law 10).
        """
        if self.fine_tune_steps and not len(public):
            raise Unlawful(
                "prune has no public records to fine-tune on",
                law=10,
                remedy="set data.public above 0, or prune.fine-tune-steps = 0",
            )
        pruned = copy.deepcopy(module).eval().requires_grad_(False)
        masks = self._masks(pruned)
        for name, mask in masks.items():
            pruned.get_parameter(name).masked_fill_(~mask, 0)
        PublicFineTuning(self.kind(), self.fine_tune_steps, self.lr).run(pruned, public, stream, task, masks)
        return pruned

    def pack(self, module: nn.Module) -> dict[str, Tensor]:
        """``kept`` values, ``mask`` (one bit per weight, packed) and all other tensors end to end."""
        return pack_sparse(module)

    def structure(self, module: nn.Module, example: Tensor) -> nn.Module:
        """The same architecture."""
        return copy.deepcopy(module).eval().requires_grad_(False)

    def trial(self, module: nn.Module, x: Tensor) -> nn.Module:
        """The same architecture; refused if fine-tuning finds no gradient.

        Raises Refused: no gradient reaches the parameters.
        """
        if self.fine_tune_steps:
            check_gradient(copy.deepcopy(module).eval(), x, self.kind(), "set prune.fine-tune-steps = 0")
        return self.structure(module, x[:1])

    def unpack(self, module: nn.Module, artefact: Mapping[str, Tensor]) -> nn.Module:
        """The stored weights between their zeros."""
        return unpack_sparse(module, artefact)

    def surrogate(self, defended: nn.Module, before: nn.Module | None) -> nn.Module:
        """The pruned model itself: it has gradients."""
        return defended

    def _masks(self, module: nn.Module) -> dict[str, Tensor]:
        """Which weights stay, by parameter name: exactly the largest ``1 - sparsity`` of them all."""
        weights = dict(weights_of(module))
        if not weights:
            raise Refused("the model has no float weights to prune", remedy="put prune before static-int8")
        sizes = torch.cat([t.flatten().abs() for t in weights.values()])
        keep = torch.zeros_like(sizes, dtype=torch.bool)
        keep[sizes.topk(len(sizes) - round(self.sparsity * len(sizes))).indices] = True
        parts = torch.split(keep, [t.numel() for t in weights.values()])
        empty = next((name for name, part in zip(weights, parts, strict=True) if not part.any()), None)
        if empty is not None:
            raise Failed(
                f"pruning would leave {empty} without a weight, a constant model", remedy="lower prune.sparsity"
            )
        return {name: part.view(t.shape) for (name, t), part in zip(weights.items(), parts, strict=True)}
