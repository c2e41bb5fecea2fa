"""What a site learns from: its records, or what a model's fixed front makes of them, computed once for all steps.

    with a front:  records -> front(records),  network -> the part behind the front;  the same vectors w and b

The front maps each record on its own (LAWS 9: nothing of the data is in it), so batches of cached features are batches
of records, and what one record can move is what it could move before.  An objective that changes inputs, as adversarial
training does, means raw inputs: then nothing is cached and every step evaluates the front.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor, nn

from consilium.core.front import behind
from consilium.core.gradient import Objective
from consilium.core.network import Network
from consilium.core.records import Records

__all__ = ["TrainingInputs", "features", "rehearsal", "training_inputs"]

_AT_ONCE = 256


class TrainingInputs(NamedTuple):
    """Records, and the network that learns from them."""

    records: Records
    network: Network


def training_inputs(records: Records, network: Network, objective: Objective) -> TrainingInputs:
    """As handed in, or with the front's work done."""
    parts = behind(network.template)
    if parts is None or not objective.plain:
        return TrainingInputs(records, network)
    front, rest = parts[0].eval(), parts[1]
    device = network.start()[0].device
    return TrainingInputs(replace(records, x=features(front, records.x, device)), Network(rest, network.compute))


def features(front: nn.Module, x: Tensor, device: torch.device) -> Tensor:
    """``front(x)`` ``(n, ...)`` on the records' device, computed on ``device`` a few records at a time."""
    with torch.no_grad():
        first = front(x[:_AT_ONCE].to(device)).to(x.device)
        out: Tensor = first.new_empty(len(x), *first.shape[1:])
        out[: len(first)] = first
        for start in range(_AT_ONCE, len(x), _AT_ONCE):
            part = slice(start, start + _AT_ONCE)
            out[part] = front(x[part].to(device)).to(x.device)
    return out


def rehearsal(records: Records, network: Network, objective: Objective, few: int = 32) -> tuple[TrainingInputs, float]:
    """Training inputs of the same cost, made of ``few`` records, and the seconds the front needs for all of them."""
    parts = behind(network.template)
    if parts is None or not objective.plain or not len(records):
        return TrainingInputs(records, network), 0.0
    some = records.select(torch.arange(min(few, len(records))))
    start = time.perf_counter()
    short = training_inputs(some, network, objective)
    each = (time.perf_counter() - start) / len(some)
    x = short.records.x[:1].expand(len(records), *short.records.x.shape[1:])
    return TrainingInputs(replace(records, x=x), short.network), each * len(records)
