"""Fine-pruning: the channels that clean records hardly use become 0, then the rest is trained on.

    channels in the order of their mean |activation| on public records, the least first; as many of them as
    leave  accuracy >= accuracy before - max-fall;  then SGD on public records, what was pruned stays 0

A backdoor sits where clean records leave room; fine-tuning moves what it shares with them.  Records are public (LAWS
10), so no epsilon is spent.  The number is found by bisection: so many channels fall within ``max-fall``, and one more
does not.  One channel of a layer stays at least.

Source: Liu et al. 2018, Fine-Pruning: Defending Against Backdooring Attacks on Deep Neural Networks, arXiv 1805.12185
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from consilium.core.entry import check, check_used
from consilium.core.random import Stream
from consilium.core.records import Records
from consilium.core.task import Task

from ._channels import Channels, channel_outputs, hidden_channels
from ._fine_tuning import PublicFineTuning, check_gradient
from ._pruned_within import Place, pruned_within
from ._repaired import Repaired

__all__ = ["FinePruning"]

_BATCH = 256


@dataclass(frozen=True)
class FinePruning(Repaired):
    """Prunes the channels that public records use least, up to a fall of accuracy, and fine-tunes the rest on them."""

    max_fall: float = 0.02
    """How far the accuracy on public records may fall by pruning, as a share of the records."""
    layers: Literal["last", "all"] = "last"
    """Whose channels are pruned: those of the last hidden layer, or of all of them."""
    fine_tune_steps: int = 100
    """Steps on the public slice after pruning; 0 prunes alone."""
    lr: float = 0.01
    """Learning rate of those steps."""

    def __post_init__(self) -> None:
        check(0 <= self.max_fall < 1, "max_fall", self.max_fall, "a share from 0, below 1")
        check(0 <= self.fine_tune_steps <= 1_000_000, "fine-tune-steps", self.fine_tune_steps, "0 to 1000000 steps")
        check(0 < self.lr < 100, "lr", self.lr, "a learning rate above 0 and below 100")
        check_used(self, "lr", self.fine_tune_steps > 0, "fine-tune-steps = 0")

    def fits_public(self) -> bool:
        """True: activity and accuracy are those of public records."""
        return True

    def trial(self, module: nn.Module, x: Tensor) -> nn.Module:
        """The same architecture; refused if there is no hidden layer, or fine-tuning finds no gradient."""
        hidden_channels(module, x, self.kind())
        if self.fine_tune_steps:
            check_gradient(copy.deepcopy(module).eval(), x, self.kind(), f"set {self.kind()}.fine-tune-steps = 0")
        return self.structure(module, x[:1])

    def apply(self, module: nn.Module, public: Records, stream: Stream, task: Task) -> nn.Module:
        """The pruned model, fine-tuned by SGD with momentum 0.9 on batches of 64 public records.

        Raises Unlawful: no public records (law 10).
        """
        self._require(public)
        layers = hidden_channels(module, public.x[:2], self.kind())
        order = _by_activity(module, layers[-1:] if self.layers == "last" else layers, public.x)
        pruned, trainable = pruned_within(module, order, public, task, self.max_fall)
        PublicFineTuning(self.kind(), self.fine_tune_steps, self.lr).run(pruned, public, stream, task, trainable)
        return pruned


def _by_activity(module: nn.Module, layers: Sequence[Channels], x: Tensor) -> list[Place]:
    """All channels but the most active one of each layer, the least active first, as shares of their layer's mean."""
    places: list[tuple[float, Place]] = []
    for channels, activity in zip(layers, _activities(module, layers, x), strict=True):
        share = activity / activity.mean().clamp_min(1e-12)
        ranked = activity.argsort(stable=True)[:-1].tolist()
        places += [(float(share[k]), (channels, k)) for k in ranked]
    return [place for _, place in sorted(places, key=lambda pair: pair[0])]


def _activities(module: nn.Module, layers: Sequence[Channels], x: Tensor) -> list[Tensor]:
    """The mean |activation| of every channel, ``(count,)`` for each layer.

    Of a layer whose activation is a function and no module, what is above 0 counts: the value before it is seen.
    """
    totals, places = [torch.zeros(c.count) for c in layers], [0] * len(layers)
    for part in torch.split(x, _BATCH):
        outputs = channel_outputs(module, layers, part)
        for i, channels in enumerate(layers):
            out = outputs[channels.layer]
            totals[i] += (out.abs() if channels.activation else out.clamp_min(0)).sum(1)
            places[i] += out.shape[1]
    return [total / count for total, count in zip(totals, places, strict=True)]
