"""From a study file to a :class:`~consilium.study.spec.spec.Spec`; what is wrong is one line that names the place."""

from __future__ import annotations

import errno
import math
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import fields, replace
from functools import partial
from pathlib import Path
from typing import Any

from consilium.core.algorithm import Algorithm
from consilium.core.attack import Attack
from consilium.core.catalogue import nearest
from consilium.core.defence import Defence
from consilium.core.entry import Entry
from consilium.core.errors import Refused
from consilium.core.plain import Json, read_toml
from consilium.core.threat import CanaryView
from consilium.learn.models.file import File

from .arms import arm_name
from .canary_spec import CanarySpec
from .data_table import division_of
from .federation_table import federation_of
from .fine_tuning import ModelSpec, model_of
from .model_axis import inheriting, is_model, of_models
from .spec import (
    JUDGED,
    AttackSpec,
    Choice,
    CorruptionSpec,
    Spec,
    StudyHead,
    Threshold,
    TrainedModelSpec,
    TrainingSpec,
)
from .thresholds import thresholds_of
from .toml_binding import as_mapping, as_table, check_length, entry, place, refuse_unknown, shown, value
from .trained_model import refuse_training, without_algorithms
from .unread_parameters import check_read

__all__ = ["parse", "read"]

_MAX_ARMS = 4096
_MAX_ADVERSARIES = 1000
_MAX_CELLS = 50_000
_LONGEST_LABEL = 80
_LONGEST_AXIS = 50
_DEFENCES = ("defend/data", "defend/training", "defend/update", "defend/merge", "defend/model", "defend/answer")
_ATTACKS = (
    "attack/evasion",
    "attack/membership",
    "attack/attribute",
    "attack/reconstruction",
    "attack/extraction",
    "attack/linkage",
)
_AUDIT = "one-run-audit"
_TABLES = ("data", "model", "federation", "vary", "attacks", "corruptions", "audit", "accept")


def read(path: Path) -> dict[str, Json]:
    """The tables of a study file.

    Raises Refused: the file cannot be read, is larger than 1 MB, or is not TOML.
    """
    try:
        return read_toml(path)
    except OSError as error:
        if error.errno == errno.EFBIG:
            raise Refused("a study file is at most 1 MB", where=str(path)) from None
        raise Refused(f"cannot read {path}: {error.strerror}", remedy="give the path of a study file") from None
    except ValueError as error:  # what tomllib and int() make of text that nobody vouches for
        reason = " ".join(str(error).split())
        raise Refused(f"not TOML: {reason}", remedy="see docs/how-to/write-a-study.md", where=str(path)) from None


def parse(tables: Mapping[str, Any]) -> Spec:
    """Resolve the tables of a study.

    Raises Refused: an unknown table or knob, or no name, data or model.
    """
    known = [*(f.name.replace("_", "-") for f in fields(StudyHead)), *_TABLES]
    for name in tables:
        if name not in known:
            raise Refused(f"a study has no {shown(name)}", remedy=nearest(str(name)[:80], known), where=place("", name))
    for name in ("name", "data", "model"):
        if name not in tables:
            raise Refused("missing", remedy=f"a study needs name, data and model; give {name}", where=name)
    head = value(StudyHead, {k: v for k, v in tables.items() if k not in _TABLES}, "")
    model = model_of(as_table(tables["model"], "model"), "model")
    if isinstance(model.architecture, File):
        return _of_trained_model(tables, head, model.architecture)
    return _of_training(tables, head, model)


def _of_training(tables: Mapping[str, Any], head: StudyHead, model: ModelSpec) -> TrainingSpec:
    federation = federation_of(as_table(tables.get("federation", "fed-avg"), "federation"))
    varied = inheriting(tables.get("vary", {}), as_table(tables["model"], "model"))
    vary = _axes(varied, partial(_of_study, federation.algorithm, model))
    check_read(as_table(tables.get("federation", "fed-avg"), "federation"), federation, vary)
    canaries = _canaries(as_mapping(tables["audit"], "audit")) if "audit" in tables else None
    corruptions = _corruptions(_sequence(tables.get("corruptions", ()), "corruptions"))
    attacks = _audited(_attacks(_sequence(tables.get("attacks", ()), "attacks"), vary), canaries)
    _limit_cells(len(head.seeds), vary, len(corruptions))
    return TrainingSpec(
        data=division_of(as_table(tables["data"], "data")),
        model=model.architecture,
        fine_tuning=model.fine_tuning,
        federation=federation,
        vary=vary,
        attacks=attacks,
        corruptions=corruptions,
        canaries=canaries,
        accept=_accepted(_sequence(tables.get("accept", ()), "accept"), vary, attacks, corruptions),
        given=dict(tables),
        **vars(head),
    )


def _of_trained_model(tables: Mapping[str, Any], head: StudyHead, model: File) -> TrainedModelSpec:
    refuse_training(tables, _sequence(tables.get("corruptions", ()), "corruptions"))
    vary = _axes(tables.get("vary", {}), without_algorithms)
    attacks = _audited(_attacks(_sequence(tables.get("attacks", ()), "attacks"), vary), None)
    _limit_cells(len(head.seeds), vary, 0)
    return TrainedModelSpec(
        data=division_of(as_table(tables["data"], "data")),
        model=model,
        vary=vary,
        attacks=attacks,
        accept=_accepted(_sequence(tables.get("accept", ()), "accept"), vary, attacks, ()),
        given=dict(tables),
        **vars(head),
    )


def _axes(
    raw: object, finish: Callable[[tuple[Choice, ...], str], tuple[Choice, ...]]
) -> dict[str, tuple[Choice, ...]]:
    """The axes of defences, and at most one each of algorithms and of models.

    ``finish`` checks the choices of each, at its place.
    """
    axes: dict[str, tuple[Choice, ...]] = {}
    arms = 1
    for axis, choices in as_mapping(raw, "vary").items():
        check_length(str(axis), _LONGEST_AXIS, "vary")
        if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_-]*", str(axis)):
            raise Refused(f"axis {shown(axis)} is not a name of letters, digits and dashes", where="vary")
        options = _choices(_sequence(choices, f"vary.{axis}"), f"vary.{axis}")
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


def _of_study(algorithm: Algorithm, model: ModelSpec, choices: tuple[Choice, ...], where: str) -> tuple[Choice, ...]:
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
    _limit(raw, _MAX_ARMS, where)
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
    names = [_name(t.pop("name"), "", at) for t, at in zip(tables, places, strict=True) if "name" in t]
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


def _attacks(raw: Sequence[object], vary: Mapping[str, tuple[Choice, ...]]) -> tuple[AttackSpec, ...]:
    _limit(raw, _MAX_ADVERSARIES, "attacks")
    specs = []
    for i, item in enumerate(raw):
        where = f"attacks[{i}]"
        table = as_table(item, where)
        name, origin = table.pop("name", None), table.pop("from", None)
        attack = entry(table, where, *_ATTACKS)
        if not isinstance(attack, Attack):
            raise Refused(f"{attack.kind()} is no attack on a trained model", where=f"{where}.kind")
        crosses = attack.threat.knowledge == "transfer"
        if crosses != (origin is not None):
            reason = "needs the arm it crafts on" if crosses else "crafts on the model itself and takes no other arm"
            raise Refused(
                f"{attack.kind()} {reason}", remedy='say from = { AXIS = "none", ... }', where=f"{where}.from"
            )
        source = None if origin is None else _arm(as_mapping(origin, f"{where}.from"), vary, f"{where}.from")
        specs.append(AttackSpec(_name(name, attack.kind(), where), attack, source))
        if specs[-1].name == JUDGED:
            reason = f"{JUDGED!r} names the file of the cell's own answers"
            raise Refused(reason, remedy="give the attack another name", where=f"{where}.name")
    _unique([a.name for a in specs], "attacks")
    return tuple(specs)


def _canaries(knobs: Mapping[str, Any]) -> CanarySpec:
    """The table ``[audit]``."""
    refuse_unknown(knobs, [f.name for f in fields(CanarySpec)], "audit", "audit")
    return value(CanarySpec, knobs, "audit")


def _audited(attacks: tuple[AttackSpec, ...], canaries: CanarySpec | None) -> tuple[AttackSpec, ...]:
    """Canaries are there to be guessed: where no attack does, the black-box one; and none guesses without them."""
    guess = [i for i, spec in enumerate(attacks) if spec.attack.needs is CanaryView]
    if guess and canaries is None:
        remedy = "write the table [audit] with the number of canaries"
        raise Refused(
            f"{attacks[guess[0]].name} needs an audit's canaries", remedy=remedy, where=f"attacks[{guess[0]}]"
        )
    if canaries is None or guess:
        return attacks
    added = AttackSpec(_AUDIT, entry({"kind": _AUDIT}, "audit", "attack/membership"))
    _unique([spec.name for spec in (*attacks, added)], "attacks")
    return (*attacks, added)


def _arm(origin: Mapping[str, Any], vary: Mapping[str, tuple[Choice, ...]], where: str) -> dict[str, str]:
    """One label per axis; an axis that is not named is its first choice; a kind stands for the one choice it begins."""
    for axis in origin:
        if axis not in vary:
            remedy = nearest(str(axis)[:80], list(vary)) if vary else "add it under [vary]"
            raise Refused(f"the study varies no {shown(axis)}", remedy=remedy, where=place(where, axis))
    labels = {}
    for axis, choices in vary.items():
        label = origin.get(axis, choices[0].label)
        matches = [c.label for c in choices if c.label == label or c.label.startswith(f"{label}(")]
        if len(matches) != 1:
            raise Refused(
                f"axis {axis} has no choice {shown(label)}",
                remedy=nearest(str(label)[:80], [c.label for c in choices]),
                where=f"{where}.{axis}",
            )
        labels[axis] = matches[0]
    return labels


def _accepted(
    raw: Sequence[object],
    vary: Mapping[str, tuple[Choice, ...]],
    attacks: Sequence[AttackSpec],
    corruptions: Sequence[CorruptionSpec],
) -> tuple[Threshold, ...]:
    """The tables ``[[accept]]``; an arm is named as in the report, or by its choices."""
    _limit(raw, _MAX_ADVERSARIES, "accept")
    origins = {i: one["arm"] for i, one in enumerate(raw) if isinstance(one, Mapping) and "arm" in one}
    named = {
        i: arm_name(list(_arm(origin, vary, f"accept[{i}].arm").values()))
        for i, origin in origins.items()
        if isinstance(origin, Mapping)
    }
    return thresholds_of(raw, named, vary, attacks, corruptions)


def _corruptions(raw: Sequence[object]) -> tuple[CorruptionSpec, ...]:
    _limit(raw, _MAX_ADVERSARIES, "corruptions")
    specs = []
    for i, item in enumerate(raw):
        where = f"corruptions[{i}]"
        table = as_table(item, where)
        name = table.pop("name", None)
        corruption = entry(table, where, "attack/poisoning")
        specs.append(CorruptionSpec(_name(name, corruption.kind(), where), corruption))
    _unique([c.name for c in specs], "corruptions")
    return tuple(specs)


def _name(name: object, kind: str, where: str) -> str:
    if name is None:
        return kind
    if isinstance(name, str):
        check_length(name, _LONGEST_LABEL, f"{where}.name")
    if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name) or name == "none":
        raise Refused(f"{shown(name)} is no name", remedy="use letters, digits, dots, dashes", where=f"{where}.name")
    return name


def _unique(names: list[str], where: str) -> None:
    again = [name for name, count in Counter(names).items() if count > 1]
    if again:
        raise Refused(
            f"two of them are called {again[0]!r}", remedy='give one another: name = "..."', where=f"{where}.name"
        )


def _sequence(raw: object, where: str) -> Sequence[object]:
    if not isinstance(raw, (list, tuple)):
        raise Refused(f"expected a list, got {shown(raw)}", remedy="write [ ... ] or [[...]]", where=where)
    return raw


def _limit_cells(seeds: int, vary: Mapping[str, Sequence[Choice]], corruptions: int) -> None:
    arms = math.prod(len(choices) for choices in vary.values())
    if (cells := seeds * arms * (1 + corruptions)) > _MAX_CELLS:
        raise Refused(
            f"{seeds} seeds x {arms} arms x {1 + corruptions} infections are {cells} models, more than {_MAX_CELLS}",
            remedy="use fewer seeds or choices, or split the study",
        )


def _limit(raw: Sequence[object], most: int, where: str) -> None:
    if len(raw) > most:
        raise Refused(f"{len(raw)} are more than {most}", remedy="split the study", where=where)
