"""An axis of models: arms whose architecture, start or trained parts differ, beside each other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from consilium.core.catalogue import cards
from consilium.core.errors import Refused

from .fine_tuning import ModelSpec
from .spec import Choice

__all__ = ["inheriting", "is_model", "of_models"]


_STARTS = frozenset({"train", "weights"})
"""Knobs of a model's start, which no defence and no algorithm has."""


def is_model(table: Mapping[str, Any]) -> bool:
    """Whether the kind of ``table`` is that of a model."""
    return table.get("kind") in {card.kind for card in cards("learn/models")}


def inheriting(vary: object, model: Mapping[str, Any]) -> object:
    """The table ``vary``; a choice that has no kind and says what trains has the rest from the study's ``model``."""
    if not isinstance(vary, Mapping):
        return vary

    def whole(choice: object) -> object:
        starts = isinstance(choice, Mapping) and "kind" not in choice and not choice.keys().isdisjoint(_STARTS)
        return {**model, **choice} if starts else choice  # type: ignore[dict-item]

    return {
        axis: [whole(choice) for choice in choices] if isinstance(choices, list | tuple) else choices
        for axis, choices in vary.items()
    }


def of_models(base: ModelSpec, choices: tuple[Choice, ...], where: str) -> tuple[Choice, ...]:
    """``choices`` behind ``base``, the study's own model, under the name of its kind.

    Raises Refused: a choice is no model, or a trained one.
    """
    if any(choice.model is None for choice in choices[1:]):
        raise Refused("an axis is of models or of defences", remedy="give each an axis of its own", where=where)
    name = base.architecture.kind()
    for choice in choices[1:]:
        if choice.model is not None and choice.model.architecture.kind() == "file":
            reason = f"{choice.label!r} is a trained model, and this study trains its models"
            raise Refused(reason, remedy="write a study of it alone", where=where)
        if choice.model == base and choice.label.partition("(")[0] != name:
            reason = f"{choice.label!r} is the study's own model, which an axis shows as {name!r}"
            raise Refused(reason, remedy="take it out, or its name", where=where)
    others = [choice for choice in choices[1:] if choice.model != base]
    return (Choice(name), *(_apart_from(base, choice, name) for choice in others))


def _apart_from(base: ModelSpec, choice: Choice, name: str) -> Choice:
    """``choice``, under the knobs in which it differs where its name is that of the study's own."""
    if choice.model is None or choice.label != name:
        return choice
    mine, others = base.knobs(), choice.model.knobs()
    differ = ", ".join(
        f"{knob}={value}" for knob, value in others.items() if value != mine.get(knob) and value is not None
    )
    return replace(choice, label=f"{name}({differ or 'other start'})")
