"""The model that a training begins with: built, filled with the weights that it starts from, and partly frozen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn

from consilium.core.errors import Refused
from consilium.core.network import Network
from consilium.core.random import Stream, scoped
from consilium.learn.fine_tuning.low_rank import LowRank, with_low_rank
from consilium.learn.fine_tuning.trained_parts import freeze_all_but, head_of, named_parts, normalisation_parts
from consilium.study.spec.fine_tuning import FineTuning, ModelSpec, TrainedParts

from .probe import built
from .stored_weights import fill_from, other_classes, stored_weights, weights_recipe

__all__ = ["ModelStart", "model_start", "trained_note"]


@dataclass(frozen=True, eq=False)
class ModelStart:
    """``module`` without additions, its ``head`` where that matters, and notes on its weights for every reader."""

    module: nn.Module
    tuning: FineTuning
    head: str = ""
    notes: tuple[str, ...] = ()

    def adapted(self, stream: Stream) -> nn.Module | None:
        """``module``, changed in place, with its low-rank additions, drawn from ``stream``; None if it has none."""
        train = self.tuning.train
        if train.kind != "lora":
            return None
        with scoped(stream):
            return with_low_rank(self.module, train.rank, train.alpha, self.head)


def model_start(
    model: ModelSpec,
    shape: tuple[int, ...],
    outputs: int,
    stream: Stream,
    tokens: int = 0,
    classes: Sequence[str] = (),
) -> ModelStart:
    """The module of ``model`` for inputs of ``shape`` and so many ``outputs``; the seed's draws come from ``stream``.

    A head that was trained for other ``classes`` is not taken over, also where it has as many outputs.

    Raises Refused: it cannot be built, the weights do not fit it, or what is to train is not there.
    """
    module, tuning = built(model.architecture, shape, outputs, stream, tokens), model.fine_tuning
    if tuning == FineTuning():
        return ModelStart(module, tuning)
    head = head_of(module, shape, tokens) if tuning.weights or tuning.train.kind in ("head", "lora") else ""
    if tuning.train.kind in ("head", "lora"):
        _refuse_frozen(module, head)
    notes, fresh = _weighted(module, tuning, head, classes)
    train = tuning.train
    if train.kind in ("head", "norm", "layers"):
        freeze_all_but(module, _trained(module, train, head, fresh))
    return ModelStart(module, tuning, head, notes)


def _refuse_frozen(module: nn.Module, head: str) -> None:
    """A module's own ``requires_grad = False`` is respected, and a head that does not train is none."""
    frozen = [name for name, p in module.get_submodule(head).named_parameters() if not p.requires_grad]
    if frozen:
        raise Refused(
            f"the model freezes {head}.{frozen[0]} itself (requires_grad = False), and {head} is the head that trains",
            remedy=f'leave the head unfrozen in the module, or name what is to train: train = ["{head}"]',
            where="model.train",
        )


def _weighted(
    module: nn.Module, tuning: FineTuning, head: str, classes: Sequence[str]
) -> tuple[tuple[str, ...], set[str]]:
    """Notes on the weights, and the parameters that keep what was drawn."""
    if not tuning.weights:
        return (), set()
    stored, names = (
        stored_weights(tuning),
        {f"{head}.{name}" for name, _ in module.get_submodule(head).named_parameters()},
    )
    lines = fill_from(module, stored, frozenset(names), other_classes(weights_recipe(tuning), classes))
    fresh = {line.partition(" ")[0] for line in lines}
    note = (
        f"the model starts from {stored.origin}; a claim of differential privacy does not cover the records that these "
        "weights were trained on"
    )
    anew = f"the head {head} is drawn anew: {', '.join(lines)}"
    return ((note, anew) if lines else (note,)), fresh


def _trained(module: nn.Module, train: TrainedParts, head: str, fresh: set[str]) -> set[str]:
    """The parameters that train.

    Raises Refused: one that the weights lack does not.
    """
    if train.kind == "head":
        return named_parts(module, [head])
    parts = normalisation_parts(module) | fresh if train.kind == "norm" else named_parts(module, train.layers)
    if fresh - parts:
        raise Refused(
            f"the weights do not fit {min(fresh)}, and it does not train: the model would answer from random numbers",
            remedy=f"add {head!r} to train",
            where="model.train",
        )
    return parts


def trained_note(net: Network) -> tuple[str, ...]:
    """How many parameters train, where not all do."""
    if not net.partly_frozen:
        return ()
    sizes = f"trains {net.size:,} of {net.parameters:,} parameters"
    added = [path for path, layer in net.template.named_modules() if isinstance(layer, LowRank)]
    if added:
        sizes = (
            f"trains {net.size:,} parameters beside {net.parameters:,}: the head, and additions to {', '.join(added)}"
        )
    return (f"{sizes}; the others are constants, neither sent nor noised",)
