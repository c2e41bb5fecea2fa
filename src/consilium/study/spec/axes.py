"""The table ``[vary]``: axes of choices, each a defence, several at once, an algorithm or a model."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from consilium.core.algorithm import Algorithm
from consilium.core.defence import Defence
from consilium.core.entry import Entry
from consilium.core.errors import Refused
from consilium.core.plain import Json

from .fine_tuning import ModelSpec, model_of
from .model_axis import is_model, of_models
from .spec import Choice
from .toml_binding import as_mapping, as_sequence, as_table, check_count, check_length, entry, plain_name, shown

__all__ = ["axes_of", "of_study"]

_MAX_ARMS = 4096
_LONGEST_AXIS = 50
_DEFENCES = (
    *("defend/data", "defend/training", "defend/update", "defend/merge"),
    *("defend/model", "defend/answer", "defend/detection"),
)


def axes_of(
    raw: object, finish: Callable[[tuple[Choice, ...], str], tuple[Choice, ...]]
) -> dict[str, tuple[Choice, ...]]:
    """The axes of defences, and at most one each of algorithms and of models.

    ``finish`` checks the choices of each, at its place.

    Raises Refused: an axis without a name, two axes of algorithms or of models, choices of one name, too many arms.
    """
    axes: dict[str, tuple[Choice, ...]] = {}
    arms = 1
    for axis, choices in as_mapping(raw, "vary").items():
        check_length(str(axis), _LONGEST_AXIS, "vary")
        if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_-]*", str(axis)):
            raise Refused(f"axis {shown(axis)} is not a name of letters, digits and dashes", where="vary")
        options = _choices(as_sequence(choices, f"vary.{axis}"), f"vary.{axis}")
        axes[axis] = finish(options, f"vary.{axis}")
        arms *= len(axes[axis])
    _one_axis("algorithms", [axis for axis, choices in axes.items() if any(c.algorithm for c in choices)])
    _one_axis("models", [axis for axis, choices in axes.items() if any(c.model for c in choices)])
    if arms > _MAX_ARMS:
        raise Refused(f"{arms} arms are more than {_MAX_ARMS}", remedy="vary fewer things at once", where="vary")
    _apart([c.label for choices in axes.values() for c in choices if c.label != "none"])
    return axes


def _one_axis(what: str, axes: Sequence[str]) -> None:
    if len(axes) > 1:
        raise Refused(f"a study has one axis of {what}", remedy=f"merge it into {axes[0]}", where=f"vary.{axes[1]}")


def of_study(algorithm: Algorithm, model: ModelSpec, choices: tuple[Choice, ...], where: str) -> tuple[Choice, ...]:
    """What the study itself has is the first choice of an axis of algorithms, or of models."""
    if any(choice.model is not None for choice in choices):
        return of_models(model, choices, where)
    return _of_algorithms(algorithm, choices, where)


def _of_algorithms(base: Algorithm, choices: tuple[Choice, ...], where: str) -> tuple[Choice, ...]:
    """An axis of algorithms begins with ``base``, the study's own, under its name; other axes stay as they are."""
    algorithms = [choice.algorithm for choice in choices[1:] if choice.algorithm is not None]
    if not algorithms:
        return choices
    if len(algorithms) < len(choices[1:]):
        raise Refused("an axis is of algorithms or of defences", remedy="give each an axis of its own", where=where)
    for choice in choices[1:]:
        if choice.algorithm == base and choice.label.partition("(")[0] != base.kind():
            reason = f"{choice.label!r} is the study's own algorithm, which an axis shows as {base.kind()!r}"
            raise Refused(reason, remedy="take it out, or its name", where=where)
    others = [choice for choice in choices[1:] if choice.algorithm != base]
    if base.kind() in [choice.label for choice in others]:
        remedy = 'give one of them a name = "..."'
        raise Refused(f"{base.kind()!r} is the study's own algorithm, with other knobs", remedy=remedy, where=where)
    return (Choice(base.kind()), *others)


def _apart(labels: list[str]) -> None:
    """An arm is named by its choices, so a choice has its name on one axis only."""
    again = [label for label, count in Counter(labels).items() if count > 1]
    if again:
        raise Refused(f"choice {again[0]!r} stands on two axes", remedy='give one another name = "..."', where="vary")


def _choices(raw: Sequence[object], where: str) -> tuple[Choice, ...]:
    """``none`` first, then each choice; choices of one kind are told apart by the knobs in which they differ."""
    check_count(raw, _MAX_ARMS, where)
    named: list[tuple[int, Choice]] = []
    unnamed: list[tuple[int, Choice]] = []
    for i, item in enumerate(raw):
        if item == "none":
            continue
        choice = _choice(item, f"{where}[{i}]")
        (named if choice.label else unnamed).append((i, choice))
    choices = [*named, *_with_labels(unnamed)]
    again = [label for label, count in Counter(c.label for _, c in choices).items() if count > 1]
    if again:
        raise Refused(f"choice {again[0]!r} stands twice", remedy="remove one or give it a name", where=where)
    return (Choice("none"), *(choice for _, choice in sorted(choices, key=lambda pair: pair[0])))


def _choice(item: object, where: str) -> Choice:
    """One choice: a defence, or a list of them; its label is the name that was given, or nothing."""
    items = item if isinstance(item, list | tuple) else [item]
    if not items:
        raise Refused("a choice names no defence", remedy='"none" is always a choice', where=where)
    places = [f"{where}[{j}]" if items is item else where for j in range(len(items))]
    tables = [as_table(one, at) for one, at in zip(items, places, strict=True)]
    names = [plain_name(t.pop("name"), "", at) for t, at in zip(tables, places, strict=True) if "name" in t]
    if len(names) > 1:
        raise Refused(f"one choice has {len(names)} names", remedy=f"keep {names[0]!r} alone", where=where)
    label = names[0] if names else ""
    if any(is_model(table) for table in tables):
        if len(tables) > 1:
            raise Refused("a model is a choice of its own", remedy="give it an axis of its own", where=where)
        return Choice(label, model=model_of(tables[0], places[0]))
    parts = [entry(t, at, *_DEFENCES, "federate/algorithms") for t, at in zip(tables, places, strict=True)]
    if isinstance(parts[0], Algorithm) and len(parts) == 1:
        return Choice(label, (), parts[0])
    defences = tuple(one for one in parts if isinstance(one, Defence))
    if len(defences) < len(parts):
        raise Refused("an algorithm is a choice of its own", remedy="give it an axis of its own", where=where)
    return Choice(label, defences)


def _with_labels(choices: Sequence[tuple[int, Choice]]) -> Iterator[tuple[int, Choice]]:
    """Label choices by their kinds, and those of the same kinds by the knobs in which they differ."""
    alike: dict[str, list[tuple[int, Choice]]] = {}
    for i, choice in choices:
        alike.setdefault("+".join(str(knobs["kind"]) for knobs in _knobs(choice)), []).append((i, choice))
    for label, group in alike.items():
        knobs = [{(j, k): v for j, table in enumerate(_knobs(c)) for k, v in table.items()} for _, c in group]
        everywhere = dict.fromkeys(at for one in knobs for at in one)
        differ = [at for at in everywhere if any(other.get(at) != knobs[0].get(at) for other in knobs)]
        for (i, choice), values in zip(group, knobs, strict=True):
            detail = ", ".join(f"{at[1]}={values[at]}" for at in differ if values.get(at) is not None)
            yield i, replace(choice, label=f"{label}({detail})" if detail else label)


def _knobs(choice: Choice) -> list[dict[str, Json]]:
    """The configurations of what a choice stands for."""
    if choice.model is not None:
        return [choice.model.knobs()]
    parts: tuple[Entry, ...] = choice.defences if choice.algorithm is None else (choice.algorithm,)
    return [part.configuration() for part in parts]
