"""Where a model starts and which of its parameters train: the knobs ``train`` and ``weights`` of every ``[model]``.

train = "all" | "head" | "norm" | ["layer", ...] | { lora = RANK, alpha = A }
weights = "FILE.safetensors" | "a study's folder" | "module:function"
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from consilium.core.entry import check
from consilium.core.errors import Refused
from consilium.core.plain import Json
from consilium.learn.architecture import Architecture

from .toml_binding import card_of, entry, place, refuse_unknown, shown

__all__ = ["FineTuning", "ModelSpec", "TrainedParts", "fine_tuning_of", "is_function", "model_of"]

_WORDS = ("all", "head", "norm")
_REMEDY = 'use "all", "head", "norm", a list of layers such as ["layer4", "fc"], or { lora = 8 }'
_MOST_LAYERS = 1000
_STARTS = ("train", "weights")
"""Knobs of every model that is trained, beside those of its kind."""


@dataclass(frozen=True)
class TrainedParts:
    """Which parameters train: all, those of the last layer, of normalisation layers, of ``layers``, or low-rank
    additions of ``rank`` to every linear and convolutional layer, scaled by ``alpha`` / rank (None: by one).
    """

    kind: Literal["all", "head", "norm", "layers", "lora"] = "all"
    layers: tuple[str, ...] = ()
    rank: int = 0
    alpha: float | None = None

    def configuration(self) -> Json:
        """As it is written in a study."""
        if self.kind == "layers":
            return list(self.layers)
        if self.kind == "lora":
            return {"lora": self.rank} | ({} if self.alpha is None else {"alpha": self.alpha})
        return self.kind

    @property
    def trains_head(self) -> bool:
        """Whether the last layer trains whatever it starts from."""
        return self.kind in ("all", "head", "lora")


@dataclass(frozen=True)
class FineTuning:
    """What trains, and the ``weights`` that it starts from (empty: those drawn by the seed)."""

    train: TrainedParts = field(default_factory=TrainedParts)
    weights: str = ""
    allow_code: bool = False

    def configuration(self) -> dict[str, Json]:
        """What a training depends on: the weights themselves are in the mark of the untrained model."""
        return {} if self.train == TrainedParts() else {"train": self.train.configuration()}


@dataclass(frozen=True)
class ModelSpec:
    """An architecture, where it starts and what of it trains."""

    architecture: Architecture
    fine_tuning: FineTuning = field(default_factory=FineTuning)

    def configuration(self) -> dict[str, Json]:
        """Canonical JSON."""
        start: dict[str, Json] = {"weights": self.fine_tuning.weights} if self.fine_tuning.weights else {}
        return {**self.architecture.configuration(), **self.fine_tuning.configuration(), **start}

    def knobs(self) -> dict[str, Json]:
        """The same, flat, to name it by what tells it from another."""
        configuration = self.configuration()
        train = configuration.get("train")
        return {**configuration, "train": None, **train} if isinstance(train, dict) else configuration


def model_of(table: Mapping[str, Any], where: str) -> ModelSpec:
    """The model that a table ``{ kind, knobs, train, weights }`` configures.

    Raises Refused: an unknown kind or knob, or a value that does not fit.
    """
    knobs, tuning = fine_tuning_of(table, where)
    card = card_of(knobs, where, "learn/models")
    if card.knobs and card.kind != "file":
        refuse_unknown([name for name in knobs if name != "kind"], [*card.knobs, *_STARTS], where, card.kind)
    architecture = entry(knobs, where, "learn/models")
    if architecture.kind() == "file" and tuning != FineTuning():
        raise Refused(
            "an existing model is attacked and measured, not trained",
            remedy='name its architecture by kind, and write weights = "FILE.safetensors" to start from it',
            where=place(where, "train" if tuning.train != TrainedParts() else "weights"),
        )
    return ModelSpec(architecture, tuning)


def fine_tuning_of(table: Mapping[str, Any], where: str) -> tuple[dict[str, Any], FineTuning]:
    """``table`` without the knobs of a fine-tuning, and those.

    Raises Refused: a value does not fit.
    """
    rest = dict(table)
    train = _parts(rest.pop("train", "all"), place(where, "train"))
    weights = rest.pop("weights", "")
    if not isinstance(weights, str) or ("weights" in table and not weights):
        remedy = 'write weights = "FILE.safetensors", the folder of a study, or "module:function"'
        raise Refused(f"{shown(weights)} names no weights", remedy=remedy, where=place(where, "weights"))
    has_knob = "allow-code" in card_of(rest, where, "learn/models").knobs
    allowed = rest.get("allow-code", False) if has_knob or not is_function(weights) else rest.pop("allow-code", False)
    if not isinstance(allowed, bool):
        raise Refused(f"{shown(allowed)} is not a bool", remedy="write true or false", where=place(where, "allow-code"))
    return rest, FineTuning(train, weights, allowed)


def is_function(weights: str) -> bool:
    """Whether ``weights`` names a function in a file of Python, and no file of tensors."""
    return re.fullmatch(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*", weights) is not None


def _parts(raw: object, where: str) -> TrainedParts:
    if isinstance(raw, str) and raw in _WORDS:
        return TrainedParts(raw)  # type: ignore[arg-type]
    if isinstance(raw, list | tuple) and 0 < len(raw) <= _MOST_LAYERS and all(isinstance(n, str) and n for n in raw):
        return TrainedParts("layers", tuple(raw))
    if isinstance(raw, Mapping):
        return _low_rank(raw, where)
    raise Refused(f"{shown(raw)} says not what trains", remedy=_REMEDY, where=where)


def _low_rank(raw: Mapping[str, Any], where: str) -> TrainedParts:
    refuse_unknown(raw, ("lora", "alpha"), where, "train")
    rank, alpha = raw.get("lora"), raw.get("alpha")
    if not isinstance(rank, int) or isinstance(rank, bool):
        raise Refused(f"{shown(rank)} is no rank", remedy="write a whole number, such as { lora = 8 }", where=where)
    if alpha is not None and (not isinstance(alpha, int | float) or isinstance(alpha, bool)):
        raise Refused(f"alpha = {shown(alpha)} is no number", remedy="write a number, such as 16.0", where=where)
    try:
        check(1 <= rank <= 65536, "lora", rank, "a rank of 1 to 65536")
        check(alpha is None or 1e-6 <= alpha <= 1e6, "alpha", alpha, "a number from 1e-6 to 1e6")
    except Refused as error:
        raise error.at(where) from None
    return TrainedParts("lora", (), rank, None if alpha is None else float(alpha))
